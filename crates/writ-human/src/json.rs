//! JSON from outside, strictly: a member that stands twice is refused at every level (RFC 7515, section 4; RFC 7519,
//! section 4), because two readers may take different ones.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A JSON object without duplicate members.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object(Map<String, Value>);

impl Object {
    /// Parses the bytes; `None` unless they are one object and nothing more.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        match serde_json::from_slice::<Unique>(bytes).ok()?.0 {
            Value::Object(members) => Some(Self(members)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
        }
    }

    /// The object in a value.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        value.as_object().map(|members| Self(members.clone()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter()
    }

    /// The texts of a list, or the one text that stands in its place; `None` if it is neither.
    pub(crate) fn texts(&self, name: &str) -> Option<Vec<&str>> {
        texts(self.get(name)?)
    }

    /// By name, or by a path with dots if no member has that name.
    pub(crate) fn path(&self, path: &str) -> Option<&Value> {
        if let Some(value) = self.get(path) {
            return Some(value);
        }
        let mut parts = path.split('.');
        let mut value = self.get(parts.next()?)?;
        for part in parts {
            value = value.as_object()?.get(part)?;
        }
        Some(value)
    }
}

/// The texts of a list, or the one text; `None` if it is neither.
pub(crate) fn texts(value: &Value) -> Option<Vec<&str>> {
    if let Some(text) = value.as_str() {
        return Some(vec![text]);
    }
    value.as_array()?.iter().map(Value::as_str).collect()
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Unique(value))) = members.next_entry::<String, Unique>()? {
            if object.insert(name, value).is_some() {
                return Err(de::Error::custom("a member stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stands_twice_is_refused_at_every_level() {
        let object = Object::parse(br#"{"a":1,"b":{"c":["x",null,1.5,-2,true]}}"#).unwrap();
        assert!(object.path("b.c").is_some_and(Value::is_array));
        for bad in [
            &br#"{"a":1,"a":2}"#[..],
            br#"{"a":{"b":1,"b":1}}"#,
            br#"{"a":1,"\u0061":2}"#,
            br#"[{"a":1,"a":2}]"#,
            br#"{"a":1}x"#,
            br#"{"a":1"#,
            b"\"a\"",
            b"",
        ] {
            assert_eq!(Object::parse(bad), None);
        }
        let deep = "[".repeat(10_000);
        assert_eq!(Object::parse(deep.as_bytes()), None);
    }

    #[test]
    fn one_text_reads_as_a_list_of_one() {
        let object = Object::parse(br#"{"a":"x","b":["y","z"],"c":["y",1],"d":7}"#).unwrap();
        assert_eq!(object.texts("a"), Some(vec!["x"]));
        assert_eq!(object.texts("b"), Some(vec!["y", "z"]));
        assert_eq!((object.texts("c"), object.texts("d")), (None, None));
    }
}
