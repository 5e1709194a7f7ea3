//! Request heads: which host they address, and what of them belongs to one hop only.
//!
//! The destination of an action is decided once, from everything that names it: the kernel's name, SNI, `Host` or
//! `:authority`, and an absolute request target. They agree after normalisation, or there is no action.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Version};
use writ_core::{HostName, Reason};

/// The one destination of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The name; for a literal address that a service lists, a name of the service.
    pub(crate) host: HostName,
    /// The literal address, when the agent used one.
    pub(crate) literal: Option<SocketAddr>,
    /// The port that the agent connected to.
    pub(crate) port: u16,
    /// Whether the connection is inside TLS.
    pub(crate) tls: bool,
}

impl Place {
    const fn default_port(&self) -> u16 {
        if self.tls { 443 } else { 80 }
    }

    const fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// What stands in `Host` or `:authority`, whatever spelling the agent used.
    pub(crate) fn authority(&self) -> String {
        match self.literal {
            Some(address) => address.to_string(),
            None if self.port == self.default_port() => self.host.as_str().to_owned(),
            None => format!("{}:{}", self.host, self.port),
        }
    }

    fn agrees(&self, authority: &str) -> Result<(), Reason> {
        if authority.is_empty() || authority.contains('@') {
            return Err(Reason::BadRequest);
        }
        let (host, port) = split_port(authority).ok_or(Reason::BadRequest)?;
        let port_agrees = port.unwrap_or(self.default_port()) == self.port;
        let bare = host.strip_suffix('.').unwrap_or(host);
        let by_name = bare.eq_ignore_ascii_case(self.host.as_str());
        let by_address = || {
            let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
            bare.parse::<IpAddr>().is_ok_and(|ip| self.literal.is_some_and(|literal| literal.ip() == ip))
        };
        if port_agrees && (by_name || by_address()) { Ok(()) } else { Err(Reason::NameMismatch) }
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`; a port is digits and fits.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let (_, tail) = authority.split_at_checked(after_bracket)?;
    let Some((before, port)) = tail.split_once(':') else {
        return Some((authority, None));
    };
    let (host, _) = authority.split_at_checked(after_bracket + before.len())?;
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    Some((host, Some(digits.then(|| port.parse().ok()).flatten()?)))
}

/// Whether the request is for this place and may be relayed at all.
pub(crate) fn check(parts: &Parts, place: &Place) -> Result<(), Reason> {
    if [Method::CONNECT, Method::TRACE].contains(&parts.method) {
        return Err(Reason::MethodRefused);
    }
    let mut named = false;
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    if let Some(host) = hosts.next() {
        place.agrees(host.to_str().map_err(|_| Reason::BadRequest)?)?;
        named = true;
    }
    if hosts.next().is_some() {
        return Err(Reason::BadRequest);
    }
    if let Some(authority) = parts.uri.authority() {
        place.agrees(authority.as_str())?;
        if parts.uri.scheme_str().is_some_and(|scheme| scheme != place.scheme()) {
            return Err(Reason::NameMismatch);
        }
        named = true;
    }
    if !named || !parts.uri.path().starts_with('/') {
        return Err(Reason::BadRequest);
    }
    Ok(())
}

/// What a request wants the connection to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// Nothing else.
    None,
    /// A WebSocket (RFC 6455).
    WebSocket,
}

/// Which upgrade the request asks for; all but WebSocket are refused.
pub(crate) fn upgrade(parts: &Parts) -> Result<Upgrade, Reason> {
    let mut asked = parts.headers.get_all(header::UPGRADE).iter();
    let Some(protocol) = asked.next() else { return Ok(Upgrade::None) };
    let websocket = asked.next().is_none()
        && protocol.as_bytes().eq_ignore_ascii_case(b"websocket")
        && parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && lists(&parts.headers, &header::CONNECTION, "upgrade");
    if websocket { Ok(Upgrade::WebSocket) } else { Err(Reason::UpgradeRefused) }
}

/// Whether a list header has this token.
pub(crate) fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value
            .split(',')
            .any(|item| item.split(';').next().is_some_and(|word| word.trim().eq_ignore_ascii_case(token)))
    })
}

/// Every header line, as the gate is told them.
pub(crate) fn lines(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

/// Headers that belong to one hop (RFC 9110 section 7.6.1), and some that only proxies send. `Trailer` stays: it
/// announces what is relayed.
const ONE_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Headers that `Connection` cannot name away: they say where a body ends and how it is read, which was decided on.
const KEPT: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::HOST];

/// Removes what belongs to one hop, with all that `Connection` names.
pub(crate) fn strip_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| !KEPT.contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &ONE_HOP {
        headers.remove(name);
    }
}

/// Makes a request's head one for the next hop, which can take trailers if the one before could.
pub(crate) fn fit_for_next_hop(headers: &mut HeaderMap) {
    let trailers = lists(headers, &header::TE, "trailers");
    strip_hop(headers);
    // Answered here: the next hop is sent the body at once.
    headers.remove(header::EXPECT);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes from an answer what belongs to one hop, and the offers of other ways to the same service, which the
/// agent could not take.
pub(crate) fn strip_answer(headers: &mut HeaderMap) {
    strip_hop(headers);
    headers.remove(header::ALT_SVC);
}

/// Encodings that an answer can be searched in.
const READABLE: [&str; 5] = ["gzip", "br", "zstd", "deflate", "identity"];

/// Asks the service only for encodings in which the credential would be found.
pub(crate) fn limit_encodings(headers: &mut HeaderMap) {
    if !headers.contains_key(header::ACCEPT_ENCODING) {
        return;
    }
    let mut kept = String::new();
    for value in headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()) {
        for item in value.split(',') {
            let word = item.split(';').next().unwrap_or_default().trim();
            if READABLE.iter().any(|readable| word.eq_ignore_ascii_case(readable)) {
                if !kept.is_empty() {
                    kept.push_str(", ");
                }
                kept.push_str(item.trim());
            }
        }
    }
    let value = HeaderValue::try_from(kept).ok().filter(|value| !value.is_empty());
    headers.insert(header::ACCEPT_ENCODING, value.unwrap_or(HeaderValue::from_static("identity")));
}

/// Whether trailers of this name may be relayed: none that decides about framing, routing or identity.
pub(crate) fn trailer_allowed(name: &HeaderName) -> bool {
    const REFUSED: [HeaderName; 6] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::AUTHORIZATION,
        header::COOKIE,
        header::SET_COOKIE,
        header::CONTENT_ENCODING,
    ];
    !REFUSED.contains(name) && !ONE_HOP.contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn place(port: u16) -> Place {
        Place { host: HostName::new("api.test").unwrap(), literal: None, port, tls: true }
    }

    fn asking(uri: &str, hosts: &[&str]) -> Parts {
        let mut builder = Request::builder().uri(uri);
        for host in hosts {
            builder = builder.header("host", *host);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn every_name_of_a_request_must_agree() {
        for (uri, hosts, port, outcome) in [
            ("/a", &["api.test"][..], 443, Ok(())),
            ("/a", &["API.Test."][..], 443, Ok(())),
            ("/a", &["api.test:443"][..], 443, Ok(())),
            ("/a", &["api.test:8443"][..], 8443, Ok(())),
            ("https://api.test/a", &["api.test"][..], 443, Ok(())),
            ("https://api.test/a", &[][..], 443, Ok(())),
            ("/a", &["api.test"][..], 8443, Err(Reason::NameMismatch)),
            ("/a", &["api.test:80"][..], 443, Err(Reason::NameMismatch)),
            ("/a", &["other.test"][..], 443, Err(Reason::NameMismatch)),
            ("https://other.test/a", &["api.test"][..], 443, Err(Reason::NameMismatch)),
            ("http://api.test/a", &["api.test"][..], 443, Err(Reason::NameMismatch)),
            ("/a", &["api.test:x@evil.test"][..], 443, Err(Reason::BadRequest)),
            ("/a", &["user@api.test"][..], 443, Err(Reason::BadRequest)),
            ("/a", &["api.test:"][..], 443, Err(Reason::BadRequest)),
            ("/a", &["api.test:4 43"][..], 443, Err(Reason::BadRequest)),
            ("/a", &["api.test", "api.test"][..], 443, Err(Reason::BadRequest)),
            ("/a", &[][..], 443, Err(Reason::BadRequest)),
            ("/a", &["[::1]"][..], 443, Err(Reason::NameMismatch)),
            ("/a", &["127.0.0.1"][..], 443, Err(Reason::NameMismatch)),
        ] {
            assert_eq!(check(&asking(uri, hosts), &place(port)), outcome, "{uri} {hosts:?} {port}");
        }
    }

    #[test]
    fn a_literal_address_agrees_only_with_itself() {
        let literal = Some("[2001:db8::1]:8080".parse().unwrap());
        let place = Place { literal, port: 8080, tls: false, ..place(0) };
        assert_eq!(check(&asking("/", &["[2001:db8::1]:8080"]), &place), Ok(()));
        assert_eq!(check(&asking("/", &["[2001:db8::2]:8080"]), &place), Err(Reason::NameMismatch));
        assert_eq!(place.authority(), "[2001:db8::1]:8080");
    }

    #[test]
    fn hop_by_hop_headers_go_with_all_that_connection_names() {
        let mut headers = asking("/", &["api.test"]).headers;
        for (name, value) in [
            ("connection", "close, X-One, content-length, host, Content-Type, content-encoding"),
            ("content-type", "application/json"),
            ("content-encoding", "identity"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("te", "trailers"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic eA=="),
            ("content-length", "3"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-encoding", "content-length", "content-type", "host", "x-two"]);
    }

    #[test]
    fn encodings_are_limited_to_readable_ones() {
        for (before, after) in [
            ("gzip, deflate, br, zstd", "gzip, deflate, br, zstd"),
            ("compress, gzip;q=0.5, *", "gzip;q=0.5"),
            ("snappy", "identity"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("accept-encoding", HeaderValue::from_static(before));
            limit_encodings(&mut headers);
            assert_eq!(headers["accept-encoding"], after);
        }
    }

    #[test]
    fn only_websocket_upgrades_pass() {
        let asks = |protocol: &str, connection: &str| {
            let request = Request::get("/").header("upgrade", protocol).header("connection", connection);
            upgrade(&request.body(()).unwrap().into_parts().0)
        };
        assert_eq!(asks("websocket", "keep-alive, Upgrade"), Ok(Upgrade::WebSocket));
        assert_eq!(asks("websocket", "keep-alive"), Err(Reason::UpgradeRefused));
        assert_eq!(asks("h2c", "Upgrade, HTTP2-Settings"), Err(Reason::UpgradeRefused));
        assert_eq!(asks("websocket, h2c", "Upgrade"), Err(Reason::UpgradeRefused));
        assert_eq!(upgrade(&asking("/", &[])), Ok(Upgrade::None));
    }
}
