//! The language of the control socket, version 1.
//!
//! Every operation is `POST /v1/OPERATION`. The body is one JSON object (`{}` when there is nothing to say); the
//! answer is one JSON object with status 200, or a [`Fault`](crate::Fault) as `application/problem+json` with the
//! status of its class. A run begins with two calls on one connection: `run.open`, `run.ready`. Two operations differ: `log.query` answers with one canonical leaf a line
//! (`application/x-ndjson`; a line `{"fault":{...}}` ends a stream that broke), and `secret.set` takes the value as
//! its raw body, so that it is never inside a JSON text.
//!
//! Unknown members of a request are refused; those of an answer are ignored, so that an older client understands a
//! newer daemon. Times are RFC 3339 in UTC. No type here holds a secret's value.

mod agent;
mod approval;
mod catalog;
mod daemon;
mod evidence;
mod human;
mod operation;
mod run;
mod time;

pub use agent::{AgentRow, Agents, Approval, Approved};
pub use approval::{AnswerGiven, AnswerTaken, QuestionRow, Questions};
pub use catalog::{
    CredentialView, OperationView, PolicyText, PolicyView, Secrets, ServiceDetail, ServiceQuery, ServiceRow,
    Services,
};
pub use daemon::{Check, CheckState, Checks, FileProblem, Reloaded, Status};
pub use evidence::{ActionQuery, Checkpoint, LeafText, LogQuery, Story};
pub use human::{
    LoggedOut, Login, LoginBegun, LoginFinish, LoginPlace, LoginState, Revocation, Revoked, Who, Whose,
};
pub use operation::Operation;
pub use run::{Ask, Prepared, RunOpen, RunOpened, SecretRef, SessionRow, Sessions};
pub use time::{Time, TimeError};

use serde::{Deserialize, Serialize};

/// The path prefix of this version.
pub const PREFIX: &str = "/v1/";
/// Content type of an answer that is one JSON object.
pub const JSON: &str = "application/json";
/// Content type of a fault.
pub const PROBLEM: &str = "application/problem+json";
/// Content type of a stream of leaves.
pub const NDJSON: &str = "application/x-ndjson";
/// Content type of the body that carries a new secret value.
pub const BYTES: &str = "application/octet-stream";
/// The request header that names the secret which the body is the value of.
pub const SECRET_NAME: &str = "writ-secret-name";

/// A request or answer with nothing to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}
