//! SPIFFE IDs (<https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>, section 2).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::RunId;
use crate::name::AgentName;

/// Text that is not a SPIFFE ID or trust domain, with the rule that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a SPIFFE ID: {rule}")]
pub struct SpiffeError {
    text: String,
    rule: &'static str,
}

/// The `example.org` of `spiffe://example.org/...`: at most 255 bytes of `a-z`, digits, `.`, `-`, `_`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Checks the text; upper case is refused, as a valid trust domain is lower case.
    pub fn new(text: &str) -> Result<Self, SpiffeError> {
        let refused = |rule| Err(SpiffeError { text: text.to_owned(), rule });
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        match text {
            "" => refused("the trust domain is empty"),
            _ if text.len() > 255 => refused("the trust domain is longer than 255 bytes"),
            _ if !text.bytes().all(allowed) => {
                refused("the trust domain may hold a-z, 0-9, `.`, `-`, `_` only")
            }
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of one run of an agent: `spiffe://<td>/agent/<name>/run/<ulid>`.
    pub fn run_id(&self, agent: &AgentName, run: RunId) -> SpiffeId {
        SpiffeId { text: format!("spiffe://{}/agent/{agent}/run/{run}", self.0), domain: self.0.len() }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A checked SPIFFE ID.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SpiffeId {
    text: String,
    domain: usize,
}

const SCHEME: &str = "spiffe://";

impl SpiffeId {
    /// Checks the text. The scheme is compared without regard to case and kept in lower case.
    pub fn new(text: &str) -> Result<Self, SpiffeError> {
        let refused = |rule| SpiffeError { text: text.to_owned(), rule };
        if text.len() > 2048 {
            return Err(refused("it is longer than 2048 bytes"));
        }
        let (scheme, rest) =
            text.split_at_checked(SCHEME.len()).ok_or_else(|| refused("it must begin with `spiffe://`"))?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(refused("it must begin with `spiffe://`"));
        }
        let (domain, path) = match rest.split_once('/') {
            Some((domain, path)) => (domain, Some(path)),
            None => (rest, None),
        };
        TrustDomain::new(domain).map_err(|e| refused(e.rule))?;
        if let Some(path) = path {
            path.split('/').try_for_each(segment).map_err(refused)?;
        }
        Ok(Self { text: format!("{SCHEME}{rest}"), domain: domain.len() })
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        self.text.get(SCHEME.len()..SCHEME.len() + self.domain).unwrap_or_default()
    }

    /// The path with its leading slash; empty for a trust domain's own id.
    pub fn path(&self) -> &str {
        self.text.get(SCHEME.len() + self.domain..).unwrap_or_default()
    }
}

fn segment(segment: &str) -> Result<(), &'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    match segment {
        "" => Err("a path segment is empty"),
        "." | ".." => Err("a path segment is `.` or `..`"),
        _ if !segment.bytes().all(allowed) => {
            Err("a path segment may hold letters, digits, `.`, `-`, `_` only")
        }
        _ => Ok(()),
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        Self::new(text)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_and_refuses_as_the_standard_says() {
        for good in ["spiffe://a", "SPIFFE://a.b/x", "spiffe://1.2.3.4/A-z_0.9", "spiffe://td/..."] {
            assert!(SpiffeId::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "spiffe://",
            "http://a/b",
            "spiffe:///x",
            "spiffe://A/x",
            "spiffe://a/",
            "spiffe://a//b",
            "spiffe://a/.",
            "spiffe://a/..",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://a:1/b",
            "spiffe://u@a/b",
            "spiffe://a/%41",
            "spiffe://[::1]/b",
        ] {
            assert!(SpiffeId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_run_has_its_own_id() {
        let domain = TrustDomain::new("example.org").unwrap();
        let id = domain.run_id(&AgentName::new("coder").unwrap(), RunId::from_bits(1));
        assert_eq!(id.as_str(), "spiffe://example.org/agent/coder/run/00000000000000000000000001");
        assert_eq!(SpiffeId::new(id.as_str()), Ok(id.clone()));
        assert_eq!(id.trust_domain(), "example.org");
        assert_eq!(id.path(), "/agent/coder/run/00000000000000000000000001");
    }
}
