//! Agents as configured: `agents/NAME.toml`.
//!
//! What an agent may *do* is policy's; what is here is which processes it is, for whom it acts, how its runs are started
//! and how long they may last. A file without `[[match]]` means any program that a human starts with `writ run --agent
//! NAME`: then which agent it is, is that human's word, bounded by what the human may do.

pub mod govern;
mod matching;
mod pins;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use writ_core::config::{self, KeyDoc, Placed, Problems, Table};
use writ_core::units::Span;
use writ_core::{ActsFor, AgentName, HumanId, Mode, Serve, ServiceName};
use writ_gate::limits;

use crate::account::{Account, AccountError};
use crate::error::Error;
use crate::serve;
pub(crate) use govern::Govern;
pub use matching::{admits, matching};
pub use pins::{Digest, Pinned, Pins, Seen, pinned};
use rule::refuse_overlaps;
pub use rule::{Block, Pin};

/// Every key of an agent's file.
pub const KEYS: &[KeyDoc] = &config::join::<{ OWN.len() + serve::KEYS.len() }>(&[OWN, &serve::KEYS]);

const OWN: &[KeyDoc] = &[
    KeyDoc::required("owner", "text", "Who answers for this agent: a person or team, for the reader of records."),
    KeyDoc::required(
        "match.selectors",
        "list of selectors",
        "Facts that must all hold of a process for it to be this agent; blocks are alternatives. Without any block the \
         agent is whatever is started as it.",
    ),
    KeyDoc::optional(
        "pin",
        "list of `sha256:...`, or `first-use`",
        "any digest",
        "What the agent may run: digests of its program, or of the script behind an interpreter. With `first-use` the \
         first is trusted, and another one waits for `writ agent approve`.",
    ),
    KeyDoc::defaulted(
        "mode",
        "`enforce` or `observe`",
        "\"enforce\"",
        "`observe`: what policy refuses this agent is done all the same, and recorded with the reason. For trying policies; every \
         start says so.",
    ),
    KeyDoc::defaulted(
        "acts_for",
        "`starter`, `caller` or `owner`",
        "\"starter\"",
        "For whom its runs act: who started them, whose request they serve, or `owner_human`.",
    ),
    KeyDoc::optional(
        "owner_human",
        "human id",
        "nobody; required for `acts_for = \"owner\"`",
        "The human who answers for autonomous runs, and whom `@approve(\"owner\")` asks.",
    ),
    KeyDoc::optional(
        "mcp",
        "service name",
        "it is no MCP server",
        "The `stdio` service that its runs are the server of. They are started with `writ mcp`, and every call is decided.",
    ),
    KeyDoc::optional("may_start", "list of agent names", "none", "Agents that its runs may start below themselves."),
    govern::KEY,
    KeyDoc::defaulted("ttl_max", "length of time", "\"1h\"", "The longest time limit of one session."),
    KeyDoc::optional(
        "user",
        "user name, or uid as text",
        "the caller's user; a caller that is root is refused",
        "The user that runs have when the caller is root. Never root.",
    ),
    KeyDoc::optional("unix_sockets", "list of absolute paths", "none", "Unix sockets that runs may connect to."),
    KeyDoc::optional(
        "files",
        "list of paths, absolute or beginning with `~/`",
        "none",
        "Credential files or folders that runs may read although they are masked otherwise.",
    ),
    KeyDoc::optional(
        "environment",
        "list of variable names",
        "none",
        "Variables that runs keep although they look like credentials.",
    ),
    KeyDoc::optional(
        "placeholders.*",
        "text",
        "the shipped ones",
        "Variables to set to harmless values, for clients that insist on a credential.",
    ),
    KeyDoc::defaulted("concurrent_runs_max", "whole number", "16", "Runs of this agent at once."),
    KeyDoc::defaulted(
        "danger.io_uring",
        "`true` or `false`",
        "false",
        "Let runs use io_uring. Otherwise its calls answer that there is none, and programs fall back.",
    )
    .danger("io_uring opens sockets past the system call filter: families other than inet are then not refused"),
    KeyDoc::defaulted(
        "danger.without_namespaces",
        "`true` or `false`",
        "false",
        "Start runs even where the host allows no user or mount namespace.",
    )
    .danger(
        "credential files and sockets of the user stay readable, and so does the environment of the user's other \
         processes; every record of the session's opening says so",
    ),
];

/// One registered kind of agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its name: the file's.
    pub name: AgentName,
    /// Who answers for it.
    pub owner: String,
    /// The longest time limit of one session.
    pub ttl_max: Duration,
    /// The user of its runs when the caller is root.
    pub user: Option<RunUser>,
    /// How its runs are started.
    pub terms: Terms,
    /// Runs at once.
    pub concurrent_runs_max: usize,
    /// Which processes it is, by alternatives. None: any that is started as it.
    pub blocks: Vec<Block>,
    /// Which digests it may run with.
    pub pin: Pin,
    /// For whom its runs act.
    pub acts_for: ActsFor,
    /// Whether what policy refuses it is refused.
    pub mode: Mode,
    /// Who answers for autonomous runs, and approves as the owner. Always set if it acts for its owner.
    pub owner_human: Option<HumanId>,
    /// The service that its runs are the server of, over their standard input and output.
    pub mcp: Option<ServiceName>,
    /// Agents that its runs may start.
    pub may_start: BTreeSet<AgentName>,
    /// Processes that are governed for its sake.
    pub govern: Vec<Govern>,
    /// Where callers of its runs come in.
    pub serve: Vec<Serve>,
}

/// What an agent's runs are granted at the start, beyond what every run has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Unix sockets that may be connected to.
    pub unix_sockets: Vec<PathBuf>,
    /// Paths readable although masked otherwise; `~/` is the run user's home.
    pub files: Vec<String>,
    /// Variables kept although removed otherwise.
    pub environment: Vec<String>,
    /// Variables set to harmless values.
    pub placeholders: BTreeMap<String, String>,
    /// Whether `io_uring` may be used.
    pub io_uring: bool,
    /// Whether to go on where no namespace can be had.
    pub without_namespaces: bool,
}

/// The user of a run, by name or uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunUser {
    /// By uid, which needs no entry in the user database.
    Uid(u32),
    /// By name, looked up when a run starts.
    Name(String),
}

/// Reads all files, each given as its name without `.toml`, what problems shall call it, and its text. Any problem in
/// any of them refuses them all.
pub fn agents<'t>(
    files: impl IntoIterator<Item = (&'t str, &'t str, &'t str)>,
) -> Result<BTreeMap<AgentName, Arc<Agent>>, Problems> {
    let mut problems = Problems::default();
    let mut agents = BTreeMap::new();
    let mut starts = Vec::new();
    for (name, file, text) in files {
        let read = config::read(file, text, KEYS, &mut problems, |table| {
            starts.extend(table.list_placed::<AgentName>("may_start"));
            agent(name, table)
        });
        if let Some(agent) = read {
            agents.insert(agent.name.clone(), Arc::new(agent));
        }
    }
    refuse_overlaps(&agents, &mut problems);
    // Where a file could not be read, an agent may be missing because of that.
    let complete = problems.is_empty();
    for Placed { place, value } in starts {
        if complete && !agents.contains_key(&value) {
            problems.push(
                place,
                format!("there is no agent `{value}`"),
                Some(format!("add `{value}.toml`, or leave it out")),
            );
        }
    }
    problems.or(agents)
}

impl Agent {
    /// Reads one file. `name` is its name without `.toml`; `file` is how problems shall call it.
    pub fn read(name: &str, file: &str, text: &str, problems: &mut Problems) -> Option<Self> {
        config::read(file, text, KEYS, problems, |table| agent(name, table))
    }

    /// The user that a run of a caller with this uid has. Never root.
    pub fn run_user(&self, caller: u32) -> Result<Account, Error> {
        let account = match (&self.user, caller) {
            (None, 0) => return Err(self.root()),
            (Some(user), 0) => user.account()?,
            // Only root can become another user.
            (_, uid) => by_uid(uid)?,
        };
        // A name may be an alias of root.
        if account.uid == 0 { Err(self.root()) } else { Ok(account) }
    }

    /// Whether it is whatever program is started as it: no rule and no digest says otherwise. Worth a warning.
    pub fn is_any_program(&self) -> bool {
        self.blocks.is_empty() && self.pin == Pin::None
    }

    /// Settings under `[danger]` that are on, for the record of every start.
    pub fn dangers(&self) -> Vec<&'static str> {
        let Terms { io_uring, without_namespaces, .. } = self.terms;
        let observed = self.mode == Mode::Observe;
        let all = [("io_uring", io_uring), ("without_namespaces", without_namespaces), ("observe", observed)];
        all.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
    }

    fn root(&self) -> Error {
        Error::Root { agent: self.name.to_string() }
    }
}

impl RunUser {
    fn account(&self) -> Result<Account, AccountError> {
        match self {
            Self::Uid(uid) => by_uid(*uid),
            Self::Name(name) => Account::of_name(name)?.ok_or_else(|| AccountError::Unknown(name.clone())),
        }
    }
}

/// A uid without an entry is a user all the same: containers are full of them.
fn by_uid(uid: u32) -> Result<Account, AccountError> {
    let nameless = || Account { name: uid.to_string(), uid, gid: uid, home: PathBuf::from("/") };
    Ok(Account::of_uid(uid)?.unwrap_or_else(nameless))
}

fn agent(name: &str, table: &Table<'_>) -> Option<Agent> {
    let name = AgentName::new(name)
        .inspect_err(|error| table.problem("", error.to_string(), Some("rename the file")))
        .ok();
    let owner = table.required("owner");
    let ttl_max = table.defaulted::<Span>("ttl_max").map(Span::get);
    check_ttl(table, ttl_max);
    let runs = table.defaulted::<u16>("concurrent_runs_max");
    if runs == Some(0) {
        table.problem("concurrent_runs_max", "no run could ever start", Some("write at least 1"));
    }
    let user = table.optional::<String>("user").and_then(|text| run_user(table, &text));
    let terms = terms(table);
    // A pin that cannot be read is a problem already; with the default no second one is made of it.
    let pin = table.optional::<Pin>("pin").unwrap_or_default();
    let blocks = rule::read(table, &pin);
    let govern = govern::read(table);
    let serve = serve::read(table);
    if !govern.is_empty() && blocks.is_empty() {
        let hint = "add a `[[match]]` block: a governed process is refused unless it is an agent";
        table.problem("govern", "it governs processes that could never be this agent", Some(hint));
    }
    let acts_for = table.defaulted::<ActsFor>("acts_for");
    let mode = table.defaulted::<Mode>("mode");
    if !serve.is_empty() && acts_for.is_some_and(|acts_for| acts_for != ActsFor::Caller) {
        let hint = Some("write `acts_for = \"caller\"`");
        table.problem("acts_for", "an agent that serves callers acts for them", hint);
    }
    let owner_human = owner_human(table, acts_for);
    Some(Agent {
        name: name?,
        owner: owner?,
        ttl_max: ttl_max?,
        user,
        terms: terms?,
        concurrent_runs_max: runs?.into(),
        blocks,
        pin,
        acts_for: acts_for?,
        mode: mode?,
        owner_human,
        mcp: table.optional("mcp"),
        may_start: table.list("may_start").into_iter().collect(),
        govern,
        serve,
    })
}

fn owner_human(table: &Table<'_>, acts_for: Option<ActsFor>) -> Option<HumanId> {
    let human = table.optional::<HumanId>("owner_human");
    if acts_for == Some(ActsFor::Owner) && human.is_none() {
        let hint = "as in `owner_human = \"unix:alice\"`";
        table.problem("owner_human", "nobody answers for its runs", Some(hint));
    }
    human
}

fn terms(table: &Table<'_>) -> Option<Terms> {
    let files = table.list::<String>("files");
    for (n, path) in files.iter().enumerate() {
        if !(path.starts_with('/') || path.starts_with("~/")) || path.split('/').any(|part| part == "..") {
            let hint = "write `/path` or `~/path`, without `..`";
            table.problem("files", format!("entry {} is no absolute path", n + 1), Some(hint));
        }
    }
    let environment = table.list::<String>("environment");
    let placeholders = table.map::<String>("placeholders");
    for (key, names) in [
        ("environment", environment.iter().collect::<Vec<_>>()),
        ("placeholders", placeholders.keys().collect()),
    ] {
        for name in names.into_iter().filter(|name| name.is_empty() || name.contains(['=', '\0'])) {
            table.problem(key, format!("`{name}` is no variable name"), None);
        }
    }
    let danger = table.sub_table("danger");
    let (io_uring, without_namespaces) =
        (danger.defaulted("io_uring"), danger.defaulted("without_namespaces"));
    Some(Terms {
        unix_sockets: table.list("unix_sockets"),
        files,
        environment,
        placeholders,
        io_uring: io_uring?,
        without_namespaces: without_namespaces?,
    })
}

fn check_ttl(table: &Table<'_>, ttl_max: Option<Duration>) {
    let Some(ttl) = ttl_max else { return };
    if ttl.is_zero() || ttl > limits::SESSION_TTL_MAX {
        let what = format!("not between 1ms and {}", Span::new(limits::SESSION_TTL_MAX));
        table.problem("ttl_max", what, Some("write `ttl_max = \"1h\"`"));
    }
}

fn run_user(table: &Table<'_>, text: &str) -> Option<RunUser> {
    let user = match text.parse::<u32>() {
        Ok(uid) => RunUser::Uid(uid),
        Err(_) => RunUser::Name(text.to_owned()),
    };
    let what = match &user {
        RunUser::Uid(0) => "a run may not be root",
        RunUser::Uid(u32::MAX) => "no uid: it means `unchanged` to the kernel",
        RunUser::Name(name) if name == "root" => "a run may not be root",
        RunUser::Name(name) if name.is_empty() => "the name is empty",
        RunUser::Uid(_) | RunUser::Name(_) => return Some(user),
    };
    table.problem("user", what, Some("name a user without rights of its own"));
    None
}
