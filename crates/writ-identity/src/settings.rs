//! The `[identity]` table of `writd.toml`.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use writ_core::config::{KeyDoc, Setting, Table, Value, Wrong};
use writ_core::units::Span;
use writ_core::{SpiffeId, TrustDomain};
use writ_gate::limits;

use crate::authority::{CaSettings, VaultLogin, VaultSettings};
use crate::federation::{Profile, Relation};
use crate::issuer::Lifetimes;
use crate::{KeyKind, https};

/// What the configuration says about identities.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdentitySettings {
    /// Who signs intermediates.
    pub ca: CaSettings,
    /// The kind of key of certificates.
    pub kind: KeyKind,
    /// How long what is issued holds.
    pub lifetimes: Lifetimes,
    /// How long an intermediate holds.
    pub intermediate_ttl: Duration,
    /// How often others should look for a changed bundle.
    pub refresh_hint: Duration,
    /// The `iss` of JWT-SVIDs: the URL under which their keys are found.
    pub jwt_issuer: Option<String>,
    /// Whether WIT-SVIDs are issued.
    pub wit: bool,
    /// Whose identities are believed beside our own.
    pub federation: Vec<Relation>,
}

/// Every key, with its meaning.
pub const KEYS: &[KeyDoc] = &[
    KeyDoc::defaulted(
        "identity.ca",
        "`self`, `file`, `csr` or `vault`",
        "\"self\"",
        "Who signs the intermediate that issues identities: a root of our own, an authority in files, an operator who \
         signs a request, or a PKI secrets engine of Vault or OpenBao. After a change the next intermediate comes from \
         there; identities issued before stay valid until they end.",
    ),
    KeyDoc::defaulted(
        "identity.key",
        "`p256` or `p384`",
        "\"p256\"",
        "The curve of the keys of certificates. Tokens are always signed with P-256.",
    ),
    KeyDoc::defaulted(
        "identity.root_ttl",
        "length of time",
        "\"3650d\"",
        "How long a root of our own holds; half of it later the next one is published.",
    ),
    KeyDoc::defaulted(
        "identity.intermediate_ttl",
        "length of time",
        "\"24h\"",
        "How long an intermediate holds; it is replaced at about half of that. For `csr` the operator decides.",
    ),
    KeyDoc::defaulted(
        "identity.x509_ttl",
        "length of time",
        "\"1h\"",
        "How long an X509-SVID holds, and never longer than its session.",
    ),
    KeyDoc::defaulted(
        "identity.jwt_ttl",
        "length of time",
        "\"5m\"",
        "How long a JWT-SVID holds, and never longer than its session.",
    ),
    KeyDoc::defaulted(
        "identity.refresh_hint",
        "length of time",
        "\"5m\"",
        "How often others should fetch our bundle. A new key is published five times as long before it signs.",
    ),
    KeyDoc::optional(
        "identity.jwt_issuer",
        "`https` URL",
        "JWT-SVIDs have no `iss`",
        "The issuer that JWT-SVIDs name, under which OpenID Connect discovery finds their keys.",
    ),
    KeyDoc::defaulted(
        "identity.wit",
        "`true` or `false`",
        "false",
        "Whether WIT-SVIDs are issued; their standard is not stable yet.",
    ),
    KeyDoc::optional(
        "identity.file.certificate",
        "absolute path",
        "required for `ca = \"file\"`",
        "The authority's certificate and whatever leads to its root, PEM.",
    ),
    KeyDoc::optional(
        "identity.file.key",
        "absolute path",
        "required for `ca = \"file\"`",
        "The authority's key, PEM, readable by the daemon alone.",
    ),
    KeyDoc::optional(
        "identity.file.bundle",
        "absolute path",
        "the roots are in `certificate`",
        "The roots, PEM.",
    ),
    KeyDoc::optional(
        "identity.csr.request",
        "absolute path",
        "required for `ca = \"csr\"`",
        "Where the request is written when an intermediate is needed, PEM.",
    ),
    KeyDoc::optional(
        "identity.csr.certificate",
        "absolute path",
        "required for `ca = \"csr\"`",
        "Where the operator puts the signed intermediate and whatever leads to its root, PEM.",
    ),
    KeyDoc::optional("identity.vault.address", "`https` URL", "required for `ca = \"vault\"`", "The server."),
    KeyDoc::defaulted("identity.vault.mount", "path", "\"pki\"", "The path of the PKI secrets engine."),
    KeyDoc::optional("identity.vault.namespace", "text", "no namespace", "The namespace of the engine."),
    KeyDoc::optional(
        "identity.vault.ca_file",
        "absolute path",
        "the system's roots",
        "The roots that the server's certificate is checked with, PEM.",
    ),
    KeyDoc::optional(
        "identity.vault.token_file",
        "absolute path",
        "`jwt_file` is used",
        "A file with a token; read anew for each intermediate.",
    ),
    KeyDoc::optional(
        "identity.vault.jwt_file",
        "absolute path",
        "`token_file` is used",
        "A file with a JWT to log in with; read anew for each intermediate.",
    ),
    KeyDoc::defaulted(
        "identity.vault.jwt_mount",
        "path",
        "\"jwt\"",
        "The path of the auth method that `jwt_file` is for.",
    ),
    KeyDoc::optional("identity.vault.role", "text", "required with `jwt_file`", "The role to log in as."),
    KeyDoc::optional(
        "identity.federation.trust_domain",
        "SPIFFE trust domain",
        "required in each `[[identity.federation]]`",
        "A trust domain whose identities are believed too.",
    ),
    KeyDoc::optional(
        "identity.federation.url",
        "`https` URL",
        "required in each `[[identity.federation]]`",
        "Its bundle endpoint.",
    ),
    KeyDoc::optional(
        "identity.federation.profile",
        "`https_web` or `https_spiffe`",
        "required in each `[[identity.federation]]`",
        "How the endpoint's server proves itself: by a certificate of the web, or by an X509-SVID.",
    ),
    KeyDoc::optional(
        "identity.federation.endpoint_id",
        "SPIFFE ID",
        "required for `https_spiffe`",
        "The SPIFFE ID of the endpoint's server.",
    ),
    KeyDoc::optional(
        "identity.federation.bootstrap",
        "absolute path",
        "required for `https_spiffe`",
        "The bundle of the endpoint's trust domain to begin with, in JWKS form; the newest fetched one is used afterwards.",
    ),
    KeyDoc::optional(
        "identity.federation.ca_file",
        "absolute path",
        "the system's roots",
        "For `https_web`: the roots that the server's certificate is checked with, PEM.",
    ),
];

/// Reads the `[identity]` table; `table` is the top of the file, the file's keys hold [`KEYS`], and `own` is the
/// trust domain that it configures.
pub fn settings(table: &Table<'_>, own: &TrustDomain) -> Option<IdentitySettings> {
    let table = &table.sub_table("identity");
    let source: Option<Kind> = table.defaulted("ca");
    let kind: Option<KeyKind> = table.defaulted("key");
    let x509 = span(table, "x509_ttl", Duration::from_mins(1));
    let jwt = span(table, "jwt_ttl", Duration::from_secs(10));
    let intermediate_ttl = span(table, "intermediate_ttl", Duration::from_mins(10));
    let root_ttl = span(table, "root_ttl", Duration::from_hours(24));
    let refresh_hint = span(table, "refresh_hint", Duration::from_secs(1));
    let wit: Option<bool> = table.defaulted("wit");
    let jwt_issuer = url(table, "jwt_issuer");
    let ca = match source {
        Some(Kind::Own) => root_ttl.map(|root_ttl| CaSettings::Own { root_ttl }),
        Some(Kind::File) => file(&table.sub_table("file")),
        Some(Kind::Csr) => csr(&table.sub_table("csr")),
        Some(Kind::Vault) => vault(&table.sub_table("vault")).map(CaSettings::Vault),
        None => None,
    };
    let federation = federation(table, own);
    let (intermediate_ttl, lifetimes) = (intermediate_ttl?, Lifetimes { x509: x509?, jwt: jwt? });
    // It is replaced at half its life, and what it signed last must not outlive it.
    if lifetimes.x509.max(lifetimes.jwt) > intermediate_ttl / 4 {
        let hint = "make it at least four times as long as `x509_ttl` and `jwt_ttl`";
        table.problem("intermediate_ttl", "an intermediate would end with identities alive", Some(hint));
        return None;
    }
    if root_ttl? < intermediate_ttl * 4 {
        let hint = "make it at least four times as long as `intermediate_ttl`";
        table.problem("root_ttl", "a root would end with intermediates alive", Some(hint));
        return None;
    }
    Some(IdentitySettings {
        ca: ca?,
        kind: kind?,
        lifetimes,
        intermediate_ttl,
        refresh_hint: refresh_hint?,
        jwt_issuer,
        wit: wit?,
        federation: federation?,
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Own,
    File,
    Csr,
    Vault,
}

impl Setting for Kind {
    const EXPECTED: &'static str = "an authority";
    const EXAMPLE: &'static str = "\"self\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        value.one_of(&[("self", Self::Own), ("file", Self::File), ("csr", Self::Csr), ("vault", Self::Vault)])
    }
}

#[derive(Clone, Copy)]
enum Proof {
    Web,
    Spiffe,
}

impl Setting for Proof {
    const EXPECTED: &'static str = "a profile";
    const EXAMPLE: &'static str = "\"https_spiffe\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        value.one_of(&[("https_web", Self::Web), ("https_spiffe", Self::Spiffe)])
    }
}

fn span(table: &Table<'_>, key: &str, least: Duration) -> Option<Duration> {
    let span: Span = table.defaulted(key)?;
    if span.get() < least {
        table.problem(
            key,
            format!("`{span}` is too short"),
            Some(&format!("write at least `{}`", Span::new(least))),
        );
        return None;
    }
    Some(span.get())
}

/// An `https` URL without user information, query or fragment; `None` also when it is there and wrong.
fn url(table: &Table<'_>, key: &str) -> Option<String> {
    let text: String = table.optional(key)?;
    let uri: Option<Uri> = text.parse().ok();
    let good =
        uri.is_some_and(|uri| https::place(&uri).is_ok() && uri.query().is_none()) && !text.contains('#');
    if !good {
        let hint = "write `https://host/path`, without user information, query or fragment";
        table.problem(key, format!("`{text}` cannot be used"), Some(hint));
        return None;
    }
    Some(text)
}

fn file(table: &Table<'_>) -> Option<CaSettings> {
    let (certificate, key) = (table.required("certificate"), table.required("key"));
    let bundle = table.optional("bundle");
    Some(CaSettings::File { certificate: certificate?, key: key?, bundle })
}

fn csr(table: &Table<'_>) -> Option<CaSettings> {
    let (request, certificate) = (table.required("request"), table.required("certificate"));
    Some(CaSettings::Csr { request: request?, certificate: certificate? })
}

fn vault(table: &Table<'_>) -> Option<VaultSettings> {
    let address = required_url(table, "address");
    let mount: Option<String> = path(table, "mount");
    let jwt_mount = path(table, "jwt_mount");
    let token: Option<PathBuf> = table.optional("token_file");
    let jwt: Option<PathBuf> = table.optional("jwt_file");
    let login = match (token, jwt) {
        (Some(file), None) => VaultLogin::Token(file),
        (None, Some(file)) => VaultLogin::Jwt { file, mount: jwt_mount?, role: table.required("role")? },
        (Some(_), Some(_)) | (None, None) => {
            table.problem(
                "token_file",
                "there must be one way to log in",
                Some("write either `token_file` or `jwt_file`"),
            );
            return None;
        }
    };
    let (namespace, ca_file) = (table.optional("namespace"), table.optional("ca_file"));
    Some(VaultSettings { address: address?, mount: mount?, namespace, ca_file, login })
}

/// A path below `/v1/`: it becomes part of a URL.
fn path(table: &Table<'_>, key: &str) -> Option<String> {
    let text: String = table.defaulted(key)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/' | b'.');
    let whole = !text.starts_with('/')
        && !text.ends_with('/')
        && !text.split('/').any(|part| matches!(part, "" | "." | ".."));
    if whole && text.bytes().all(allowed) {
        return Some(text);
    }
    table.problem(key, format!("`{text}` is no path of a mount"), Some("write it as in `pki/intermediate`"));
    None
}

fn required_url(table: &Table<'_>, key: &str) -> Option<String> {
    table.required::<String>(key)?;
    url(table, key)
}

fn federation(table: &Table<'_>, own: &TrustDomain) -> Option<Vec<Relation>> {
    let entries = table.tables("federation");
    let mut relations: Vec<Relation> = Vec::with_capacity(entries.len());
    let mut whole = true;
    for entry in &entries {
        let Some(relation) = relation(entry) else {
            whole = false;
            continue;
        };
        let twice = relations.iter().any(|other| other.trust_domain == relation.trust_domain);
        if twice || relation.trust_domain == *own {
            let what = if twice { "stands here twice" } else { "is our own" };
            entry.problem("trust_domain", format!("`{}` {what}", relation.trust_domain), None);
            whole = false;
        }
        relations.push(relation);
    }
    if entries.len() > limits::FEDERATION_MAX {
        table.problem(
            "federation",
            format!("there are more than {} relations", limits::FEDERATION_MAX),
            None,
        );
        whole = false;
    }
    whole.then_some(relations)
}

fn relation(entry: &Table<'_>) -> Option<Relation> {
    let trust_domain: Option<TrustDomain> = entry.required("trust_domain");
    let url = required_url(entry, "url");
    let profile = match entry.required::<Proof>("profile")? {
        Proof::Web => {
            for key in ["endpoint_id", "bootstrap"] {
                if entry.optional::<String>(key).is_some() {
                    entry.problem(key, "has no meaning for `https_web`", Some("remove it"));
                }
            }
            Profile::Web { ca_file: entry.optional("ca_file") }
        }
        Proof::Spiffe => {
            let (id, bootstrap) = (entry.required::<String>("endpoint_id"), entry.required("bootstrap"));
            let endpoint = match SpiffeId::new(&id?) {
                Ok(id) => id,
                Err(error) => {
                    entry.problem("endpoint_id", error.to_string(), None);
                    return None;
                }
            };
            Profile::Spiffe { endpoint, bootstrap: bootstrap? }
        }
    };
    Some(Relation { trust_domain: trust_domain?, url: url?, profile })
}
