//! The `[workload]` table of `writd.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;

use writ_core::config::{KeyDoc, Table};
use writ_core::{SpiffeId, TrustDomain};

/// What of the protocols is served, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether the Workload API's socket is there.
    pub socket: bool,
    /// The endpoints over TLS, if they are served.
    pub https: Option<Https>,
}

/// The listener for the bundle, the keys of tokens and what is added to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Https {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it shows to clients.
    pub certificate: Certificate,
}

/// How the listener proves who it is: the two profiles of SPIFFE Federation, section 5.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// `https_web`: by files that somebody else renews.
    Files {
        /// The chain, PEM, leaf first.
        chain: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
    },
    /// `https_spiffe`: by an X509-SVID of our own.
    Svid(SpiffeId),
}

/// Every key, with its meaning.
pub const KEYS: &[KeyDoc] = &[
    KeyDoc::defaulted(
        "workload.socket",
        "`true` or `false`",
        "true",
        "Whether processes of runs find the SPIFFE Workload API, and Envoy its secrets, at `/run/writ/workload.sock`.",
    ),
    KeyDoc::optional(
        "workload.https.listen",
        "IP address and port",
        "nothing is served over TLS",
        "Where the trust bundle (`/bundle`) is served, and, if `identity.jwt_issuer` is set, OpenID discovery and the \
         keys of tokens. Everybody who reaches it may read them.",
    ),
    KeyDoc::optional(
        "workload.https.certificate",
        "absolute path",
        "see `workload.https.spiffe_id`",
        "The certificate chain that clients are shown, PEM, leaf first (profile `https_web`). A file that changes is read \
         again within a minute.",
    ),
    KeyDoc::optional(
        "workload.https.key",
        "absolute path",
        "see `workload.https.spiffe_id`",
        "The private key of the certificate, PEM.",
    ),
    KeyDoc::optional(
        "workload.https.spiffe_id",
        "SPIFFE ID",
        "`certificate` and `key` are used",
        "The identity of our own trust domain that clients are shown in place of a certificate from files (profile \
         `https_spiffe`).",
    ),
];

impl Settings {
    /// Reads the `[workload]` table of the settings.
    pub fn from_table(table: &Table<'_>, trust_domain: &TrustDomain) -> Option<Self> {
        let workload = table.sub_table("workload");
        let socket = workload.defaulted("socket");
        let https = workload.sub_table("https");
        let https = if https.is_present() { Some(Https::from_table(&https, trust_domain)?) } else { None };
        Some(Self { socket: socket?, https })
    }
}

impl Https {
    fn from_table(table: &Table<'_>, trust_domain: &TrustDomain) -> Option<Self> {
        let listen = table.required("listen");
        let chain: Option<PathBuf> = table.optional("certificate");
        let key: Option<PathBuf> = table.optional("key");
        let id: Option<String> = table.optional("spiffe_id");
        let hint = Some("write `certificate` and `key`, or `spiffe_id`");
        let certificate = match (chain, key, id) {
            (Some(chain), Some(key), None) => Certificate::Files { chain, key },
            (None, None, Some(id)) => Certificate::Svid(own_id(table, trust_domain, &id)?),
            (None, None, None) => {
                table.problem("", "the listener has no certificate", hint);
                return None;
            }
            (Some(_), None, None) => {
                table.problem("certificate", "a certificate needs its `key`", hint);
                return None;
            }
            (None, Some(_), None) => {
                table.problem("key", "a key needs its `certificate`", hint);
                return None;
            }
            (_, _, Some(_)) => {
                table.problem("spiffe_id", "the listener can have one certificate only", hint);
                return None;
            }
        };
        Some(Self { listen: listen?, certificate })
    }
}

fn own_id(table: &Table<'_>, trust_domain: &TrustDomain, text: &str) -> Option<SpiffeId> {
    match SpiffeId::new(text) {
        Ok(id) if id.trust_domain() != trust_domain.as_str() => {
            table.problem("spiffe_id", format!("`{text}` is not of the trust domain `{trust_domain}`"), None);
            None
        }
        Ok(id) if id.path().is_empty() => {
            let hint = Some("add a path, as in `spiffe://example.org/writ/bundle`");
            table.problem("spiffe_id", format!("`{text}` names a trust domain and no workload"), hint);
            None
        }
        Ok(id) => Some(id),
        Err(error) => {
            table.problem("spiffe_id", error.to_string(), None);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use writ_core::config::{self, Problems};

    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let mut problems = Problems::default();
        let domain = TrustDomain::new("example.org").unwrap();
        config::read("writd.toml", text, KEYS, &mut problems, |table| Settings::from_table(table, &domain))
            .ok_or_else(|| problems.to_string())
    }

    #[test]
    fn nothing_said_is_the_socket_alone() {
        assert_eq!(read("").unwrap(), Settings { socket: true, https: None });
        assert!(!read("[workload]\nsocket = false\n").unwrap().socket);
    }

    #[test]
    fn either_certificate_will_do() {
        let files =
            "[workload.https]\nlisten = \"127.0.0.1:8443\"\ncertificate = \"/c.pem\"\nkey = \"/k.pem\"\n";
        let https = read(files).unwrap().https.unwrap();
        assert_eq!(https.listen.port(), 8443);
        assert_eq!(https.certificate, Certificate::Files { chain: "/c.pem".into(), key: "/k.pem".into() });
        let svid =
            "[workload.https]\nlisten = \"127.0.0.1:8443\"\nspiffe_id = \"spiffe://example.org/writ/web\"\n";
        assert!(matches!(read(svid).unwrap().https.unwrap().certificate, Certificate::Svid(_)));
    }

    #[test]
    fn mistakes_name_file_line_and_key() {
        let with =
            |rest: &str| read(&format!("[workload.https]\nlisten = \"127.0.0.1:1\"\n{rest}")).unwrap_err();
        assert!(with("").contains("writd.toml:1"), "{}", with(""));
        assert!(with("key = \"/k\"\n").contains("writd.toml:3"));
        assert!(with("certificate = \"/k\"\n").contains("`key`"));
        assert!(with("spiffe_id = \"spiffe://other/x\"\n").contains("`example.org`"));
        assert!(with("spiffe_id = \"spiffe://example.org\"\n").contains("no workload"));
        assert!(
            with("spiffe_id = \"spiffe://example.org/x\"\ncertificate = \"/c\"\nkey = \"/k\"\n")
                .contains("one")
        );
        assert!(with("certificat = \"/c\"\n").contains("did you mean `certificate`"));
        assert!(
            read("[workload.https]\nspiffe_id = \"spiffe://example.org/x\"\n")
                .unwrap_err()
                .contains("missing")
        );
    }
}
