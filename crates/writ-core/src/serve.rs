//! Doors as data: where callers of an agent come in, how they are proven, and where its own server listens.
//!
//! Reading them from an agent's file is `writ-session`'s; serving them is `writ-proxy`'s.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::service::AgentPeer;

/// One `[[serve]]` block of an agent's file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Serve {
    /// Where callers connect.
    pub listen: SocketAddr,
    /// The loopback port on which the agent's own server listens.
    pub to: u16,
    /// How the channel is protected.
    pub tls: ServeTls,
    /// For whom callers' tokens must be meant; without it no token is taken.
    pub audience: Option<String>,
    /// The only issuer whose tokens are taken, by its URL; every one that the node knows when absent.
    pub issuer: Option<String>,
    /// Where a request carries its token.
    pub token: TokenPlace,
    /// Paths that may be asked for by anybody: no human then, so the agent can do nothing for whoever asks.
    pub open: Vec<OpenPath>,
    /// Which agents may call, where TLS is that of runs; nobody else may.
    pub agents: Vec<AgentPeer>,
    /// Whether peers without an identity of an agent are let in where TLS asks for one.
    pub ungoverned: bool,
}

/// How callers' connections are protected.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServeTls {
    /// Not at all: behind something that is trusted, or on loopback.
    None,
    /// TLS with a certificate from files, in PEM.
    Files {
        /// The chain, the server's own certificate first.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// Mutual TLS with the X.509-SVIDs of runs.
    Spiffe,
}

/// Where a request carries the token of its caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TokenPlace {
    /// `Authorization: Bearer TOKEN` (RFC 6750, section 2.1).
    Bearer,
    /// `NAME: TOKEN`.
    Header(String),
}

/// A path that is open to anybody.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OpenPath {
    /// Exactly this one.
    Exact(String),
    /// This one, which ends in `/`, and all below it.
    Below(String),
}

impl OpenPath {
    /// Whether it covers the path as sent. One that servers may read in different ways is covered by none.
    pub fn covers(&self, path: &str) -> bool {
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'%' | b'\\' | b';');
        let segments = path.split('/').skip(1);
        let clear = path.bytes().all(plain)
            && !segments.clone().any(|segment| matches!(segment, "." | ".."))
            && !path.contains("//");
        clear
            && match self {
                Self::Exact(exact) => path == exact,
                Self::Below(parent) => path.starts_with(parent.as_str()),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_path_covers_itself_and_what_can_be_read_in_one_way() {
        let (exact, below) = (OpenPath::Exact("/health".into()), OpenPath::Below("/public/".into()));
        assert!(exact.covers("/health") && below.covers("/public/a/b.css") && below.covers("/public/"));
        for path in
            ["/health/", "/healthy", "/HEALTH", "/health;x", "/%68ealth", "//health", "/public/../health"]
        {
            assert!(!exact.covers(path), "{path}");
        }
        for path in [
            "/public",
            "/publicity",
            "/public/../admin",
            "/public/%2e%2e/admin",
            "/public//x",
            "/public/a\\b",
        ] {
            assert!(!below.covers(path), "{path}");
        }
    }
}
