//! What a request carries that tells for which caller it is made.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The marks of one request. They are claims of the agent: what they mean is decided by what Writ itself handed to that
/// run ([`crate::Identify::acting`]), so an agent can name only a human whose request it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks<'a> {
    /// Everything in it that has the form of a [`Handle`], each text once.
    pub handles: &'a [&'a str],
    /// The trace that the request belongs to.
    pub trace: Option<TraceId>,
}

/// What an agent is given in the place of a caller's token: `wrh_` and 256 bits in base64url (RFC 4648, section 5).
///
/// It is no secret of the human's: outside the run that it was made for it means nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Handle(String);

impl Handle {
    /// How each begins.
    pub const PREFIX: &'static str = "wrh_";
    /// Bytes of each, the prefix included.
    pub const LENGTH: usize = Self::PREFIX.len() + 43;

    /// The handle with these bits.
    pub fn new(bits: &[u8; 32]) -> Self {
        Self(Self::PREFIX.to_owned() + &URL_SAFE_NO_PAD.encode(bits))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Everything within the bytes that has the form of a handle, whatever stands around it.
    pub fn all_in(bytes: &[u8]) -> impl Iterator<Item = &str> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            loop {
                let at = rest.windows(Self::PREFIX.len()).position(|part| part == Self::PREFIX.as_bytes())?;
                let (_, from) = rest.split_at_checked(at)?;
                let (found, after) = from.split_at_checked(Self::LENGTH)?;
                if found.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
                    rest = after;
                    return std::str::from_utf8(found).ok();
                }
                (_, rest) = from.split_at_checked(1)?;
            }
        })
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle(..)")
    }
}

/// The trace id of a `traceparent` header (W3C Trace Context, section 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// Text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: `VERSION-TRACE-PARENT-FLAGS` in lower-case hex, neither id all zeroes")]
pub struct TraceError;

impl TraceId {
    /// The id with these bytes; `None` for all zeroes, which is no id.
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The 16 bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl FromStr for TraceId {
    type Err = TraceError;

    /// Reads the whole header. Later versions may have more fields (section 3.2.4); version `ff` is none.
    fn from_str(header: &str) -> Result<Self, TraceError> {
        let mut parts = header.split('-');
        let mut next = |length| {
            let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            parts.next().filter(|part: &&str| part.len() == length && part.bytes().all(hex)).ok_or(TraceError)
        };
        let (version, trace, parent, _flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        if version == "ff" || (version == "00" && parts.next().is_some()) || parent.bytes().all(|b| b == b'0')
        {
            return Err(TraceError);
        }
        let bits = u128::from_str_radix(trace, 16).map_err(|_| TraceError)?;
        Self::new(bits.to_be_bytes()).ok_or(TraceError)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_found_wherever_they_stand() {
        let (one, two) = (Handle::new(&[0xff; 32]), Handle::new(&[7; 32]));
        assert_eq!(one.as_str().len(), Handle::LENGTH);
        let text = format!("wrh_wrh_Bearer {}, a={};wrh_short", one.as_str(), two.as_str());
        assert_eq!(Handle::all_in(text.as_bytes()).collect::<Vec<_>>(), [one.as_str(), two.as_str()]);
        let nested = format!("wrh_{}", one.as_str());
        assert_eq!(Handle::all_in(nested.as_bytes()).count(), 1);
        assert_eq!(Handle::all_in(b"wrh_").count() + Handle::all_in(b"").count(), 0);
        assert_eq!(format!("{one:?}"), "Handle(..)");
    }

    #[test]
    fn traceparent_is_read_as_the_standard_says() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let read = |text: &str| text.parse::<TraceId>().map(|id| id.to_string());
        assert_eq!(read(&format!("00-{trace}-b7ad6b7169203331-01")), Ok(trace.to_owned()));
        assert_eq!(read(&format!("01-{trace}-b7ad6b7169203331-01-more")), Ok(trace.to_owned()));
        for bad in [
            String::new(),
            format!("00-{trace}-b7ad6b7169203331"),
            format!("00-{trace}-b7ad6b7169203331-01-more"),
            format!("ff-{trace}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-+{}-b7ad6b7169203331-01", "1".repeat(31)),
        ] {
            assert_eq!(read(&bad), Err(TraceError), "{bad}");
        }
    }
}
