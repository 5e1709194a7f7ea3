//! JSON that says everything once: a member that stands twice in an object is an error at any depth, so that two
//! readers can never see two documents in one text.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::Invalid;

/// Reads one whole document.
pub(crate) fn read(text: &[u8]) -> Result<Value, Invalid> {
    let mut doubled = None;
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Once { doubled: &mut doubled }.deserialize(&mut reader);
    match (value, doubled) {
        (_, Some(name)) => Err(Invalid::Duplicate(name)),
        (Ok(value), None) if reader.end().is_ok() => Ok(value),
        (Ok(_) | Err(_), None) => Err(Invalid::Malformed("not JSON")),
    }
}

/// Reads one whole document that is an object.
pub(crate) fn object(text: &[u8]) -> Result<Map<String, Value>, Invalid> {
    match read(text)? {
        Value::Object(map) => Ok(map),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Invalid::Malformed("not a JSON object"))
        }
    }
}

struct Once<'a> {
    doubled: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Once<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Once { doubled: &mut *self.doubled })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Once { doubled: &mut *self.doubled })?;
            if map.contains_key(&name) {
                *self.doubled = Some(name);
                return Err(serde::de::Error::custom("twice"));
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stands_twice_is_refused_at_any_depth() {
        assert_eq!(read(br#"{"a":1,"b":[{"c":null}]}"#).unwrap()["b"][0]["c"], Value::Null);
        for twice in [r#"{"a":1,"a":1}"#, r#"{"x":[{"y":{"a":1,"\u0061":2}}]}"#] {
            assert_eq!(read(twice.as_bytes()), Err(Invalid::Duplicate("a".to_owned())), "{twice}");
        }
        for bad in ["", "{}{}", "{", "[1,]", "{\"a\":NaN}", "\u{feff}{}"] {
            assert_eq!(read(bad.as_bytes()), Err(Invalid::Malformed("not JSON")), "{bad}");
        }
        assert!(object(b"[]").is_err());
        assert!(read("[".repeat(100_000).as_bytes()).is_err());
    }
}
