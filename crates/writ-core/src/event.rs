//! Evidence events: what is written down, one canonical leaf each.
//!
//! A leaf is JSON in the canonical form of RFC 8785 (JCS): keys sorted, no white space, no number that needs more
//! than 53 bits, no floats. To get that without sorting at run time, **every struct below declares its fields in
//! alphabetical order**; a test compares each with its sorted form. Every record of an action says who, for whom,
//! in which session, so that no reader has to correlate.

mod part;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use part::{
    Actor, Answer, Counted, Hop, HopKind, Key, Keys, Known, LeaseFate, Outcome, Request, Script, Terms,
};

use crate::assurance::Assurance;
use crate::clock::Timestamp;
use crate::grant::{ActsFor, Grants};
use crate::id::{ActionId, ApprovalId, ConnId, LeaseId, RunId, SessionId};
use crate::name::{AgentName, HumanId, OperationName, ServiceName};
use crate::obligation::Label;
use crate::process::Process;
use crate::reason::Reason;

macro_rules! events {
    ($($(#[doc = $doc:literal])* $kind:literal $name:ident {
        $($(#[doc = $fdoc:literal])* $(#[serde($($serde:meta),*)])? $field:ident: $type:ty,)*
    })*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $name { $($(#[doc = $fdoc])* $(#[serde($($serde),*)])? pub $field: $type,)* }

            impl From<$name> for Event {
                fn from(body: $name) -> Self {
                    Self::$name(Box::new(body))
                }
            }
        )*

        /// One fact worth keeping.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Event { $($(#[doc = $doc])* $name(Box<$name>),)* }

        impl Event {
            /// Every kind, in the order of the reference page.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The kind, as it stands in the leaf.
            pub const fn kind(&self) -> &'static str {
                match self { $(Self::$name(_) => $kind),* }
            }

            fn from_parts(kind: &str, body: &serde_json::value::RawValue) -> Result<Self, LeafError> {
                match kind {
                    $($kind => Ok(Self::$name(Box::new(serde_json::from_str(body.get())?))),)*
                    _ => Err(LeafError::Kind(kind.to_owned())),
                }
            }
        }

        impl Serialize for Event {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$name(body) => body.serialize(s)),* }
            }
        }
    };
}

events! {
    /// The daemon began, before it was ready for anything.
    "node.started" NodeStarted {
        /// What stands between agents and the network.
        assurance: Assurance,
        /// Settings under `[danger]` and dangerous service settings that are on.
        dangers: Vec<String>,
        /// The daemon's version.
        version: String,
    }
    /// The daemon stopped in good order. Its absence before the next start means that it was killed.
    "node.stopped" NodeStopped {
        /// Actions that were cut by the stop.
        cut: u64,
    }
    /// Notes that the log could not take while the disk refused. They are lost; their number is not.
    "evidence.dropped" EvidenceDropped {
        /// How many.
        count: u64,
    }
    /// The log was opened after a stop that was not clean, and put itself in order.
    "evidence.recovered" EvidenceRecovered {
        /// Intents without a receipt, closed as abandoned right after this.
        abandoned: u64,
        /// Records of the last write that never was acknowledged, cut off.
        cut: u64,
        /// Acknowledged records that no checkpoint covered yet.
        replayed: u64,
    }
    /// A configuration was put in force.
    "config.loaded" ConfigLoaded {
        /// SHA-256 over the files' names and contents, hex.
        config_digest: String,
        /// SHA-256 of the policy set, hex.
        policy_digest: String,
        /// Uid that asked for it; absent at start.
        uid: Option<u32>,
    }
    /// A configuration was refused whole; the old one stays.
    "config.refused" ConfigRefused {
        /// How many problems it has.
        problems: u64,
        /// Uid that asked for it.
        uid: Option<u32>,
    }
    /// A secret was stored or replaced. Never its value.
    "secret.set" SecretSet {
        /// Its name.
        name: String,
        /// Uid that did it.
        uid: u32,
    }
    /// A secret was removed.
    "secret.removed" SecretRemoved {
        /// Its name.
        name: String,
        /// Uid that did it.
        uid: u32,
    }
    /// A session was opened: from here on the run may act.
    "session.opened" SessionOpened {
        /// Who, for whom.
        actor: Actor,
        /// For whom it acts: `starter`, `caller`, `owner`.
        acts_for: ActsFor,
        /// How strongly it is enforced.
        assurance: Assurance,
        /// The audit session of the login that started it, if the kernel has one.
        audit_session: Option<u32>,
        /// Protections that the run is without, because its agent's file says so: `without_namespaces`, ...
        dangers: Vec<String>,
        /// How people call the human.
        display: Option<String>,
        /// The program: its path as the kernel resolved it.
        exe: String,
        /// SHA-256 of the program, hex.
        exe_sha256: String,
        /// When it ends at the latest.
        expires_us: Timestamp,
        /// What each hop of delegation narrowed it to.
        grants: Grants,
        /// The human's groups, as policy is asked with them; absent if a record has no room for them, or is older than
        /// this field.
        #[serde(skip_serializing_if = "Option::is_none")]
        groups: Option<Vec<String>>,
        /// The uid that logged in, which `su` and `sudo` do not change; absent if the kernel has none.
        login_uid: Option<u32>,
        /// The runs that led to it, eldest first.
        parents: Vec<RunId>,
        /// The first process.
        process: Process,
        /// What it is for, in the human's words.
        purpose: String,
        /// The file that the program interprets, if it is an interpreter and was started on one.
        script: Option<Script>,
        /// The uid that the run has.
        uid: u32,
    }
    /// A run was given a request of a caller: from here on it may act for them too, in a session of their own.
    "session.joined" SessionJoined {
        /// Who, for whom.
        actor: Actor,
        /// The run's own session.
        below: SessionId,
        /// How people call the human.
        display: Option<String>,
        /// When it ends at the latest.
        expires_us: Timestamp,
        /// The human's groups, as policy is asked with them; absent if a record has no room for them, or is older than
        /// this field.
        #[serde(skip_serializing_if = "Option::is_none")]
        groups: Option<Vec<String>>,
    }
    /// A session ended: nothing that belongs to it may act any more.
    "session.ended" SessionEnded {
        /// Who, for whom.
        actor: Actor,
        /// Why: `exited`, `expired`, `revoked`, `signed-out`.
        cause: String,
    }
    /// Somebody ordered sessions to end; each ends with an event of its own.
    "revocation.ordered" RevocationOrdered {
        /// Who: `uid:N`, or the issuer whose signal it was.
        by: String,
        /// How many sessions were live.
        sessions: u64,
        /// Whose: `session:ID`, `run:ID`, `agent:NAME`, `human:ID`.
        target: String,
    }
    /// A human signed in at an issuer; runs that they start from that login are theirs.
    "human.signed_in" HumanSignedIn {
        /// Authentication methods, as the issuer said (RFC 8176).
        amr: Vec<String>,
        /// The audit session that they are bound to; absent where the kernel has none.
        audit_session: Option<u32>,
        /// How people call them.
        display: Option<String>,
        /// Their groups, as the issuer's mapping says.
        groups: Vec<String>,
        /// Who.
        human: HumanId,
        /// The uid that they are bound to.
        uid: u32,
    }
    /// A human is no longer signed in.
    "human.signed_out" HumanSignedOut {
        /// Why: `signed_out`, `replaced`, `refused` (the issuer refreshed no more), `expired`, `signalled`, `revoked`.
        cause: String,
        /// Who.
        human: HumanId,
        /// The uid that they were bound to.
        uid: u32,
    }
    /// An issuer said something about a human (Shared Signals).
    "human.signal" HumanSignal {
        /// What happened, in the word of CAEP or RISC: `session-revoked`, `account-disabled`, ...
        event: String,
        /// Whom it names; absent if it names nobody who is known here.
        human: Option<HumanId>,
        /// The transmitter.
        issuer: String,
        /// The id of the message.
        jti: String,
    }
    /// An identity document was issued to a run.
    "identity.issued" IdentityIssued {
        /// Who, for whom.
        actor: Actor,
        /// For whom it is meant; empty for a certificate.
        audience: Vec<String>,
        /// When it ends.
        expires_us: Timestamp,
        /// `x509-svid`, `jwt-svid`, `wit-svid`, `access-token`, `txn-token`.
        form: String,
        /// The serial number or `jti` or `txn`.
        serial: String,
    }
    /// An authority of the trust domain was made or changed its state.
    "identity.authority" IdentityAuthority {
        /// When it ends, told when it is prepared.
        expires_us: Option<Timestamp>,
        /// Which one; they are counted from the trust domain's first.
        generation: u64,
        /// `prepared` (published, signs nothing yet), `active`, `removed` (nothing that it signed is alive).
        state: String,
    }
    /// A digest was pinned for an agent, by trust on first use or because somebody approved it.
    "agent.pinned" AgentPinned {
        /// The agent.
        agent: AgentName,
        /// SHA-256 of the program or script, hex.
        digest: String,
        /// Uid that approved it; absent for trust on first use.
        uid: Option<u32>,
    }
    /// A process claimed to be an agent and is not, or matches none.
    "agent.refused" AgentRefused {
        /// The agent that it was started as, if it named one.
        agent: Option<AgentName>,
        /// The program's path, as the kernel resolved it.
        exe: String,
        /// The process.
        process: Process,
        /// Why.
        reason: Reason,
        /// Its uid.
        uid: u32,
    }
    /// A governed process executed a program.
    "process.executed" ProcessExecuted {
        /// Who, for whom.
        actor: Actor,
        /// The program's path as the kernel resolved it, at most 255 bytes.
        exe: String,
        /// The parent's pid.
        parent: u32,
        /// The process.
        process: Process,
    }
    /// A connection, datagram or lookup was refused before it became an action.
    "connection.refused" ConnectionRefused {
        /// Who, for whom; absent when unknown, which is the reason then.
        actor: Option<Actor>,
        /// The connection, where there was one.
        conn: Option<ConnId>,
        /// What was asked for: `address:port`, or a name.
        destination: String,
        /// The process, where the kernel named it.
        process: Option<Process>,
        /// Why.
        reason: Reason,
        /// `tcp`, `udp`, `dns`, `unix`, `raw`, ...
        transport: String,
    }
    /// An action was decided against.
    "action.refused" ActionRefused {
        /// The action.
        action: ActionId,
        /// Who, for whom.
        actor: Actor,
        /// How strongly it is enforced.
        assurance: Assurance,
        /// The connection it came on.
        conn: ConnId,
        /// Both keys, if it got so far.
        keys: Option<Keys>,
        /// The labels that its session had.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        labels: BTreeSet<Label>,
        /// The process.
        process: Process,
        /// Why.
        reason: Reason,
        /// What was asked, as far as it was understood.
        request: Option<Request>,
        /// The way that led here.
        tool_path: Vec<Hop>,
    }
    /// An action was permitted and is about to happen: durable before any credential exists.
    "action.intended" ActionIntended {
        /// The action.
        action: ActionId,
        /// Who, for whom.
        actor: Actor,
        /// How strongly it is enforced.
        assurance: Assurance,
        /// The connection it came on.
        conn: ConnId,
        /// Both keys.
        keys: Keys,
        /// For what policy would have refused it, had its agent or service not been observed only.
        #[serde(skip_serializing_if = "Option::is_none")]
        observed: Option<Reason>,
        /// The process.
        process: Process,
        /// What was asked.
        request: Request,
        /// What was asked for beside both keys, and the labels. Absent if nothing was.
        #[serde(default, skip_serializing_if = "Terms::is_none")]
        terms: Terms,
        /// The way that led here.
        tool_path: Vec<Hop>,
    }
    /// An action waits for somebody's yes.
    "approval.requested" ApprovalRequested {
        /// The action that asked first.
        action: ActionId,
        /// Who acts, for whom.
        actor: Actor,
        /// The approval.
        approval: ApprovalId,
        /// Bytes of the body that would be sent.
        body_bytes: u64,
        /// SHA-256 of that body, hex.
        body_sha256: String,
        /// Until when it may be answered, and used.
        expires_us: Timestamp,
        /// What is asked for.
        request: Request,
        /// The policies that ask for it, each with what it asks for: `ID: approve owner, 10m`.
        rules: Vec<String>,
        /// SHA-256 over everything that is sent, hex: what is approved is this and nothing else.
        seal: String,
    }
    /// Somebody said yes or no.
    "approval.answered" ApprovalAnswered {
        /// Who acts, for whom.
        actor: Actor,
        /// Yes or no.
        answer: Answer,
        /// The approval.
        approval: ApprovalId,
        /// Who said it.
        by: HumanId,
        /// The policies whose rules it counts for.
        meets: Vec<String>,
        /// Why, in their words.
        note: Option<String>,
        /// Whether nobody else needs to be asked.
        settled: bool,
    }
    /// An approval can be answered or used no more. One that was used says so in the intent of the action.
    "approval.closed" ApprovalClosed {
        /// Who acts, for whom.
        actor: Actor,
        /// The approval.
        approval: ApprovalId,
        /// Why: `expired`, `session-ended`.
        cause: String,
    }
    /// The closing fact of an intended action: its receipt.
    "action.closed" ActionClosed {
        /// The action.
        action: ActionId,
        /// Who, for whom.
        actor: Actor,
        /// Bytes of body from the service to the agent.
        bytes_down: u64,
        /// Bytes of body from the agent to the service.
        bytes_up: u64,
        /// From intent to end, microseconds.
        duration_us: u64,
        /// The lease, if one was minted.
        lease: Option<LeaseId>,
        /// What became of it.
        lease_fate: LeaseFate,
        /// The operation.
        operation: OperationName,
        /// How it ended.
        outcome: Outcome,
        /// Why it failed, if it did.
        reason: Option<Reason>,
        /// How often the lent credential was found in the answer and removed.
        scrubbed: u64,
        /// The service.
        service: ServiceName,
        /// The HTTP status that the service answered with.
        status: Option<u16>,
    }
}

impl Event {
    /// Who acted, where the event knows.
    pub fn actor(&self) -> Option<&Actor> {
        match self {
            Self::SessionOpened(e) => Some(&e.actor),
            Self::SessionJoined(e) => Some(&e.actor),
            Self::IdentityIssued(e) => Some(&e.actor),
            Self::SessionEnded(e) => Some(&e.actor),
            Self::ProcessExecuted(e) => Some(&e.actor),
            Self::ConnectionRefused(e) => e.actor.as_ref(),
            Self::ActionRefused(e) => Some(&e.actor),
            Self::ActionIntended(e) => Some(&e.actor),
            Self::ActionClosed(e) => Some(&e.actor),
            Self::ApprovalRequested(e) => Some(&e.actor),
            Self::ApprovalAnswered(e) => Some(&e.actor),
            Self::ApprovalClosed(e) => Some(&e.actor),
            Self::NodeStarted(_)
            | Self::NodeStopped(_)
            | Self::EvidenceDropped(_)
            | Self::EvidenceRecovered(_)
            | Self::ConfigLoaded(_)
            | Self::ConfigRefused(_)
            | Self::SecretSet(_)
            | Self::SecretRemoved(_)
            | Self::RevocationOrdered(_)
            | Self::HumanSignedIn(_)
            | Self::HumanSignedOut(_)
            | Self::HumanSignal(_)
            | Self::IdentityAuthority(_)
            | Self::AgentPinned(_)
            | Self::AgentRefused(_) => None,
        }
    }

    /// The action it belongs to.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only three kinds belong to an action")]
    pub fn action(&self) -> Option<ActionId> {
        match self {
            Self::ActionRefused(e) => Some(e.action),
            Self::ActionIntended(e) => Some(e.action),
            Self::ActionClosed(e) => Some(e.action),
            _ => None,
        }
    }

    /// The service it concerns.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only actions concern a service")]
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::ActionRefused(e) => e.request.as_ref().map(|request| &request.service),
            Self::ActionIntended(e) => Some(&e.request.service),
            Self::ActionClosed(e) => Some(&e.service),
            _ => None,
        }
    }

    /// Whether it is a refusal.
    pub fn denied(&self) -> bool {
        matches!(self, Self::ActionRefused(_) | Self::ConnectionRefused(_))
    }
}

/// One leaf of the evidence log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// What happened.
    pub event: Event,
    /// Position in the log, from 0 without gaps.
    pub seq: u64,
    /// When it was recorded.
    pub time: Timestamp,
}

/// Bytes that are not a leaf.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// Not JSON, or not the shape that its kind has.
    #[error("the leaf is malformed")]
    Malformed(#[from] serde_json::Error),
    /// A kind that this version does not know.
    #[error("no event kind `{0}`")]
    Kind(String),
    /// A layout version that this program does not know.
    #[error("no leaf version {0}")]
    Version(u32),
}

/// Version of the leaf's layout.
pub const LEAF_VERSION: u32 = 1;

#[derive(Serialize)]
struct LeafOut<'a> {
    body: &'a Event,
    kind: &'static str,
    seq: u64,
    time_us: Timestamp,
    v: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeafIn<'a> {
    #[serde(borrow)]
    body: &'a serde_json::value::RawValue,
    kind: String,
    seq: u64,
    time_us: Timestamp,
    v: u32,
}

impl Leaf {
    /// The canonical bytes: `{"body":{...},"kind":"...","seq":N,"time_us":N,"v":1}`.
    pub fn encode(&self) -> Result<Vec<u8>, LeafError> {
        let out = LeafOut {
            body: &self.event,
            kind: self.event.kind(),
            seq: self.seq,
            time_us: self.time,
            v: LEAF_VERSION,
        };
        Ok(serde_json::to_vec(&out)?)
    }

    /// Reads canonical bytes back.
    pub fn decode(bytes: &[u8]) -> Result<Self, LeafError> {
        let leaf: LeafIn<'_> = serde_json::from_slice(bytes)?;
        if leaf.v != LEAF_VERSION {
            return Err(LeafError::Version(leaf.v));
        }
        let event = Event::from_parts(&leaf.kind, leaf.body)?;
        Ok(Self { event, seq: leaf.seq, time: leaf.time_us })
    }
}

#[cfg(test)]
mod tests;
