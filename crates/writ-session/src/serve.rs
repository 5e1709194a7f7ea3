//! The `[[serve]]` blocks of an agent's file: where callers of its runs come in, and how they are proven.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use writ_core::Serve;
use writ_core::config::{KeyDoc, Setting, Table, Value, Wrong};
use writ_core::serve::{OpenPath, ServeTls, TokenPlace};
use writ_core::service::AgentPeer;

/// Every key of a block.
pub const KEYS: [KeyDoc; 11] =
    [LISTEN, TO, TLS, CERTIFICATE, KEY, AUDIENCE, ISSUER, TOKEN, OPEN, AGENTS, UNGOVERNED];

const LISTEN: KeyDoc = KeyDoc::required(
    "serve.listen",
    "IP address and port",
    "Where callers of this agent connect. Writ listens there, and takes their tokens before the agent sees a request.",
);
const TO: KeyDoc = KeyDoc::required(
    "serve.to",
    "port",
    "The port on 127.0.0.1 where the agent's own server listens. What listens there must belong to a run of this agent.",
);
const TLS: KeyDoc = KeyDoc::defaulted(
    "serve.tls",
    "`none`, `files` or `spiffe`",
    "\"none\"",
    "How callers' connections are protected: not at all, with the certificate of `certificate` and `key`, or with the \
     identities of runs on both sides. Without TLS the address must be on loopback.",
);
const CERTIFICATE: KeyDoc = KeyDoc::optional(
    "serve.certificate",
    "absolute path",
    "none; required for `tls = \"files\"`",
    "The server's certificate chain, PEM. Read again when it changes.",
);
const KEY: KeyDoc = KeyDoc::optional(
    "serve.key",
    "absolute path",
    "none; required for `tls = \"files\"`",
    "The key of the certificate, PEM.",
);
const AUDIENCE: KeyDoc = KeyDoc::optional(
    "serve.audience",
    "text",
    "no token is taken: only open paths, and agents over `tls = \"spiffe\"`",
    "For whom a caller's token must be meant.",
);
const ISSUER: KeyDoc = KeyDoc::optional(
    "serve.issuer",
    "URL",
    "every issuer of `writd.toml`",
    "The only issuer whose tokens are taken.",
);
const TOKEN: KeyDoc = KeyDoc::optional(
    "serve.token_header",
    "name of a header",
    "`Authorization`, as a Bearer token",
    "Where a request carries its caller's token. A handle takes its place there.",
);
const OPEN: KeyDoc = KeyDoc::optional(
    "serve.open",
    "list of paths; one that ends in `/*` covers all below",
    "none",
    "Paths that may be asked for without a token. The run then has no human, and can do nothing for whoever asks.",
);
const AGENTS: KeyDoc = KeyDoc::optional(
    "serve.agents",
    "list of `agent:NAME` or SPIFFE IDs; `spiffe://TRUST-DOMAIN/agent/NAME` is every run of it",
    "none",
    "With `tls = \"spiffe\"`: the agents that may call. They act for the human for whom they call.",
);
const UNGOVERNED: KeyDoc = KeyDoc::defaulted(
    "serve.ungoverned",
    "`true` or `false`",
    "false",
    "With `tls = \"spiffe\"`: also let in peers that show no identity of an agent. They still need a token.",
);

/// The blocks of a file. What is wrong is among the table's problems.
pub fn read(table: &Table<'_>) -> Vec<Serve> {
    let mut taken = BTreeSet::new();
    let tables = table.tables("serve");
    let mut blocks = Vec::with_capacity(tables.len());
    for entry in &tables {
        let Some(serve) = block(entry) else { continue };
        if !taken.insert(serve.listen) {
            entry.problem("listen", format!("two blocks listen on {}", serve.listen), None);
        }
        blocks.push(serve);
    }
    blocks
}

fn block(table: &Table<'_>) -> Option<Serve> {
    let listen = table.required::<SocketAddr>("listen");
    let to = table.required::<u16>("to");
    let tls = tls(table);
    let audience = table.optional::<String>("audience");
    let issuer = table.optional::<String>("issuer");
    let token = table
        .optional::<Header>("token_header")
        .map_or(TokenPlace::Bearer, |name| TokenPlace::Header(name.0));
    let open: Vec<_> = table.list::<Open>("open").into_iter().map(|open| open.0).collect();
    let agents = table.list::<AgentPeer>("agents");
    let ungoverned = table.defaulted("ungoverned");
    let serve = Serve {
        listen: listen?,
        to: to?,
        tls: tls?,
        audience,
        issuer,
        token,
        open,
        agents,
        ungoverned: ungoverned?,
    };
    check(table, &serve);
    Some(serve)
}

fn tls(table: &Table<'_>) -> Option<ServeTls> {
    let kind = table.defaulted::<Kind>("tls")?;
    let (certificate, key) = (table.optional::<PathBuf>("certificate"), table.optional::<PathBuf>("key"));
    match (kind, certificate, key) {
        (Kind::Files, Some(certificate), Some(key)) => return Some(ServeTls::Files { certificate, key }),
        (Kind::Files, ..) => {
            table.problem(
                "tls",
                "`files` needs `certificate` and `key`",
                Some("name both, by absolute path"),
            );
            return None;
        }
        (_, None, None) => {}
        (_, certificate, _) => {
            let key = if certificate.is_some() { "certificate" } else { "key" };
            table.problem(key, "is used with `tls = \"files\"` only", None);
        }
    }
    Some(if kind == Kind::Spiffe { ServeTls::Spiffe } else { ServeTls::None })
}

/// What does not go together.
fn check(table: &Table<'_>, serve: &Serve) {
    let Serve { listen, to, tls, audience, issuer, open, agents, ungoverned, .. } = serve;
    if *to == 0 {
        table.problem("to", "0 is no port", None);
    }
    if listen.port() == 0 {
        table.problem("listen", "a door needs a port that callers can know", None);
    }
    if listen.port() == *to && covers_loopback(listen.ip()) {
        let hint = "let the agent's server listen on another port";
        table.problem("to", "is the port of `listen`, so the two could not both listen", Some(hint));
    }
    if *tls == ServeTls::None && !listen.ip().is_loopback() {
        let hint = "say `tls = \"files\"`, or listen on 127.0.0.1 behind something that ends TLS";
        table.problem("tls", "tokens would travel in the clear", Some(hint));
    }
    if audience.is_none() && *tls != ServeTls::Spiffe && open.is_empty() {
        let hint = "name the `audience` of callers' tokens";
        table.problem("audience", "nobody could ever come in", Some(hint));
    }
    if audience.is_none() && issuer.is_some() {
        table.problem("issuer", "is used with `audience` only", None);
    }
    if *tls == ServeTls::Spiffe && agents.is_empty() && audience.is_none() {
        table.problem("agents", "nobody could ever come in", Some("name the agents that may call"));
    }
    if !agents.is_empty() && *tls != ServeTls::Spiffe {
        table.problem("agents", "is used with `tls = \"spiffe\"` only", None);
    }
    if *ungoverned && *tls != ServeTls::Spiffe {
        table.problem("ungoverned", "is used with `tls = \"spiffe\"` only", None);
    }
}

fn covers_loopback(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Files,
    Spiffe,
}

impl Setting for Kind {
    const EXPECTED: &'static str = "a way to protect connections";
    const EXAMPLE: &'static str = "\"files\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        value.one_of(&[("none", Self::None), ("files", Self::Files), ("spiffe", Self::Spiffe)])
    }
}

struct Header(String);

impl Setting for Header {
    const EXPECTED: &'static str = "the name of a header";
    const EXAMPLE: &'static str = "\"x-user-token\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let name = value.text()?.to_ascii_lowercase();
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        // Those that frame or route a request, or belong to one hop, cannot carry a token.
        let reserved = [
            "authorization",
            "connection",
            "content-length",
            "host",
            "te",
            "traceparent",
            "tracestate",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ];
        if name.is_empty() || !name.bytes().all(legal) {
            return Err(Wrong::content("it is no header's name"));
        }
        if reserved.contains(&name.as_str()) {
            return Err(Wrong::content(format!(
                "`{name}` cannot carry a token of its own; hint: leave the key out for \
                 `Authorization: Bearer`"
            )));
        }
        Ok(Self(name))
    }
}

struct Open(OpenPath);

impl Setting for Open {
    const EXPECTED: &'static str = "a path";
    const EXAMPLE: &'static str = "\"/health\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let text = value.text()?;
        let path = match text.strip_suffix('*') {
            Some(parent) if parent.ends_with('/') => OpenPath::Below(parent.to_owned()),
            Some(_) => {
                return Err(Wrong::content("`*` stands for all below, after a `/`; hint: as in `/public/*`"));
            }
            None => OpenPath::Exact(text.to_owned()),
        };
        let (OpenPath::Exact(shown) | OpenPath::Below(shown)) = &path;
        // What it would cover must be something that can be asked for.
        if shown.starts_with('/') && !shown.contains(['*', '?', '#']) && path.covers(shown) {
            Ok(Self(path))
        } else {
            Err(Wrong::content("a path begins with `/` and has no `%`, `..`, `//`, `?` or `#`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use writ_core::config::{self, Problems};

    use super::*;

    fn read_text(text: &str) -> Result<Vec<Serve>, String> {
        let mut problems = Problems::default();
        let read = config::read("agents/coder.toml", text, &KEYS, &mut problems, |table| Some(read(table)));
        problems.or(read.unwrap_or_default()).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_full_block_is_read() {
        let text = "[[serve]]\nlisten = \"0.0.0.0:8443\"\nto = 8080\ntls = \"files\"\ncertificate = \"/c.pem\"\n\
                    key = \"/k.pem\"\naudience = \"api://coder\"\nissuer = \"https://id.example\"\n\
                    token_header = \"X-User-Token\"\nopen = [\"/health\", \"/public/*\"]\n\
                    [[serve]]\nlisten = \"127.0.0.1:9000\"\nto = 8080\naudience = \"a\"\n";
        let blocks = read_text(text).unwrap();
        assert_eq!(blocks[0].tls, ServeTls::Files { certificate: "/c.pem".into(), key: "/k.pem".into() });
        assert_eq!(blocks[0].token, TokenPlace::Header("x-user-token".into()));
        assert_eq!(blocks[0].open, [OpenPath::Exact("/health".into()), OpenPath::Below("/public/".into())]);
        assert_eq!((&blocks[1].tls, &blocks[1].token), (&ServeTls::None, &TokenPlace::Bearer));
        assert_eq!(read_text("").unwrap(), []);
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_its_line() {
        let base = "[[serve]]\nlisten = \"127.0.0.1:9000\"\nto = 8080\n";
        for (text, part) in [
            (base.to_owned(), "nobody could ever come in"),
            (base.replace("127.0.0.1", "0.0.0.0") + "audience = \"a\"", "in the clear"),
            (base.replace("8080", "9000") + "audience = \"a\"", "could not both listen"),
            (base.replace("8080", "0") + "audience = \"a\"", "0 is no port"),
            (base.to_owned() + "tls = \"files\"\naudience = \"a\"", "needs `certificate` and `key`"),
            (base.to_owned() + "key = \"/k\"\naudience = \"a\"", "agents/coder.toml:4"),
            (base.to_owned() + "ungoverned = true\naudience = \"a\"", "`tls = \"spiffe\"` only"),
            (base.to_owned() + "issuer = \"a\"\nopen = [\"/x\"]", "with `audience` only"),
            (base.to_owned() + "audience = \"a\"\ntoken_header = \"Host\"", "cannot carry a token"),
            (base.to_owned() + "open = [\"/a/../b\"]", "begins with `/`"),
            (base.to_owned() + "open = [\"/a*\"]", "stands for all below"),
            (format!("{base}audience = \"a\"\n{base}audience = \"a\""), "two blocks listen"),
        ] {
            let problems = read_text(&text).unwrap_err();
            assert!(problems.contains(part), "{part} not in:\n{problems}");
        }
    }
}
