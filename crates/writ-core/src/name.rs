//! Names as checked types: outside text becomes one of these at the edge, or is refused.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Text that is not a name of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: {rule}")]
pub struct NameError {
    text: String,
    kind: &'static str,
    rule: &'static str,
}

macro_rules! name {
    ($(#[doc = $doc:literal])* $name:ident, $kind:literal, $check:path, $rule:expr) => {
        $(#[doc = $doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text.
            pub fn new(text: &str) -> Result<Self, NameError> {
                match $check(text) {
                    Some(canonical) => Ok(Self(canonical.into())),
                    None => Err(NameError { text: text.to_owned(), kind: $kind, rule: $rule }),
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::new(&String::deserialize(d)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

const SEGMENT: &str = "letters, digits, `.`, `-`, `_`, at most 128, not `.` or `..`";

name! {
    /// A registered kind of agent. A SPIFFE path segment (SPIFFE-ID, section 2.2), since it becomes one.
    AgentName, "agent name", segment, SEGMENT
}
name! {
    /// A named upstream.
    ServiceName, "service name", segment, SEGMENT
}
name! {
    /// An entry of the secret store.
    SecretName, "secret name", segment, SEGMENT
}
name! {
    /// One thing that can be done at a service: `service/operation`.
    OperationName, "operation name", operation,
    "`service/operation`, each of letters, digits, `.`, `-`, `_`"
}
name! {
    /// The accountable person: `unix:NAME`, `unix:UID` for a user without a name, or `oidc:ISSUER#SUBJECT`.
    HumanId, "human id", human, "`unix:NAME`, `unix:UID` or `oidc:ISSUER#SUBJECT`"
}
name! {
    /// A DNS name in canonical form: lower case, no trailing dot, at most 253 bytes, labels of letters, digits,
    /// `-` and `_` (RFC 1035 section 2.3.4, RFC 5890 A-labels). Never an address.
    HostName, "host name", host, "a DNS name of letters, digits, `-`, `_` in labels of at most 63, not an address"
}

impl HumanId {
    /// The id of a subject of an `OpenID` Connect issuer. What is not printable ASCII, and `#` and `%`, is percent-encoded, so
    /// that every subject has exactly one id.
    pub fn oidc(issuer: &str, subject: &str) -> Result<Self, NameError> {
        let mut text = format!("oidc:{issuer}#");
        for byte in subject.bytes() {
            match byte {
                b'#' | b'%' => text.push_str(if byte == b'#' { "%23" } else { "%25" }),
                _ if byte.is_ascii_graphic() => text.push(char::from(byte)),
                _ => text.extend(['%'].into_iter().chain(hex(byte))),
            }
        }
        Self::new(&text)
    }
}

fn hex(byte: u8) -> [char; 2] {
    [byte >> 4, byte & 15].map(|half| char::from_digit(half.into(), 16).unwrap_or('0').to_ascii_uppercase())
}

impl OperationName {
    /// The part before the slash.
    pub fn service(&self) -> &str {
        self.0.split_once('/').map_or("", |(service, _)| service)
    }
}

fn segment(text: &str) -> Option<String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(allowed) && text != "." && text != "..";
    fits.then(|| text.to_owned())
}

fn operation(text: &str) -> Option<String> {
    let (service, operation) = text.split_once('/')?;
    segment(service)?;
    segment(operation)?;
    Some(text.to_owned())
}

fn human(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once(':')?;
    let printable =
        |part: &str, max| !part.is_empty() && part.len() <= max && part.bytes().all(|b| b.is_ascii_graphic());
    let fits = match scheme {
        "unix" => printable(rest, 256),
        // OpenID Connect Core, section 2: a subject has at most 255 characters; encoded it may take three times that.
        "oidc" => rest.split_once('#').is_some_and(|(issuer, subject)| {
            issuer.starts_with("http")
                && printable(issuer, 512)
                && printable(subject, 765)
                && !subject.contains('#')
        }),
        _ => false,
    };
    fits.then(|| text.to_owned())
}

fn host(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() || text.len() > 253 || text.split('.').any(|l| !label(l)) {
        return None;
    }
    // `1.2.3.4`, `0x7f.1` and `127` would be read as addresses by some clients (WHATWG URL, host parsing).
    let last = text.rsplit('.').next()?;
    let numeric =
        last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    (!numeric).then(|| text.to_ascii_lowercase())
}

fn label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=63).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_canonical_and_never_addresses() {
        assert_eq!(HostName::new("API.Example.COM.").unwrap().as_str(), "api.example.com");
        for bad in ["", ".", "a..b", "-a.b", "1.2.3.4", "127", "0x7f.0x1", "[::1]", "a b", "a:443", "é.com"]
        {
            assert!(HostName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_subject_has_one_human_id() {
        let id = |subject| HumanId::oidc("https://id.example", subject);
        assert_eq!(id("alice").unwrap().as_str(), "oidc:https://id.example#alice");
        assert_eq!(id("a#%\u{e9} b").unwrap().as_str(), "oidc:https://id.example#a%23%25%C3%A9%20b");
        assert_eq!(HumanId::new("oidc:https://id.example#alice"), id("alice"));
        for bad in ["oidc:https://id.example", "oidc:#a", "oidc:https://a#", "oidc:https://a#b#c", "ldap:x"] {
            assert!(HumanId::new(bad).is_err(), "{bad}");
        }
        assert!(HumanId::oidc("https://id.example", "").is_err());
    }

    #[test]
    fn agent_names_are_spiffe_segments() {
        for bad in ["", ".", "..", "a/b", "a b", "%2e"] {
            assert!(AgentName::new(bad).is_err(), "{bad}");
        }
        assert!(AgentName::new("coder-2_x.y").is_ok());
    }

    #[test]
    fn an_operation_names_its_service() {
        assert_eq!(OperationName::new("github/issues.create").unwrap().service(), "github");
        assert!(OperationName::new("github").is_err());
        assert!(OperationName::new("a/b/c").is_err());
    }
}
