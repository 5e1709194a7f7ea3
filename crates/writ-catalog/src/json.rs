//! JSON (RFC 8259) read in the one way that every reader shares.
//!
//! Readers differ in which of two equal names counts, in what they make of a byte order mark, of a name that ends at NUL, of
//! a number beyond 53 bits, and of names that differ in case only. What could be read differently is refused; what no
//! argument asks for is only checked.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use writ_core::argument::INTEGER_MAX;
use writ_core::{Argument, Reason};
use writ_gate::limits::JSON_DEPTH_MAX;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Boolean(bool),
    /// A whole number, written without fraction and exponent, that every reader reads alike.
    Integer(i64),
    /// Any other number.
    Number,
    Text(String),
    List(Vec<Json>),
    Object(Object),
}

/// The members of an object by name.
pub(crate) type Object = BTreeMap<String, Json>;

impl Json {
    /// Reads a document.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let text = std::str::from_utf8(bytes).map_err(|_| Reason::AmbiguousRequest)?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let value = Nested(JSON_DEPTH_MAX).deserialize(&mut reader).map_err(|_| Reason::AmbiguousRequest)?;
        reader.end().map_err(|_| Reason::AmbiguousRequest)?;
        Ok(value)
    }

    /// The value that the tokens of a pointer lead to. An error if some reader would find another one, or if the way there
    /// is blocked by a value of another type.
    pub(crate) fn at(&self, tokens: &[String]) -> Result<Option<&Self>, Reason> {
        let mut value = self;
        for token in tokens {
            let next = match value {
                Self::Object(object) => member(object, token)?,
                Self::List(items) => index(token).and_then(|n| items.get(n)),
                Self::Null | Self::Boolean(_) | Self::Integer(_) | Self::Number | Self::Text(_) => {
                    return Err(Reason::ArgumentRefused);
                }
            };
            let Some(next) = next else { return Ok(None) };
            value = next;
        }
        Ok(Some(value))
    }

    /// The value as an argument, if it is of a type that one may have.
    pub(crate) fn argument(&self) -> Option<Argument> {
        match self {
            Self::Boolean(value) => Some(Argument::Boolean(*value)),
            Self::Integer(number) => Argument::integer(*number),
            Self::Text(text) => Some(text.as_str().into()),
            Self::List(items) => {
                let text = |item: &Self| if let Self::Text(text) = item { Some(text.clone()) } else { None };
                items.iter().map(text).collect::<Option<_>>().map(Argument::Strings)
            }
            Self::Null | Self::Number | Self::Object(_) => None,
        }
    }
}

/// The member of this name. Some readers do not tell upper and lower case apart, so no other name may be equal but for it.
pub(crate) fn member<'j>(object: &'j Object, name: &str) -> Result<Option<&'j Json>, Reason> {
    let folded = fold(name);
    let near = |other: &&String| other.as_str() != name && fold(other) == folded;
    if object.keys().any(|other| near(&other)) { Err(Reason::AmbiguousRequest) } else { Ok(object.get(name)) }
}

/// The text without regard to case.
pub(crate) fn fold(text: &str) -> String {
    text.to_uppercase().to_lowercase()
}

/// RFC 6901 section 4: digits without a zero before them.
pub(crate) fn index(token: &str) -> Option<usize> {
    let plain = token.bytes().all(|b| b.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    if plain { token.parse().ok() } else { None }
}

/// Reads a value in which this many more may be within each other.
#[derive(Clone, Copy)]
struct Nested(usize);

impl Nested {
    fn below<E: Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Json, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Boolean(value))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Json, E> {
        Ok(exact(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Json, E> {
        Ok(i64::try_from(number).map_or(Json::Number, exact))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        whole(text.to_owned()).map(Json::Text)
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Json, E> {
        whole(text).map(Json::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let (below, mut list) = (self.below()?, Vec::new());
        while let Some(item) = items.next_element_seed(below)? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let (below, mut object) = (self.below()?, Object::new());
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(below)?;
            match object.entry(whole(name)?) {
                Entry::Vacant(place) => drop(place.insert(value)),
                Entry::Occupied(_) => return Err(A::Error::custom("a name stands twice")),
            }
        }
        Ok(Json::Object(object))
    }
}

fn exact(number: i64) -> Json {
    if number.unsigned_abs() <= INTEGER_MAX.unsigned_abs() { Json::Integer(number) } else { Json::Number }
}

/// Text that no reader takes to end before its end.
fn whole<E: Error>(text: String) -> Result<String, E> {
    if text.contains('\0') { Err(E::custom("a text holds NUL")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use writ_core::argument::Pointer;

    use super::*;

    fn at(json: &str, pointer: &str) -> Result<Option<Argument>, Reason> {
        let (json, pointer) = (Json::parse(json.as_bytes())?, pointer.parse::<Pointer>().unwrap());
        match json.at(pointer.tokens())? {
            Some(value) => value.argument().map(Some).ok_or(Reason::ArgumentRefused),
            None => Ok(None),
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let deep = format!("{}1{}", "[".repeat(JSON_DEPTH_MAX + 1), "]".repeat(JSON_DEPTH_MAX + 1));
        let very_deep = "[".repeat(100_000);
        for json in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":[{"b":1,"b":2}]}"#,
            "\u{feff}{}",
            r#""\ud800""#,
            r#""\udc00\ud800""#,
            r#"{"a\u0000b":1}"#,
            r#"["\u0000"]"#,
            "NaN",
            "[Infinity]",
            "[1e400]",
            "01",
            "+1",
            ".5",
            "0x1",
            "'a'",
            "{a:1}",
            "[1,]",
            "{\"a\":1,}",
            "// c\n1",
            "1 2",
            "{}{}",
            "",
            " ",
            "\"\t\"",
            "\u{a0}1",
            &deep,
            &very_deep,
        ] {
            assert_eq!(Json::parse(json.as_bytes()), Err(Reason::AmbiguousRequest), "{json:.40}");
        }
        for bytes in [&b"\"\xff\""[..], b"\"\xc0\xaf\"", b"\"\xed\xa0\x80\"", b"\xfe\xff\0{\0}"] {
            assert_eq!(Json::parse(bytes), Err(Reason::AmbiguousRequest), "{bytes:?}");
        }
    }

    #[test]
    fn depth_up_to_the_limit_is_read() {
        let deep = format!("{}1{}", "[".repeat(JSON_DEPTH_MAX), "]".repeat(JSON_DEPTH_MAX));
        assert!(Json::parse(deep.as_bytes()).is_ok());
    }

    #[test]
    fn names_that_differ_in_case_only_are_ambiguous_where_an_argument_is_read() {
        for json in
            [r#"{"draft":true,"Draft":false}"#, r#"{"DRAFT":false}"#, r#"{"draft":true,"DRAFT":null}"#]
        {
            assert_eq!(at(json, "/draft"), Err(Reason::AmbiguousRequest), "{json}");
            assert!(at(json, "/other").is_ok());
        }
        // Go takes these for `s` and `k`.
        assert_eq!(at(r#"{"la\u017ft":1}"#, "/last"), Err(Reason::AmbiguousRequest));
        assert_eq!(at(r#"{"\u212aey":1}"#, "/key"), Err(Reason::AmbiguousRequest));
    }

    #[test]
    fn numbers_are_whole_exact_and_written_so() {
        for (json, number) in [("0", 0), ("-7", -7), ("9007199254740991", INTEGER_MAX)] {
            assert_eq!(at(&format!("[{json}]"), "/0"), Ok(Some(Argument::Integer(number))));
        }
        for json in ["1.0", "1e3", "-0", "9007199254740992", "-9007199254740992", "18446744073709551616"] {
            assert_eq!(at(&format!("[{json}]"), "/0"), Err(Reason::ArgumentRefused), "{json}");
        }
    }

    #[test]
    fn pointers_lead_where_rfc_6901_says() {
        let json = r#"{"a":{"b":["x",{"c/d":true}],"":"e"},"m~n":"t","n":null}"#;
        for (pointer, found) in [
            ("/a/b/0", Ok(Some("x".into()))),
            ("/a/b/1/c~1d", Ok(Some(Argument::Boolean(true)))),
            ("/a/", Ok(Some("e".into()))),
            ("/m~0n", Ok(Some("t".into()))),
            ("/a/b/2", Ok(None)),
            ("/a/b/00", Ok(None)),
            ("/a/b/+1", Ok(None)),
            ("/a/x/y", Ok(None)),
            ("/a/b", Err(Reason::ArgumentRefused)),
            ("/n", Err(Reason::ArgumentRefused)),
            ("/m~0n/x", Err(Reason::ArgumentRefused)),
            ("/n/x", Err(Reason::ArgumentRefused)),
        ] {
            assert_eq!(at(json, pointer), found, "{pointer}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let number = prop_oneof![any::<i64>(), -3..3i64, (1i64 << 53) - 2..(1i64 << 53) + 2];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            number.prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-cA-C\\u{e9}\"\\\\/~\n]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec("[a-c]{0,2}".prop_map(Value::from), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c0/~]{0,2}", inner, 0..5)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    /// What an independent reader makes of an argument.
    fn seen(value: &Value) -> Option<Argument> {
        match value {
            Value::String(text) => Some(text.as_str().into()),
            Value::Bool(value) => Some(Argument::Boolean(*value)),
            Value::Number(number) => number.as_i64().and_then(Argument::integer),
            Value::Array(items) => {
                let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
                texts.collect::<Option<_>>().map(Argument::Strings)
            }
            Value::Null | Value::Object(_) => None,
        }
    }

    proptest! {
        #[test]
        fn an_argument_is_what_an_independent_reader_sees(
            value in value(),
            pointer in "(/([a-c0-2]|~0|~1){0,2}){1,4}",
            pretty in any::<bool>(),
        ) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.unwrap();
            let read = Json::parse(text.as_bytes()).unwrap();
            let (place, theirs) = (pointer.parse::<Pointer>().unwrap(), value.pointer(&pointer));
            if let Ok(ours) = read.at(place.tokens()) {
                prop_assert_eq!(ours.is_some(), theirs.is_some());
                prop_assert_eq!(ours.and_then(Json::argument), theirs.and_then(seen));
            } else {
                prop_assert_eq!(theirs, None);
            }
        }

        #[test]
        fn whatever_is_sent_nothing_panics_and_what_is_read_others_read_too(bytes in "[{}\\[\\],:\"a1\\\\u0 .eE+-]{0,40}") {
            if Json::parse(bytes.as_bytes()).is_ok() {
                prop_assert!(serde_json::from_str::<Value>(&bytes).is_ok());
            }
        }
    }
}
