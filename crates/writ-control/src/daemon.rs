//! What the server asks of the daemon.

use std::pin::Pin;

use futures_util::Stream;
use writ_core::event::Leaf;
use writ_core::{Secret, SecretName};
use writ_gate::BoxFuture;

use crate::access::Clearance;
use crate::api::{
    ActionQuery, Agents, AnswerGiven, AnswerTaken, Approval, Approved, Checkpoint, Checks, LogQuery,
    LoggedOut, Login, LoginBegun, LoginFinish, LoginState, Nothing, PolicyView, Prepared, Questions,
    Reloaded, Revocation, Revoked, RunOpen, RunOpened, SecretRef, Secrets, ServiceDetail, ServiceQuery,
    Services, Sessions, Status, Story, Who,
};
use crate::fault::Fault;
use crate::peer::Caller;

/// Leaves as they are read, oldest first. Dropping it ends the reading.
pub type LeafStream = Pin<Box<dyn Stream<Item = Result<Leaf, Fault>> + Send>>;

/// The answer of an operation.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Fault>>;

/// A run that was adopted and has no session yet. The server keeps it with the connection that asked for it.
///
/// Dropped (the launcher failed or died), it is forgotten: its cgroup and label go, nothing is recorded as opened.
pub trait Opening: Send {
    /// The launcher says that the process is confined. Looks for itself, and opens the session for the human behind
    /// the caller; the opening is durable when this completes.
    fn ready(self: Box<Self>) -> Answer<'static, RunOpened>;
}

/// One method per [`Operation`](crate::api::Operation), save `run.ready`, which is [`Opening::ready`].
///
/// * Every call has a [`Clearance`]: the caller may do this, within its scope. What lies outside the scope is
///   answered as if it did not exist ([`Fault::missing`]), so that nobody learns of another's sessions.
/// * What an operation changes is recorded in the evidence before it takes effect, and is done when the future
///   completes. A future that is dropped (the caller hung up) leaves either nothing or the whole of it.
/// * Calls run side by side; `reload` and the secret store order themselves.
/// * Messages of faults are for the caller: no path of another user, no secret, no key.
pub trait Daemon: Send + Sync + 'static {
    /// Whether the caller belongs to a run. Asked before every operation, as the answer changes with `run.open`; an
    /// error is a refusal.
    fn is_governed(&self, caller: &Caller) -> Result<bool, Fault>;

    /// Is it ready, and in what state?
    fn status<'a>(&'a self, by: &'a Clearance) -> Answer<'a, Status>;
    /// Adopts the calling process through its pidfd: it is in a new run's cgroup and labelled in the kernel when this
    /// completes, and has no session. Fails if the process has ended. One that is governed already
    /// ([`Clearance::is_governed`]) becomes a sub-agent, if its agent may start that one, and is refused otherwise.
    fn run_open<'a>(&'a self, by: &'a Clearance, ask: RunOpen) -> Answer<'a, (Prepared, Box<dyn Opening>)>;
    /// The live sessions within the scope, oldest first.
    fn run_list<'a>(&'a self, by: &'a Clearance) -> Answer<'a, Sessions>;
    /// Ends the sessions within the scope that are meant, and cuts what they have open (G7). None is a fault only if one
    /// session or run was named.
    fn revoke<'a>(&'a self, by: &'a Clearance, ask: Revocation) -> Answer<'a, Revoked>;
    /// Begins to sign the caller in. What is kept of it belongs to their uid and login session.
    fn human_login<'a>(&'a self, by: &'a Clearance, ask: Login) -> Answer<'a, LoginBegun>;
    /// Goes on with a sign-in that the same caller began; others are told that there is none.
    fn human_finish<'a>(&'a self, by: &'a Clearance, ask: LoginFinish) -> Answer<'a, LoginState>;
    /// Who the caller is, to the kernel and to the issuer that they signed in at.
    fn human_whoami<'a>(&'a self, by: &'a Clearance) -> Answer<'a, Who>;
    /// Signs the caller out: revokes what the issuer gave, and ends their sessions.
    fn human_logout<'a>(&'a self, by: &'a Clearance) -> Answer<'a, LoggedOut>;
    /// The agents in force.
    fn agent_list<'a>(&'a self, by: &'a Clearance) -> Answer<'a, Agents>;
    /// Trusts a digest that is held for an agent.
    fn agent_approve<'a>(&'a self, by: &'a Clearance, ask: Approval) -> Answer<'a, Approved>;
    /// The open questions: those that the caller may answer, and those of sessions within the scope.
    fn approval_list<'a>(&'a self, by: &'a Clearance) -> Answer<'a, Questions>;
    /// Takes the caller's answer, if they are among those who are asked; the scope gives no right to answer.
    fn approval_answer<'a>(&'a self, by: &'a Clearance, ask: AnswerGiven) -> Answer<'a, AnswerTaken>;
    /// Reads the evidence within the scope: events of the caller's own sessions only, unless the scope is all.
    fn log_query<'a>(&'a self, by: &'a Clearance, ask: LogQuery) -> Answer<'a, LeafStream>;
    /// The story of one action within the scope.
    fn action_why<'a>(&'a self, by: &'a Clearance, ask: ActionQuery) -> Answer<'a, Story>;
    /// Stores or replaces a secret. The value is the daemon's from here on.
    fn secret_set<'a>(
        &'a self,
        by: &'a Clearance,
        name: SecretName,
        value: Secret<str>,
    ) -> Answer<'a, Nothing>;
    /// The names of the stored secrets.
    fn secret_list<'a>(&'a self, by: &'a Clearance) -> Answer<'a, Secrets>;
    /// Removes a secret; a missing one is a fault.
    fn secret_remove<'a>(&'a self, by: &'a Clearance, ask: SecretRef) -> Answer<'a, Nothing>;
    /// The services in force, by name.
    fn service_list<'a>(&'a self, by: &'a Clearance) -> Answer<'a, Services>;
    /// One service in full.
    fn service_show<'a>(&'a self, by: &'a Clearance, ask: ServiceQuery) -> Answer<'a, ServiceDetail>;
    /// The policies in force.
    fn policy_show<'a>(&'a self, by: &'a Clearance) -> Answer<'a, PolicyView>;
    /// Reads the configuration again. A bad one is refused whole ([`Fault::refused_configuration`]).
    fn reload<'a>(&'a self, by: &'a Clearance) -> Answer<'a, Reloaded>;
    /// The latest signed checkpoint.
    fn evidence_checkpoint<'a>(&'a self, by: &'a Clearance) -> Answer<'a, Checkpoint>;
    /// What the daemon finds when it examines itself and the host.
    fn doctor<'a>(&'a self, by: &'a Clearance) -> Answer<'a, Checks>;
}
