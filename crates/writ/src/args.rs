//! What can be typed. Help, completions, man pages and `docs/cli.md` are made from these types.

mod policy;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use writ_core::units::Span;
use writ_core::{ActionId, AgentName, ApprovalId, Grant, HumanId, RunId, SecretName, ServiceName, SessionId};

pub(crate) use policy::{Against, Given, Policy, PolicyFiles, Record};

/// Runtime IAM for AI agents: start agents, see what they did, and say what they may do.
#[derive(Debug, Parser)]
#[command(name = "writ", version, max_term_width = 100, propagate_version = true)]
pub(crate) struct Arguments {
    /// The installation to use: everything lies below this folder.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Print results as JSON on stdout, failures as JSON on stderr.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Whether to use colours; `auto` means only on a terminal, and not if `NO_COLOR` is set.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a program as a run of an agent.
    ///
    /// The program replaces this process: terminal, signals and exit code are its own. It holds no secret and reaches
    /// only what its agent and you may reach.
    Run(Run),
    /// Start an MCP server as a run of its own, and decide every call of its client.
    ///
    /// Write it before the command in the client's configuration. The daemon stands between the two: each call over
    /// standard input is decided and recorded as an action of whoever started this, and lists are shown without what may not
    /// be called.
    Mcp(Run),
    /// List the live sessions.
    Ps,
    /// Read the evidence, one line per event.
    Log(Log),
    /// Tell the story of one action: who, for whom, what, both keys, lease, outcome.
    Why {
        /// The action, as `writ log` and refusals name it.
        #[arg(value_name = "ACTION")]
        action: ActionId,
    },
    /// Check the whole evidence log, offline.
    Verify(Verify),
    /// Keep the credentials that agents are lent.
    #[command(subcommand)]
    Secret(Secret),
    /// Check, test and show policies, and try them before they are in force.
    #[command(subcommand)]
    Policy(Policy),
    /// List, show and check services.
    #[command(subcommand)]
    Service(Service),
    /// Examine the kernel, the host and the installation.
    Doctor,
    /// Have the daemon read its configuration again; a bad one is refused whole.
    Reload,
    /// Show the daemon's state. Ends with 1 if it is not ready.
    Status,
    /// End sessions and cut what they have open.
    #[command(subcommand)]
    Revoke(Revoke),
    /// Sign in, so that runs started from this login act for you as your identity provider knows you.
    Login(Login),
    /// Sign out; sessions that acted for you end.
    Logout,
    /// Show who you are to Writ.
    Whoami,
    /// List agents, and approve what is held for them.
    #[command(subcommand)]
    Agent(Agent),
    /// Show the actions that wait for an approval.
    Approvals(Approvals),
    /// Approve an action that waits; exactly what `writ approvals` shows is then done.
    Approve(Approve),
    /// Refuse an action that waits.
    Deny {
        /// The approval, as `writ approvals` names it.
        #[arg(value_name = "APPROVAL")]
        approval: ApprovalId,
        /// Why; recorded.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Write the manual pages into a folder.
    Man {
        /// The folder; it is made if it is missing.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Approvals {
    /// Show this one in full, with what would be sent.
    #[arg(value_name = "APPROVAL")]
    pub(crate) approval: Option<ApprovalId>,
    /// Wait for questions to you, and ask for each answer on the terminal.
    #[arg(long, conflicts_with = "approval")]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// The approval, as `writ approvals` names it.
    #[arg(value_name = "APPROVAL")]
    pub(crate) approval: ApprovalId,
    /// For the rest of the session: whenever it does this operation at this host and path.
    #[arg(long)]
    pub(crate) session: bool,
    /// Why; recorded.
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The agent that this is a run of.
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: AgentName,
    /// What it is for; recorded, and policies can ask for it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) purpose: String,
    /// Narrow it to this, as in `github:acme/site:read`; may be given more than once. Policy must permit it all the same.
    #[arg(long = "grant", value_name = "GRANT")]
    pub(crate) grants: Vec<Grant>,
    /// How long it may last at most, as in `1h`.
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<Span>,
    /// The program and its arguments.
    #[arg(value_name = "COMMAND", required = true, last = true, num_args = 1..)]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Revoke {
    /// End one session.
    Session {
        /// The session, as `writ ps` names it.
        #[arg(value_name = "SESSION")]
        session: SessionId,
    },
    /// End every session of a run.
    Run {
        /// The run, as `writ ps --json` names it.
        #[arg(value_name = "RUN")]
        run: RunId,
    },
    /// End every session of an agent.
    Agent {
        /// Its name.
        #[arg(value_name = "NAME")]
        agent: AgentName,
    },
    /// End every session of a human.
    Human {
        /// Who, as in `unix:alice` or `oidc:ISSUER#SUBJECT`.
        #[arg(value_name = "HUMAN")]
        human: HumanId,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The issuer, as the configuration names it; may be left out if there is one only.
    #[arg(value_name = "ISSUER")]
    pub(crate) issuer: Option<String>,
    /// Show a code to type in a browser elsewhere, instead of opening one here.
    #[arg(long)]
    pub(crate) device: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// List the agents that the daemon has in force.
    List,
    /// Trust a program or script that changed since it was first used.
    Approve {
        /// The agent.
        #[arg(value_name = "NAME")]
        agent: AgentName,
        /// The digest, as `writ agent list` shows it, or the beginning of it.
        #[arg(value_name = "DIGEST")]
        digest: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// Go on with what is recorded from now on.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Of this session only.
    #[arg(long, value_name = "SESSION")]
    pub(crate) session: Option<SessionId>,
    /// Of this agent only.
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<AgentName>,
    /// For this human only, as in `unix:alice`.
    #[arg(long, value_name = "HUMAN")]
    pub(crate) human: Option<HumanId>,
    /// At this service only.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<ServiceName>,
    /// Refusals only.
    #[arg(long)]
    pub(crate) denied: bool,
    /// Not older than this: a length of time (`1h`), or a point in time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
    /// The last so many.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u32>,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    Ago(Span),
    At(writ_control::api::Time),
}

impl std::str::FromStr for Since {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ago = text.parse().map(Self::Ago).ok();
        ago.or_else(|| text.parse().map(Self::At).ok())
            .ok_or("neither a length of time as in `1h` nor a point in time as in `2026-01-31T12:00:00Z`")
    }
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The log's folder; the installation's own when absent.
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// The verifier key that the checkpoint must be signed with; the one beside the log when absent.
    #[arg(long, value_name = "VKEY")]
    pub(crate) key: Option<String>,
    /// A checkpoint that was kept elsewhere: the log must still hold all that it covers, unchanged.
    #[arg(long, value_name = "FILE")]
    pub(crate) since_checkpoint: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Store a secret, or replace it. The value is asked for, or read from stdin; one newline at its end is dropped.
    Set {
        /// Its name, as services refer to it.
        #[arg(value_name = "NAME")]
        name: SecretName,
        /// Refused: see `command/secret.rs`.
        #[arg(hide = true, num_args = 0.., allow_hyphen_values = true)]
        refused: Vec<std::ffi::OsString>,
    },
    /// List the names. There is no way to read a value back.
    List,
    /// Remove a secret.
    Rm {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: SecretName,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// List the services that the daemon has in force.
    List,
    /// Show one service and its operations.
    Show {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: ServiceName,
    },
    /// Print a service file made from an API's own description, to be read and kept.
    Import {
        /// The `OpenAPI` 3 document, JSON or YAML; `-` for standard input.
        #[arg(long, value_name = "FILE", required_unless_present = "mcp", conflicts_with = "mcp")]
        openapi: Option<PathBuf>,
        /// An MCP server (Streamable HTTP), which is asked for its tools.
        #[arg(long, value_name = "URL", conflicts_with = "host")]
        mcp: Option<String>,
        /// The MCP server's bearer token, in a file; `-` for standard input.
        #[arg(long, value_name = "FILE", requires = "mcp")]
        token: Option<PathBuf>,
        /// What to call the service; an MCP server says what it is called.
        #[arg(long, value_name = "NAME", required_unless_present = "mcp")]
        name: Option<ServiceName>,
        /// Where it is, instead of what the document says: `HOST` or `HOST:PORT`.
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
    },
    /// Check service files, offline.
    Check {
        /// Folders of service files; the installation's when absent.
        #[arg(value_name = "DIR")]
        folders: Vec<PathBuf>,
    },
}

/// A shell that completions are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}
