//! The `[tokens]` table of `writd.toml`: for whom tokens are issued. What it does not list is not issued.

use std::collections::BTreeMap;
use std::time::Duration;

use writ_core::config::{KeyDoc, Table};
use writ_core::units::Span;
use writ_core::{AgentName, ServiceName, SpiffeId, TrustDomain};
use writ_gate::limits;

use super::Scopes;
use super::scopes::is_scope;

/// Every key, with its meaning.
pub const KEYS: &[KeyDoc] = &[
    KeyDoc::optional(
        "tokens.subject_audiences",
        "list of texts",
        "`identity.jwt_issuer` alone",
        "The audiences that a human's token may be for when it is exchanged. Its issuer's `audiences` must list them too.",
    ),
    KeyDoc::optional(
        "tokens.audience.audience",
        "text",
        "required in each `[[tokens.audience]]`",
        "Whom tokens are issued for, as their `aud` says it. For access tokens the identifier of an API; the trust domain \
         itself for transaction tokens. Nothing is issued for an audience that is not listed.",
    ),
    KeyDoc::optional(
        "tokens.audience.scopes",
        "list of scopes",
        "required in each `[[tokens.audience]]`",
        "The scopes that a token for it may have.",
    ),
    KeyDoc::defaulted(
        "tokens.audience.max_ttl",
        "length of time",
        "\"5m\"",
        "How long a token for it holds at most, up to an hour. It never outlives the human's token, the run's proof or the \
         session.",
    ),
    KeyDoc::optional(
        "tokens.audience.agents",
        "list of agent names",
        "runs of every agent",
        "The agents whose runs may have tokens for it.",
    ),
    KeyDoc::optional(
        "tokens.audience.workload",
        "SPIFFE ID",
        "nobody may",
        "The workload that is the audience: with a JWT-SVID it may ask whether tokens for it are active, and exchange them. \
         `spiffe://example.org/agent/NAME` stands for every run of that agent.",
    ),
    KeyDoc::optional(
        "tokens.audience.service",
        "service name",
        "a session that is narrowed gets only scopes that its grants name word for word",
        "The service that the audience is: a session that is narrowed to other services gets no token for it.",
    ),
    KeyDoc::defaulted(
        "tokens.audience.groups",
        "`true` or `false`",
        "false",
        "Whether access tokens for it say the human's groups.",
    ),
];

/// For whom tokens are issued, and on the strength of which.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenSettings {
    /// The audiences of humans' tokens; empty for the issuer's own name alone.
    pub subject_audiences: Vec<String>,
    /// Whom tokens are for.
    pub audiences: Audiences,
}

/// One whom tokens are issued for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    /// What a token for it may be good for.
    pub scopes: Scopes,
    /// How long a token holds at most.
    pub max_ttl: Duration,
    /// The agents whose runs may have one; empty for all.
    pub agents: Vec<AgentName>,
    /// The workload that it is.
    pub workload: Option<SpiffeId>,
    /// The service that it is.
    pub service: Option<ServiceName>,
    /// Whether tokens name groups.
    pub groups: bool,
}

/// All whom tokens are issued for, by name. Names are compared byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audiences(BTreeMap<String, Audience>);

impl Audiences {
    /// The audience of this name.
    pub fn get(&self, name: &str) -> Option<&Audience> {
        self.0.get(name)
    }

    /// Whether there is none, so that nothing is ever issued.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this workload is the audience of that name: itself, or a run of the agent that it is.
    pub fn is_workload(&self, name: &str, id: &SpiffeId) -> bool {
        let workload = self.get(name).and_then(|audience| audience.workload.as_ref());
        workload.is_some_and(|workload| {
            let runs = || id.as_str().strip_prefix(workload.as_str())?.strip_prefix("/run/");
            let is_agent = workload.path().strip_prefix("/agent/").is_some_and(|name| !name.contains('/'));
            id == workload || (is_agent && runs().is_some_and(|run| !run.contains('/')))
        })
    }

    /// Whether this workload is some audience.
    pub fn has_workload(&self, id: &SpiffeId) -> bool {
        self.0.keys().any(|name| self.is_workload(name, id))
    }

    /// Every scope of every audience.
    pub fn scopes(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.0.values().flat_map(|audience| audience.scopes.iter()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Audience {
    /// Whether runs of this agent may have tokens for it.
    pub fn admits(&self, agent: &AgentName) -> bool {
        self.agents.is_empty() || self.agents.contains(agent)
    }
}

/// Reads the `[tokens]` table; `table` is the top of the file, whose keys hold [`KEYS`] and those of `[identity]`, and
/// `own` is the trust domain that it configures.
pub fn token_settings(table: &Table<'_>, own: &TrustDomain) -> Option<TokenSettings> {
    let tokens = table.sub_table("tokens");
    let issuer: Option<String> = table.sub_table("identity").optional("jwt_issuer");
    if tokens.is_present() && issuer.is_none() {
        let hint = Some(
            "set `identity.jwt_issuer`: tokens name their issuer, and their readers find its keys there",
        );
        tokens.problem("", "tokens need an issuer", hint);
        return None;
    }
    let subject_audiences: Vec<String> = tokens.list("subject_audiences");
    let mut audiences = BTreeMap::new();
    let mut whole = true;
    for entry in tokens.tables("audience") {
        let Some((name, audience)) = audience(&entry, own) else {
            whole = false;
            continue;
        };
        if issuer.as_ref() == Some(&name) {
            entry.problem("audience", "the issuer is no audience of its own tokens", None);
            whole = false;
        }
        if audiences.contains_key(&name) {
            entry.problem("audience", format!("`{name}` stands twice"), Some("remove one"));
            whole = false;
        }
        audiences.insert(name, audience);
    }
    if audiences.len() > limits::TOKEN_AUDIENCES_MAX {
        tokens.problem("audience", format!("more than {} audiences", limits::TOKEN_AUDIENCES_MAX), None);
        return None;
    }
    whole.then_some(TokenSettings { subject_audiences, audiences: Audiences(audiences) })
}

fn audience(entry: &Table<'_>, own: &TrustDomain) -> Option<(String, Audience)> {
    let name: Option<String> = entry.required("audience");
    let max_ttl: Option<Span> = entry.defaulted("max_ttl");
    let groups: Option<bool> = entry.defaulted("groups");
    let agents: Vec<AgentName> = entry.list("agents");
    let service: Option<ServiceName> = entry.optional("service");
    let workload = workload(entry);
    let scopes = scopes(entry);
    let name = name?;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
        entry.problem("audience", "an audience is a URI or a name, without spaces", None);
        return None;
    }
    let max_ttl = max_ttl?.get();
    if max_ttl < Duration::from_secs(1) || max_ttl > limits::ISSUED_TOKEN_TTL_MAX {
        let hint = format!("write `1s` to `{}`", Span::new(limits::ISSUED_TOKEN_TTL_MAX));
        entry.problem("max_ttl", "a token cannot hold that long", Some(&hint));
        return None;
    }
    let groups = groups?;
    if name == own.as_str() && (groups || workload.is_some() || service.is_some()) {
        let hint = Some("remove `groups`, `workload` and `service`: they are for access tokens");
        entry.problem("audience", "the trust domain is the audience of transaction tokens", hint);
        return None;
    }
    Some((name, Audience { scopes: scopes?, max_ttl, agents, workload, service, groups }))
}

fn scopes(entry: &Table<'_>) -> Option<Scopes> {
    let listed = entry.list_placed::<String>("scopes");
    if listed.is_empty() {
        let hint = Some("list what a token may be good for, as in `scopes = [\"read\"]`");
        entry.problem("scopes", "a token for it could never be good for anything", hint);
        return None;
    }
    if let Some(bad) = listed.iter().find(|placed| !is_scope(&placed.value)) {
        entry.problem("scopes", format!("`{}` is no scope", bad.value), Some("write one word for each"));
        return None;
    }
    let words: Vec<String> = listed.into_iter().map(|placed| placed.value).collect();
    Scopes::read(&words.join(" "))
}

/// The workload, if there is one; `None` also when it is wrong, which is then a problem.
fn workload(entry: &Table<'_>) -> Option<SpiffeId> {
    let text: String = entry.optional("workload")?;
    match SpiffeId::new(&text) {
        Ok(id) if id.path().is_empty() => {
            let hint = Some("add a path, as in `spiffe://example.org/agent/api`");
            entry.problem("workload", format!("`{text}` names a trust domain and no workload"), hint);
            None
        }
        Ok(id) => Some(id),
        Err(error) => {
            entry.problem("workload", error.to_string(), None);
            None
        }
    }
}
