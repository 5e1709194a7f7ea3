//! Arguments of operations: what a request says about what it does, typed, so that policies can ask for it and records
//! show it.
//!
//! Where an argument is found in a request is an [`ArgumentRule`]; reading it there is `writ-catalog`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest whole number, and the smallest without its sign, that every reader of JSON reads alike (RFC 8259 section
/// 6, RFC 7493 section 2.2). No argument is beyond it, so that a service cannot mean another number than the policy did.
pub const INTEGER_MAX: i64 = (1 << 53) - 1;

/// Arguments by name.
pub type Arguments = BTreeMap<String, Argument>;

/// The value of an argument. Serialised as the plain JSON value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Argument {
    /// Text.
    String(String),
    /// A whole number within [`INTEGER_MAX`].
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// Texts in no order, each once.
    Strings(BTreeSet<String>),
}

impl Argument {
    /// Its type.
    pub const fn kind(&self) -> ArgumentKind {
        match self {
            Self::String(_) => ArgumentKind::String,
            Self::Integer(_) => ArgumentKind::Integer,
            Self::Boolean(_) => ArgumentKind::Boolean,
            Self::Strings(_) => ArgumentKind::Strings,
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Integer(_) | Self::Boolean(_) | Self::Strings(_) => None,
        }
    }

    /// The number, if every reader of JSON reads it alike.
    pub fn integer(number: i64) -> Option<Self> {
        (number.unsigned_abs() <= INTEGER_MAX.unsigned_abs()).then_some(Self::Integer(number))
    }
}

impl From<&str> for Argument {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Argument {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

/// As JSON.
impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        serde_json::to_string(self).map_err(|_| fmt::Error)?.fmt(f)
    }
}

impl Serialize for Argument {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::String(text) => s.serialize_str(text),
            Self::Integer(number) => s.serialize_i64(*number),
            Self::Boolean(value) => s.serialize_bool(*value),
            Self::Strings(texts) => s.collect_seq(texts),
        }
    }
}

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Plain;

        impl<'de> Visitor<'de> for Plain {
            type Value = Argument;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a whole number, `true`, `false` or a list of texts")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Argument, E> {
                Ok(text.into())
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Argument, E> {
                Ok(Argument::Boolean(value))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Argument, E> {
                Argument::integer(number).ok_or_else(|| E::custom("the number is out of range"))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Argument, E> {
                let number = i64::try_from(number).ok().and_then(Argument::integer);
                number.ok_or_else(|| E::custom("the number is out of range"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Argument, A::Error> {
                let mut texts = BTreeSet::new();
                while let Some(text) = items.next_element::<String>()? {
                    if !texts.insert(text) {
                        return Err(A::Error::custom("a text stands in the set twice"));
                    }
                }
                Ok(Argument::Strings(texts))
            }
        }

        d.deserialize_any(Plain)
    }
}

/// The type of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArgumentKind {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// A set of texts.
    Strings,
}

impl ArgumentKind {
    /// Every type.
    pub const ALL: [Self; 4] = [Self::String, Self::Integer, Self::Boolean, Self::Strings];

    /// The word in service files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Strings => "strings",
        }
    }
}

/// Where an operation finds one of its arguments, besides its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgumentRule {
    /// Where.
    pub source: ArgumentSource,
    /// Of which type it must be.
    pub kind: ArgumentKind,
    /// Whether a request without it is refused.
    pub required: bool,
}

/// As it is written in a service file: `body:/title string`.
impl fmt::Display for ArgumentRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.required { "" } else { "?" };
        write!(f, "{} {}{mark}", self.source, self.kind.as_str())
    }
}

/// A part of a request that an argument is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArgumentSource {
    /// The query parameter of this name.
    Query(String),
    /// The header of this name, in lower case.
    Header(String),
    /// The header of this name, in lower case, read as a path is, without a slash at its beginning.
    HeaderPath(String),
    /// The value at this place of the JSON body.
    Body(Pointer),
    /// The names of the members of the object at this place of the JSON body.
    Keys(Pointer),
    /// The value at this place of the arguments of the GraphQL root field.
    Graphql(Pointer),
    /// The value at this place of what an MCP request is about: the arguments of a tool or prompt, the `params` of others.
    Mcp(Pointer),
    /// The field of this name of a form; of all `NAME.1`, `NAME.2` and so on if it is a set.
    Form(String),
    /// The commands of a git push.
    Push(Pushed),
}

impl ArgumentSource {
    /// Whether it is in the body. A form is the query of a `GET`.
    pub const fn in_body(&self) -> bool {
        match self {
            Self::Query(_) | Self::Header(_) | Self::HeaderPath(_) => false,
            Self::Body(_)
            | Self::Keys(_)
            | Self::Graphql(_)
            | Self::Mcp(_)
            | Self::Form(_)
            | Self::Push(_) => true,
        }
    }
}

/// What is read of the commands of a git push: names of references.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// All that it changes.
    Refs,
    /// Those that it makes.
    Creates,
    /// Those that it deletes.
    Deletes,
}

impl Pushed {
    /// Every part.
    pub const ALL: [Self; 3] = [Self::Refs, Self::Creates, Self::Deletes];

    /// The word in service files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refs => "refs",
            Self::Creates => "creates",
            Self::Deletes => "deletes",
        }
    }
}

impl fmt::Display for ArgumentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::HeaderPath(name) => write!(f, "header-path:{name}"),
            Self::Body(pointer) => write!(f, "body:{pointer}"),
            Self::Keys(pointer) => write!(f, "keys:{pointer}"),
            Self::Graphql(pointer) => write!(f, "graphql:{pointer}"),
            Self::Mcp(pointer) => write!(f, "mcp:{pointer}"),
            Self::Form(name) => write!(f, "form:{name}"),
            Self::Push(part) => write!(f, "push:{}", part.as_str()),
        }
    }
}

/// A JSON Pointer (RFC 6901) to something within a document, never to the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    tokens: Vec<String>,
}

impl Pointer {
    /// Its reference tokens, decoded; at least one.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Text that is no pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no JSON Pointer: {rule}; hint: as in `/title` or `/head/ref`")]
pub struct PointerError {
    text: String,
    rule: &'static str,
}

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        let refused = |rule| PointerError { text: text.to_owned(), rule };
        let rest = text.strip_prefix('/').ok_or_else(|| refused("it must begin with `/`"))?;
        let token = |raw: &str| {
            let escaped = raw.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
            match escaped {
                // The element after the last of a list: never there.
                true if raw == "-" => Err(refused("`-` points at nothing that a request has")),
                true => Ok(raw.replace("~1", "/").replace("~0", "~")),
                false => Err(refused("`~` is written `~0`, and `/` within a name `~1`")),
            }
        };
        let tokens = rest.split('/').map(token).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { text: text.to_owned(), tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_plain_json_and_nothing_else_is_one() {
        for text in [r#""a \" b""#, "7", "-9007199254740991", "true", r#"["a","b"]"#, "[]"] {
            let argument: Argument = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&argument).unwrap(), text);
            assert_eq!(argument.to_string(), text);
        }
        for text in ["null", "1.0", "9007199254740992", "-9007199254740992", "{}", "[1]", "[\"a\",\"a\"]"] {
            assert!(serde_json::from_str::<Argument>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pointers_are_those_of_rfc_6901() {
        for (text, tokens) in [
            ("/a", &["a"][..]),
            ("/a/0/b c", &["a", "0", "b c"]),
            ("/a~1b/m~0n/~01", &["a/b", "m~n", "~1"]),
            ("/", &[""]),
        ] {
            let pointer: Pointer = text.parse().unwrap();
            assert_eq!(pointer.tokens(), tokens);
            assert_eq!(pointer.to_string(), text);
        }
        for text in ["", "a", "#/a", "/a~", "/a~2", "/a/-"] {
            let error = text.parse::<Pointer>().unwrap_err().to_string();
            assert!(error.contains("hint: as in `/title`"), "{error}");
        }
    }
}
