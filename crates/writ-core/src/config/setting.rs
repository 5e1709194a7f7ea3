//! Values of one key, and the types that can be read from them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use toml::Spanned;
use toml::de::DeValue;

use crate::argument::Argument;
use crate::grant::ActsFor;
use crate::mode::Mode;
use crate::name::{AgentName, HostName, HumanId, OperationName, SecretName, ServiceName};
use crate::obligation::Label;
use crate::service::{AgentPeer, Effect, Protocol};
use crate::spiffe::TrustDomain;
use crate::units::{ByteSize, Span};

/// A type that a value of configuration can be.
pub trait Setting: Sized {
    /// What is expected, with its article: `a length of time`.
    const EXPECTED: &'static str;
    /// A value as it is written: `"30s"`, quotes included.
    const EXAMPLE: &'static str;
    /// Reads the value; pure.
    fn read(value: &Value<'_>) -> Result<Self, Wrong>;
}

/// Why a value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// It is of another type; says which.
    Type(String),
    /// Its type is right, its content is not.
    Content {
        /// What is wrong.
        what: String,
        /// What to do; the setting's example if absent.
        hint: Option<String>,
    },
}

impl Wrong {
    /// Content that is wrong. An error that ends in `; hint: ...` gives that as its hint.
    pub fn content(error: impl std::fmt::Display) -> Self {
        let text = error.to_string();
        match text.split_once("; hint: ") {
            Some((what, hint)) => Self::Content { what: what.to_owned(), hint: Some(hint.to_owned()) },
            None => Self::Content { what: text, hint: None },
        }
    }
}

/// One value as it stands in the file.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a>(&'a Spanned<DeValue<'a>>);

impl<'a> Value<'a> {
    pub(super) fn new(value: &'a Spanned<DeValue<'a>>) -> Self {
        Self(value)
    }

    pub(super) fn inner(self) -> &'a DeValue<'a> {
        self.0.get_ref()
    }

    pub(super) fn start(self) -> usize {
        self.0.span().start
    }

    /// The text of a string.
    pub fn text(self) -> Result<&'a str, Wrong> {
        self.inner().as_str().ok_or_else(|| Wrong::Type(self.found()))
    }

    /// A string, parsed.
    pub fn parse<T: FromStr<Err: std::fmt::Display>>(self) -> Result<T, Wrong> {
        self.text()?.parse().map_err(Wrong::content)
    }

    /// One of a few words.
    pub fn one_of<T: Copy>(self, words: &[(&str, T)]) -> Result<T, Wrong> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let listed = names.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let hint = nearest(text, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        Err(Wrong::Content { what: format!("`{text}` is none of {listed}"), hint })
    }

    /// The one entry of an inline table with exactly one key: `{ header = "X-Api-Key" }`.
    pub fn entry(self) -> Result<(&'a str, Value<'a>), Wrong> {
        let table = self.inner().as_table().ok_or_else(|| Wrong::Type(self.found()))?;
        let mut entries = table.iter();
        match (entries.next(), entries.next()) {
            (Some((key, value)), None) => Ok((key.get_ref(), Value(value))),
            _ => Err(Wrong::content(format!("expected a table with one key, found {}", table.len()))),
        }
    }

    /// The items of a list; `None` if it is something else.
    pub fn items(self) -> Option<Vec<Value<'a>>> {
        Some(self.inner().as_array()?.iter().map(Value::new).collect())
    }

    /// What it is, for messages.
    fn found(self) -> String {
        match self.inner() {
            DeValue::String(text) => format!("the text `{text}`"),
            DeValue::Integer(number) => format!("the number {number}"),
            DeValue::Float(number) => format!("the number {number}"),
            DeValue::Boolean(value) => format!("`{value}`"),
            DeValue::Datetime(_) => "a date".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        }
    }
}

/// The candidate that was probably meant, if one is near.
pub(crate) fn nearest<'c>(text: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 2.max(candidate.len() / 3) && *distance < candidate.len()
        })
        .min()
        .map(|(_, candidate)| candidate)
}

macro_rules! from_text {
    ($($type:ty: $expected:literal, $example:literal;)*) => { $(
        impl Setting for $type {
            const EXPECTED: &'static str = $expected;
            const EXAMPLE: &'static str = $example;

            fn read(value: &Value<'_>) -> Result<Self, Wrong> {
                value.parse()
            }
        }
    )* };
}

from_text! {
    AgentName: "an agent name", "\"coder\"";
    AgentPeer: "a run as a peer", "\"agent:coder\"";
    HumanId: "a human id", "\"unix:alice\"";
    ServiceName: "a service name", "\"github\"";
    SecretName: "the name of a secret", "\"github-token\"";
    OperationName: "an operation name", "\"github/issues.create\"";
    HostName: "a host name", "\"api.example.com\"";
    TrustDomain: "a trust domain", "\"example.org\"";
    Span: "a length of time", "\"30s\"";
    ByteSize: "a size", "\"64 KiB\"";
    IpAddr: "an IP address", "\"192.0.2.1\"";
    SocketAddr: "an IP address and port", "\"127.0.0.1:8443\"";
    Label: "a label", "\"read:untrusted\"";
}

impl FromStr for TrustDomain {
    type Err = crate::spiffe::SpiffeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

macro_rules! whole_numbers {
    ($($type:ty),*) => { $(
        impl Setting for $type {
            const EXPECTED: &'static str = "a whole number";
            const EXAMPLE: &'static str = "443";

            fn read(value: &Value<'_>) -> Result<Self, Wrong> {
                let number = value.inner().as_integer().ok_or_else(|| Wrong::Type(value.found()))?;
                Self::from_str_radix(number.as_str(), number.radix()).map_err(|_| {
                    Wrong::content(format!("{number} is not between {} and {}", Self::MIN, Self::MAX))
                })
            }
        }
    )* };
}
whole_numbers!(u8, u16, u32, u64, i64);

impl Setting for bool {
    const EXPECTED: &'static str = "`true` or `false`";
    const EXAMPLE: &'static str = "true";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        value.inner().as_bool().ok_or_else(|| Wrong::Type(value.found()))
    }
}

impl Setting for Argument {
    const EXPECTED: &'static str = "text, a whole number, `true`, `false` or a list of texts";
    const EXAMPLE: &'static str = "\"text\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        if let Some(items) = value.items() {
            return items.iter().map(String::read).collect::<Result<_, _>>().map(Self::Strings);
        }
        match value.inner() {
            DeValue::String(text) => Ok(Self::String(text.to_string())),
            DeValue::Boolean(value) => Ok(Self::Boolean(*value)),
            DeValue::Integer(number) => Self::integer(i64::read(value)?)
                .ok_or_else(|| Wrong::content(format!("{number} is beyond what every reader of JSON reads"))),
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                Err(Wrong::Type(value.found()))
            }
        }
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "text";
    const EXAMPLE: &'static str = "\"text\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        value.text().map(str::to_owned)
    }
}

/// Absolute, since a relative one would depend on where the daemon was started.
impl Setting for PathBuf {
    const EXPECTED: &'static str = "an absolute path";
    const EXAMPLE: &'static str = "\"/etc/writ/ca.pem\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let text = value.text()?;
        let path = Self::from(text);
        if path.is_absolute() && !text.contains('\0') {
            Ok(path)
        } else {
            Err(Wrong::content(format!("`{text}` is not an absolute path")))
        }
    }
}

impl Setting for Effect {
    const EXPECTED: &'static str = "an effect";
    const EXAMPLE: &'static str = "\"read\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        value.one_of(&Self::ALL.map(|effect| (effect.as_str(), effect)))
    }
}

impl Setting for ActsFor {
    const EXPECTED: &'static str = "whom runs act for";
    const EXAMPLE: &'static str = "\"starter\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        value.one_of(&[Self::Starter, Self::Caller, Self::Owner].map(|whom| (whom.as_str(), whom)))
    }
}

impl Setting for Mode {
    const EXPECTED: &'static str = "how policy is taken";
    const EXAMPLE: &'static str = "\"enforce\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        value.one_of(&[Self::Enforce, Self::Observe].map(|mode| (mode.as_str(), mode)))
    }
}

impl Setting for Protocol {
    const EXPECTED: &'static str = "a protocol";
    const EXAMPLE: &'static str = "\"https\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        value.one_of(&[
            ("https", Self::Https),
            ("http", Self::Http),
            ("tcp", Self::Tcp),
            ("pass", Self::Pass),
            ("stdio", Self::Stdio),
        ])
    }
}
