//! What can be typed behind `writ policy`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use writ_core::{AgentName, HumanId, OperationName};

use super::Since;

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Check the policies of a folder against the services, offline.
    Check(PolicyFiles),
    /// Decide the samples and compare the answers, offline.
    Test {
        #[command(flatten)]
        files: PolicyFiles,
        /// The folder of samples; `samples` below the policies' when absent.
        #[arg(long, value_name = "DIR")]
        samples: Option<PathBuf>,
    },
    /// Show the policies that the daemon has in force.
    Show,
    /// Ask what was recorded again, of these policies, offline. Ends with 4 if something would be decided otherwise.
    ///
    /// Every recorded action, permitted or refused, is decided by the policies of the folder as it would be now. What the
    /// record says too little of is counted, and not guessed.
    Replay {
        #[command(flatten)]
        files: PolicyFiles,
        #[command(flatten)]
        record: Record,
        /// Not older than this: a length of time (`7d`), or a point in time (RFC 3339).
        #[arg(long, value_name = "TIME")]
        since: Option<Since>,
        /// Of this agent only.
        #[arg(long, value_name = "NAME")]
        agent: Option<AgentName>,
    },
    /// Write policies that permit what an agent was recorded doing, and no more, as text to be read. Offline.
    ///
    /// A pair of keys: the agent's, and those of the people it acted for. Every line says what it rests on. What was refused and
    /// not done is not in it, nor what a forbid of the folder speaks against. Forbids are kept as they are.
    Suggest {
        /// The agent.
        #[arg(long, value_name = "NAME")]
        agent: AgentName,
        /// Only what it did for this human.
        #[arg(long, value_name = "HUMAN")]
        human: Option<HumanId>,
        /// Not older than this: a length of time (`7d`), or a point in time (RFC 3339).
        #[arg(long, value_name = "TIME")]
        since: Option<Since>,
        #[command(flatten)]
        files: PolicyFiles,
        #[command(flatten)]
        record: Record,
    },
    /// Ask whether a human's run of an agent may do something, offline. Ends with 2 if not.
    ///
    /// Both keys are asked, as the daemon asks them. Groups are those that are given; none are looked up.
    Can {
        /// The agent.
        #[arg(long, value_name = "NAME")]
        agent: AgentName,
        /// The human, as in `unix:alice`.
        #[arg(long, value_name = "HUMAN")]
        human: HumanId,
        /// A group of the human, as in `unix:developers`; may be given more than once.
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// What: `service/operation`.
        #[arg(long, value_name = "OPERATION")]
        operation: OperationName,
        /// An argument of it. One that is a set of texts is given once for each.
        #[arg(long = "arg", value_name = "NAME=VALUE")]
        arguments: Vec<Given>,
        /// The purpose of the session.
        #[arg(long, value_name = "TEXT", default_value = "")]
        purpose: String,
        #[command(flatten)]
        against: Against,
    },
    /// Ask who may do something, offline: every configured agent, and every human and group that policies name or the
    /// evidence knows.
    ///
    /// Each key is asked by itself. What depends on the session or on arguments that are not given is told as a condition.
    WhoCan {
        /// What: `service/operation`.
        #[arg(value_name = "OPERATION")]
        operation: OperationName,
        /// An argument of it. One that is a set of texts is given once for each.
        #[arg(long = "arg", value_name = "NAME=VALUE")]
        arguments: Vec<Given>,
        #[command(flatten)]
        against: Against,
        #[command(flatten)]
        record: Record,
    },
    /// Tell what policies of a folder would be new, gone or different. Ends with 4 if there are any.
    Diff {
        /// The folder of `*.cedar` files.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The folder to compare with; what the daemon has in force when absent.
        #[arg(value_name = "BASE")]
        base: Option<PathBuf>,
        /// A folder of service files to check against; may be given more than once. The installation's when absent.
        #[arg(long, value_name = "DIR")]
        services: Vec<PathBuf>,
    },
}

/// Evidence that is read offline.
#[derive(Debug, Args)]
pub(crate) struct Record {
    /// The log's folder; the installation's own when absent.
    #[arg(long, value_name = "DIR")]
    pub(crate) evidence: Option<PathBuf>,
    /// The verifier key that the log must be signed with; the one beside it when absent.
    #[arg(long, value_name = "VKEY")]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyFiles {
    /// The folder of `*.cedar` files; the installation's when absent.
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// A folder of service files to check against; may be given more than once. The installation's when absent.
    #[arg(long, value_name = "DIR")]
    pub(crate) services: Vec<PathBuf>,
}

/// Policies that a question is asked of.
#[derive(Debug, Args)]
pub(crate) struct Against {
    /// The folder of `*.cedar` files; the installation's when absent.
    #[arg(long, value_name = "DIR")]
    pub(crate) policies: Option<PathBuf>,
    /// A folder of service files to check against; may be given more than once. The installation's when absent.
    #[arg(long, value_name = "DIR")]
    pub(crate) services: Vec<PathBuf>,
}

impl From<Against> for PolicyFiles {
    fn from(against: Against) -> Self {
        Self { folder: against.policies, services: against.services }
    }
}

/// An argument of an operation, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given(pub(crate) String, pub(crate) String);

impl FromStr for Given {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or("an argument is written `NAME=VALUE`")?;
        Ok(Self(name.to_owned(), value.to_owned()))
    }
}
