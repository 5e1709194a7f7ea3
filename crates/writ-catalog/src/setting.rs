//! The types of a service file's values.

use std::net::IpAddr;

use http::header::HeaderName;
use writ_core::config::{Setting, Value, Wrong};
use writ_core::service::{HostPattern, Placement, UpstreamAddress};
use writ_core::{HostName, synthetic};

/// A port that a service may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Port(pub(crate) u16);

impl Setting for Port {
    const EXPECTED: &'static str = "a port";
    const EXAMPLE: &'static str = "443";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        match u16::read(value)? {
            0 => Err(Wrong::content("port 0 cannot be connected to")),
            53 => Err(Wrong::content(
                "port 53 is refused: DNS is answered by Writ itself; hint: leave it out; names are resolved as they are listed",
            )),
            port => Ok(Self(port)),
        }
    }
}

/// A host name or `*.` and one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(pub(crate) HostPattern);

impl Setting for Pattern {
    const EXPECTED: &'static str = "a host name";
    const EXAMPLE: &'static str = "\"api.example.com\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let text = value.text()?;
        let Some(suffix) = text.strip_prefix("*.") else {
            return HostName::new(text).map(|name| Self(HostPattern::Exact(name))).map_err(Wrong::content);
        };
        let suffix = HostName::new(suffix).map_err(Wrong::content)?;
        if suffix.as_str().contains('.') {
            Ok(Self(HostPattern::Below(suffix)))
        } else {
            Err(Wrong::content(format!(
                "`{text}` covers a whole top-level domain; hint: name the domain below it"
            )))
        }
    }
}

/// A literal address that may be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) IpAddr);

impl Setting for Address {
    const EXPECTED: &'static str = IpAddr::EXPECTED;
    const EXAMPLE: &'static str = IpAddr::EXAMPLE;

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let address = IpAddr::read(value)?.to_canonical();
        let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        match () {
            () if synthetic::contains(address) => {
                Err(Wrong::content(format!("{address} is in the range that Writ gives out for names")))
            }
            () if address.is_unspecified() || address.is_multicast() || broadcast => {
                Err(Wrong::content(format!("{address} is not the address of one host")))
            }
            () => Ok(Self(address)),
        }
    }
}

/// Where to dial instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dial(pub(crate) UpstreamAddress);

impl Setting for Dial {
    const EXPECTED: &'static str = "an address and port";
    const EXAMPLE: &'static str = "\"127.0.0.1:8443\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let text = value.text()?;
        let wrong = || Wrong::content(format!("`{text}` is not `address:port` or `name:port`"));
        let named = || {
            let (name, port) = text.rsplit_once(':')?;
            Some(UpstreamAddress::Name(HostName::new(name).ok()?, port.parse().ok()?))
        };
        let socket = text.parse().map(UpstreamAddress::Socket).ok();
        let dial = socket.or_else(named).ok_or_else(wrong)?;
        let (port, stand_in) = match &dial {
            UpstreamAddress::Socket(socket) => (socket.port(), synthetic::contains(socket.ip())),
            UpstreamAddress::Name(_, port) => (*port, false),
        };
        match (port, stand_in) {
            (0, _) => Err(Wrong::content("port 0 cannot be connected to")),
            (_, true) => {
                Err(Wrong::content(format!("`{text}` is in the range that Writ gives out for names")))
            }
            _ => Ok(Self(dial)),
        }
    }
}

/// Where a credential goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) Placement);

/// Headers that say where a request goes or how long it is: never a place for a credential.
const STRUCTURAL: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Setting for Place {
    const EXPECTED: &'static str = "a place";
    const EXAMPLE: &'static str = "\"bearer\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        if value.text().is_ok() {
            let hint =
                "or one of `{ header = NAME }`, `{ basic = USER }`, `{ query = NAME }`, `{ cookie = NAME }`";
            let place = value.one_of(&[("bearer", ())]).map_err(|wrong| match wrong {
                Wrong::Content { what, .. } => Wrong::Content { what, hint: Some(hint.to_owned()) },
                Wrong::Type(found) => Wrong::Type(found),
            });
            return place.map(|()| Self(Placement::Bearer));
        }
        let (kind, value) = value.entry()?;
        let text = value.text()?;
        match kind {
            "header" => header(text),
            "basic" => basic(text),
            "query" => query(text),
            "cookie" => cookie(text),
            _ => Err(Wrong::content(format!(
                "`{kind}` is none of `header`, `basic`, `query`, `cookie`; hint: or `place = \"bearer\"`"
            ))),
        }
        .map(Self)
    }
}

fn header(name: &str) -> Result<Placement, Wrong> {
    match HeaderName::from_bytes(name.as_bytes()) {
        Err(_) => Err(Wrong::content(format!("`{name}` is not a header's name"))),
        Ok(parsed) if STRUCTURAL.contains(&parsed.as_str()) => {
            Err(Wrong::content(format!("the header `{name}` is no place for a credential")))
        }
        Ok(_) => Ok(Placement::Header(name.to_owned())),
    }
}

/// RFC 7617 section 2: no colon and no control characters in the user.
fn basic(user: &str) -> Result<Placement, Wrong> {
    if user.contains(|c: char| c == ':' || c.is_control()) {
        return Err(Wrong::content(format!(
            "`{user}` is not a user name for Basic: no `:`, no control characters"
        )));
    }
    Ok(Placement::Basic { user: user.to_owned() })
}

/// Only characters that need no encoding, so that no second spelling of the name exists.
fn query(name: &str) -> Result<Placement, Wrong> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(Wrong::content(format!(
            "`{name}` is not a parameter's name: letters, digits, `-`, `.`, `_`, `~`"
        )));
    }
    Ok(Placement::Query(name.to_owned()))
}

/// RFC 6265 section 4.1.1: a cookie's name is a token (RFC 9110 section 5.6.2), as a method is.
fn cookie(name: &str) -> Result<Placement, Wrong> {
    match http::Method::from_bytes(name.as_bytes()) {
        Ok(_) => Ok(Placement::Cookie(name.to_owned())),
        Err(_) => Err(Wrong::content(format!("`{name}` is not a cookie's name"))),
    }
}

/// A method that is relayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Method(pub(crate) String);

impl Setting for Method {
    const EXPECTED: &'static str = "an HTTP method";
    const EXAMPLE: &'static str = "\"GET\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let text = value.text()?;
        match text {
            "CONNECT" | "TRACE" => Err(Wrong::content(format!("`{text}` is never relayed"))),
            _ if !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(Wrong::content(format!("`{text}` is not a method: letters in upper case"))),
        }
    }
}
