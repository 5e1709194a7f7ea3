//! Services and operations as data: what an upstream is, what can be done there, how a credential is placed.
//!
//! Parsing a service file and matching a request is `writ-catalog`'s; dialling and placing is `writ-proxy`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::argument::{ArgumentRule, ArgumentSource, Arguments};
use crate::mcp::McpRule;
use crate::mode::Mode;
use crate::name::{AgentName, HostName, OperationName, SecretName, ServiceName};
use crate::obligation::Label;
use crate::spiffe::SpiffeId;

/// A named upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// The names by which agents know it.
    pub hosts: Vec<HostPattern>,
    /// Literal addresses by which agents may reach it; empty for almost every service.
    pub addresses: Vec<IpAddr>,
    /// The ports on which agents may reach it.
    pub ports: Vec<u16>,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Whether the label that a pattern of `hosts` stands for is the first segment of the path: `bucket.s3.test/key` is
    /// `s3.test/bucket/key`.
    pub virtual_hosts: bool,
    /// Whether what policy refuses there is refused.
    pub mode: Mode,
    /// How the real upstream is found and verified.
    pub upstream: Upstream,
    /// What credential is lent, and where it goes; `None` when the service needs none.
    pub credential: Option<CredentialRule>,
    /// What can be done there, in the order of the file; the first that matches wins.
    pub operations: Vec<Arc<OperationRule>>,
}

/// A host name, or every name one label below it (`*.example.com`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Exactly this name.
    Exact(HostName),
    /// One label and this suffix.
    Below(HostName),
}

impl HostPattern {
    /// Whether the pattern covers the name.
    pub fn matches(&self, name: &HostName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Below(suffix) => {
                name.as_str().split_once('.').is_some_and(|(_, parent)| parent == suffix.as_str())
            }
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

/// What is spoken at a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/2 inside TLS; each request is an action.
    Https,
    /// HTTP without TLS; each request is an action, and no credential is lent unless the file says so.
    Http,
    /// Anything; the connection is one action, relayed without being read.
    Tcp,
    /// Anything; the kernel lets the connection through to the real address untouched. No relay, no credential.
    Pass,
    /// MCP over the standard input and output of a program that `writ mcp` starts; each message is an action. Nothing on
    /// the network: its one host is its name, at port 0.
    Stdio,
}

/// How the real upstream is found and verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Upstream {
    /// Dial this instead of the name the agent asked for: private installs and tests.
    pub address: Option<UpstreamAddress>,
    /// Trust these roots (PEM) and no others; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// It is a governed run: dial it with mutual TLS, and believe this identity and no other.
    pub peer: Option<AgentPeer>,
    /// Lend the credential even though the channel is not TLS. Dangerous; recorded at every start.
    pub danger_plaintext_credential: bool,
}

/// A governed run as a peer in TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AgentPeer {
    /// Any run of an agent of the same trust domain: `agent:NAME`.
    Agent(AgentName),
    /// Every run of an agent, `spiffe://TRUST-DOMAIN/agent/NAME`, or one SPIFFE ID exactly.
    Id(SpiffeId),
}

impl AgentPeer {
    /// Whether this identity is meant; `own` is the trust domain of who asks.
    pub fn is(&self, id: &SpiffeId, own: &str) -> bool {
        match self {
            Self::Agent(name) => id.trust_domain() == own && run_of(id) == Some(name.as_str()),
            Self::Id(wanted) if wanted == id => true,
            Self::Id(wanted) => {
                let of_agent = wanted.path().strip_prefix("/agent/").filter(|name| !name.contains('/'));
                wanted.trust_domain() == id.trust_domain() && of_agent.is_some() && run_of(id) == of_agent
            }
        }
    }
}

/// The agent whose run this is the identity of.
fn run_of(id: &SpiffeId) -> Option<&str> {
    let (name, run) = id.path().strip_prefix("/agent/")?.split_once("/run/")?;
    (!name.contains('/') && !run.contains('/')).then_some(name)
}

impl fmt::Display for AgentPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(name) => write!(f, "agent:{name}"),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl FromStr for AgentPeer {
    type Err = AgentPeerError;

    fn from_str(text: &str) -> Result<Self, AgentPeerError> {
        let error = || AgentPeerError(text.to_owned());
        match text.strip_prefix("agent:") {
            Some(name) => AgentName::new(name).map(Self::Agent).map_err(|_| error()),
            None => SpiffeId::new(text).map(Self::Id).map_err(|_| error()),
        }
    }
}

/// Text that names no governed peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no run; hint: write `agent:NAME` or a SPIFFE ID")]
pub struct AgentPeerError(String);

/// An address to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// An IP address and port, dialled as it is.
    Socket(SocketAddr),
    /// Another name to look up, and a port.
    Name(HostName, u16),
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// What credential a service needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRule {
    /// The entry of the secret store.
    pub secret: SecretName,
    /// Where it goes.
    pub place: Placement,
}

/// Where in a request a credential goes. The place is overwritten, whatever the agent put there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// `Authorization: Bearer SECRET` (RFC 6750 section 2.1).
    Bearer,
    /// `NAME: SECRET`.
    Header(String),
    /// `Authorization: Basic base64(USER:SECRET)` (RFC 7617).
    Basic {
        /// The user name.
        user: String,
    },
    /// `?NAME=SECRET`, percent-encoded.
    Query(String),
    /// `Cookie: NAME=SECRET` (RFC 6265).
    Cookie(String),
}

/// One operation: which requests it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRule {
    /// Its name, `service/operation`.
    pub name: OperationName,
    /// What it does.
    pub effect: Effect,
    /// Methods; empty means any.
    pub methods: Vec<String>,
    /// The path: literal segments, `{name}` for one segment, `{name...}` at the end for the rest. Unused for
    /// services whose connection is one action.
    pub path: PathTemplate,
    /// What else a request must have.
    pub when: Conditions,
    /// Its arguments from query, headers and body, by name; none has the name of one in the path.
    pub arguments: BTreeMap<String, ArgumentRule>,
    /// The GraphQL root field that it is; the path is then shared with other operations.
    pub graphql: Option<RootField>,
    /// What a session that does it acquires.
    pub labels: BTreeSet<Label>,
    /// What it is of an MCP server; the path is then shared with other operations.
    pub mcp: Option<McpRule>,
}

impl OperationRule {
    /// Whether the request's body must be read to know the operation and its arguments.
    pub fn reads_body(&self) -> bool {
        self.graphql.is_some()
            || self.mcp.is_some()
            || self.reads_form()
            || self.arguments.values().any(|rule| rule.source.in_body())
    }

    /// Whether it is told by the fields of a form: the body of a `POST`, and the query of a `GET`.
    pub fn reads_form(&self) -> bool {
        let in_form = |rule: &ArgumentRule| matches!(rule.source, ArgumentSource::Form(_));
        !self.when.form.is_empty() || self.arguments.values().any(in_form)
    }

    /// Whether its arguments are in the commands of a git push, which stand before the pack.
    pub fn reads_push(&self) -> bool {
        self.arguments.values().any(|rule| matches!(rule.source, ArgumentSource::Push(_)))
    }
}

/// What a request must have besides its method and path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Query parameters by name.
    pub query: BTreeMap<String, Wanted>,
    /// The only query parameters that there may be, those of `query` and of arguments included; any if `None`.
    pub parameters: Option<BTreeSet<String>>,
    /// Headers by name in lower case.
    pub headers: BTreeMap<String, Wanted>,
    /// Fields of a form with their values; the path is then shared with other operations.
    pub form: BTreeMap<String, String>,
}

/// What is wanted of one part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It occurs once, with exactly this value.
    Value(String),
    /// It occurs once.
    Present,
    /// It does not occur.
    Absent,
}

/// A field of the root of a GraphQL schema: `mutation createIssue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootField {
    /// Of which root.
    pub root: Root,
    /// Its name.
    pub name: String,
}

impl fmt::Display for RootField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.root.as_str(), self.name)
    }
}

/// The roots of a GraphQL schema that are asked over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// What is read.
    Query,
    /// What is done.
    Mutation,
}

impl Root {
    /// The word in documents and service files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Mutation => "mutation",
        }
    }
}

/// A path template in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    /// The text as written.
    pub text: String,
    /// Its segments.
    pub segments: Vec<PathSegment>,
}

/// One segment of a path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathSegment {
    /// Exactly this text.
    Literal(String),
    /// One segment, kept as the argument of this name; `suffix` is literal text after it (`{repo}.git`).
    Argument {
        /// The argument's name.
        name: String,
        /// Literal text that must follow within the segment.
        suffix: String,
    },
    /// Two arguments in one segment with an encoded slash between them: `{scope}%2F{package}`.
    Pair(String, String),
    /// One segment in which slashes may be encoded, kept with them as the argument of this name: `{object%2F...}`. Elsewhere
    /// than here and in a pair an encoded slash is refused.
    Encoded(String),
    /// All remaining segments (at least one), kept as the argument of this name.
    Rest(String),
}

/// What an operation does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Nothing changes.
    Read,
    /// Something is made or changed.
    Write,
    /// Something is gone afterwards.
    Delete,
    /// Something runs.
    Execute,
    /// A connection whose content is not read.
    Connect,
}

impl Effect {
    /// Every effect.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Delete, Self::Execute, Self::Connect];

    /// The word in files, policies and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Execute => "execute",
            Self::Connect => "connect",
        }
    }
}

/// An operation as one request performs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The rule that matched.
    pub rule: Arc<OperationRule>,
    /// Its arguments, decoded and canonical.
    pub arguments: Arguments,
}

/// The part of a request that decides which operation it is.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method, upper case as sent.
    pub method: &'a str,
    /// The path as sent, before any decoding; begins with `/`.
    pub path: &'a str,
    /// The query as sent, without `?`.
    pub query: Option<&'a str>,
    /// Every header as sent.
    pub headers: Headers<'a>,
}

/// Header lines, each a name and its value. Prints as the names alone: values may be secret.
#[derive(Clone, Copy, Default)]
pub struct Headers<'a>(pub &'a [(&'a str, &'a [u8])]);

impl<'a> Headers<'a> {
    /// The values of each line of this name, which is of lower case. Underscores count as hyphens, since gateways do not
    /// tell them apart.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let is = move |(sent, _): &&(&str, &[u8])| {
            let sent = sent.bytes().map(|b| if b == b'_' { b'-' } else { b.to_ascii_lowercase() });
            sent.eq(name.bytes())
        };
        self.0.iter().filter(is).map(|(_, value)| *value)
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// The rules that a request's head leads to, chosen once: its operation is one of these, whatever its body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// One, or the operations of GraphQL or MCP that share a path. With the arguments of the path alone.
    pub candidates: Vec<Operation>,
    /// Whether the body must be read before the operation is known.
    pub reads_body: bool,
}

/// How much of a body must be read before its request can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed {
    /// None of it.
    Nothing,
    /// The commands of a git push; the pack after them need not be held.
    PushCommands,
    /// All of it.
    All,
}

/// The one that the head alone tells.
impl From<Operation> for Selection {
    fn from(operation: Operation) -> Self {
        Self { candidates: vec![operation], reads_body: false }
    }
}

impl Selection {
    /// How much of the body must be read.
    pub fn needed(&self) -> Needed {
        match self.candidates.first() {
            _ if !self.reads_body => Needed::Nothing,
            Some(first) if first.rule.reads_push() => Needed::PushCommands,
            _ => Needed::All,
        }
    }

    /// The operation, as far as the head tells, if there is no other that it could be.
    pub fn only(&self) -> Option<&Operation> {
        let (first, rest) = self.candidates.split_first()?;
        rest.iter().all(|other| other.rule.name == first.rule.name).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_run_of_the_agent_that_was_meant_and_nothing_near_it() {
        let run = |text: &str| SpiffeId::new(text).unwrap();
        let good = run("spiffe://a.test/agent/coder/run/01J");
        for meant in ["agent:coder", "spiffe://a.test/agent/coder", "spiffe://a.test/agent/coder/run/01J"] {
            let meant: AgentPeer = meant.parse().unwrap();
            assert!(meant.is(&good, "a.test"), "{meant}");
            for near in [
                "spiffe://b.test/agent/coder/run/01J",
                "spiffe://a.test/agent/coder2/run/01J",
                "spiffe://a.test/agent/coder",
                "spiffe://a.test/agent/coder/run/01J/x",
                "spiffe://a.test/x/agent/coder/run/01J",
            ] {
                let same = meant.to_string() == near;
                assert!(same || !meant.is(&run(near), "a.test"), "{meant} {near}");
            }
        }
        assert!(!"agent:coder".parse::<AgentPeer>().unwrap().is(&good, "b.test"));
        assert!("coder".parse::<AgentPeer>().is_err() && "agent:".parse::<AgentPeer>().is_err());
    }
}
