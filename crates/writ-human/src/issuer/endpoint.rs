//! Places that may be asked: HTTPS, or plain HTTP at a literal loopback address where configuration allows it.

use std::net::IpAddr;

use http::Uri;
use http::uri::Scheme;

/// A URL that may be asked. No user part, no fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    uri: Uri,
    host: String,
    port: u16,
    secure: bool,
}

/// A URL that may not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` cannot be used: {what}")]
pub struct EndpointError {
    url: String,
    what: &'static str,
}

impl Endpoint {
    /// Checks a URL; `plain_loopback` lets `http://127.0.0.1` and `http://[::1]` pass, never a name.
    pub fn new(url: &str, plain_loopback: bool) -> Result<Self, EndpointError> {
        let refused = |what| EndpointError { url: url.to_owned(), what };
        if !url.bytes().all(|b| b.is_ascii_graphic()) || url.contains('#') {
            return Err(refused("it holds a fragment, or characters that no URL has"));
        }
        let uri: Uri = url.parse().map_err(|_| refused("it is no URL"))?;
        let authority = uri.authority().ok_or_else(|| refused("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refused("it holds a user name"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let plain = uri.scheme() == Some(&Scheme::HTTP) && plain_loopback && loopback;
        if !secure && !plain {
            return Err(refused("it is not `https`"));
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        if host.is_empty() || port == 0 {
            return Err(refused("it names no host or port"));
        }
        Ok(Self { uri, host, port, secure })
    }

    /// The host, without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether TLS is spoken there.
    pub(crate) fn secure(&self) -> bool {
        self.secure
    }

    /// What `Host` says.
    pub(crate) fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Path and query as they are sent.
    pub(crate) fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    /// This URL with more in its query.
    pub(crate) fn with_query(&self, query: &str) -> String {
        let url = self.uri.to_string();
        let joint = if self.uri.query().is_some() { '&' } else { '?' };
        format!("{url}{joint}{query}")
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_or_a_literal_loopback_address_where_allowed() {
        let issuer = Endpoint::new("https://login.example.com:8443/a?b=c", false).unwrap();
        assert_eq!((issuer.host(), issuer.port(), issuer.secure()), ("login.example.com", 8443, true));
        assert_eq!(issuer.with_query("d=e"), "https://login.example.com:8443/a?b=c&d=e");
        assert_eq!(Endpoint::new("http://[::1]:9/x", true).unwrap().host(), "::1");
        for (url, plain) in [
            ("http://127.0.0.1/", false),
            ("http://localhost/", true),
            ("http://192.0.2.1/", true),
            ("ftp://127.0.0.1/", true),
            ("https://user@host/", false),
            ("https://host/#part", false),
            ("/path", false),
            ("https://host:0/", false),
            ("https://host/a b", false),
        ] {
            assert!(Endpoint::new(url, plain).is_err(), "{url}");
        }
    }
}
