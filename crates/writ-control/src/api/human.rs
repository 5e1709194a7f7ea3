//! People: signing in, being asked who one is, signing out; and what is revoked when they may no longer act.

use std::fmt;

use serde::{Deserialize, Serialize};
use writ_core::{AgentName, HumanId, RunId, SessionId};

use super::Time;

/// `human.login`: begin to sign in at an issuer. The login belongs to the calling user and their login session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Which issuer, by its name in the configuration; the only one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Where a browser is sent back to, on loopback; the device flow when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_uri: Option<String>,
}

/// The answer to `human.login`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginBegun {
    /// What `human.finish` names.
    pub login: String,
    /// Where the human goes on.
    #[serde(flatten)]
    pub place: LoginPlace,
}

/// Where the human goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "flow", rename_all = "lowercase")]
pub enum LoginPlace {
    /// In a browser on this machine.
    Browser {
        /// What to open.
        url: String,
    },
    /// In a browser anywhere.
    Device {
        /// Where to go.
        verification_uri: String,
        /// The same with the code in it, if the issuer offers that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verification_uri_complete: Option<String>,
        /// What to type there.
        user_code: String,
    },
}

/// `human.finish`: the browser came back with this query; or, in the device flow, is it done?
///
/// A query is the issuer's word and is checked against what `human.login` kept: it signs in whoever began, or nobody.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginFinish {
    /// From `human.login`.
    pub login: String,
    /// The query that the browser was sent back with, as it stands in the URL. Holds a code that is good once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

impl fmt::Debug for LoginFinish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginFinish").field("login", &self.login).finish_non_exhaustive()
    }
}

/// The answer to `human.finish`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum LoginState {
    /// Not yet: ask again after so long.
    Pending {
        /// Seconds.
        wait_s: u64,
    },
    /// Signed in.
    Done(Who),
}

/// Who somebody is. The answer to `human.whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The audit session of the login, if the kernel has one.
    pub audit_session: Option<u32>,
    /// How people call them, as the issuer says.
    pub display: Option<String>,
    /// Until when the sign-in holds without being refreshed; absent for who did not sign in.
    pub expires: Option<Time>,
    /// The groups that policies see.
    pub groups: Vec<String>,
    /// The human that runs started from here act for.
    pub human: HumanId,
    /// The issuer that they signed in at; absent for who did not sign in.
    pub issuer: Option<String>,
    /// The uid that logged in, if the kernel has one.
    pub login_uid: Option<u32>,
    /// The uid that asks.
    pub uid: u32,
}

/// The answer to `human.logout`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedOut {
    /// Where the issuer's own session can be ended, if it says so.
    pub end_session_url: Option<String>,
    /// Who was signed in.
    pub human: HumanId,
    /// Sessions that were ended.
    pub sessions: Vec<SessionId>,
}

/// `revoke`: whose sessions to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// This session.
    Session(SessionId),
    /// Every session of a run.
    Run(RunId),
    /// Every session of an agent.
    Agent(AgentName),
    /// Every session of a human.
    Human(HumanId),
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(id) => write!(f, "session:{id}"),
            Self::Run(id) => write!(f, "run:{id}"),
            Self::Agent(name) => write!(f, "agent:{name}"),
            Self::Human(id) => write!(f, "human:{id}"),
        }
    }
}

/// `revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Whose.
    pub whose: Whose,
}

/// The answer to `revoke`. What the sessions had open is cut when it arrives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Connections that were cut.
    pub connections: u64,
    /// The sessions that were ended.
    pub sessions: Vec<SessionId>,
}
