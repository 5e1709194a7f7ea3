//! Evidence events: what is written down, one canonical leaf each.
//!
//! A leaf is JSON in the canonical form of RFC 8785 (JCS): keys sorted, no white space, no number that needs more
//! than 53 bits, no floats. To get that without sorting at run time, **every struct below declares its fields in
//! alphabetical order**; a test compares each with its sorted form. Every record of an action says who, for whom,
//! in which session, so that no reader has to correlate.

mod part;

use serde::{Deserialize, Serialize};

pub use part::{Actor, Hop, HopKind, Key, Keys, Known, LeaseFate, Outcome, Request, Script};

use crate::assurance::Assurance;
use crate::clock::Timestamp;
use crate::grant::{ActsFor, Grants};
use crate::id::{ActionId, ConnId, LeaseId, RunId, SessionId};
use crate::name::{AgentName, HumanId, OperationName, ServiceName};
use crate::process::Process;
use crate::reason::Reason;

macro_rules! events {
    ($($(#[doc = $doc:literal])* $kind:literal $name:ident {
        $($(#[doc = $fdoc:literal])* $(#[serde($serde:meta)])? $field:ident: $type:ty,)*
    })*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $name { $($(#[doc = $fdoc])* $(#[serde($serde)])? pub $field: $type,)* }

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
        /// The way that led here.
        tool_path: Vec<Hop>,
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
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn actor() -> Value {
        json!({"spiffe_id": format!("spiffe://example.org/agent/coder/run/{ID}"), "session": ID, "run": ID,
               "human": "unix:ann", "agent": "coder"})
    }

    fn process() -> Value {
        json!({"start_us": 5, "pid": 7, "exec_generation": 1})
    }

    fn decided(mut more: Value) -> Value {
        let key = json!({"policies": ["b", "a"], "permitted": true});
        let body = json!({
            "action": ID, "actor": actor(), "assurance": "kernel", "conn": ID, "process": process(),
            "keys": {"policy_digest": "00", "human": key, "agent": key},
            "request": {"service": "forge", "path": "/a\u{7f}\u{1}\u{e9}\"\\", "operation": "forge/read",
                "method": "GET", "host": "forge.test", "effect": "read", "arguments": {"z": "1\u{0}", "a": ["z", "\u{e9}"], "n": -7, "t": true}},
            "tool_path": [{"name": "unix:ann", "kind": "human", "how": "observed"}],
        });
        if let (Some(more), Value::Object(body)) = (more.as_object_mut(), body) {
            more.extend(body);
        }
        more
    }

    /// One body of every kind with every optional field present.
    fn bodies() -> Vec<(&'static str, Value)> {
        vec![
            ("node.started", json!({"version": "1", "dangers": ["x"], "assurance": "kernel-lsm"})),
            ("node.stopped", json!({"cut": 1})),
            ("evidence.dropped", json!({"count": 3})),
            ("evidence.recovered", json!({"replayed": 3, "cut": 1, "abandoned": 2})),
            ("config.loaded", json!({"uid": 0, "policy_digest": "00", "config_digest": "11"})),
            ("config.refused", json!({"uid": 0, "problems": 2})),
            ("secret.set", json!({"uid": 0, "name": "token"})),
            ("secret.removed", json!({"uid": 0, "name": "token"})),
            (
                "session.opened",
                json!({"uid": 1, "script": {"sha256": "00", "path": "/x.py", "how": "inferred"}, "purpose": "p",
                "process": process(), "login_uid": 1, "dangers": ["without_namespaces"],
                "expires_us": 9, "exe_sha256": "00", "exe": "/bin/x", "audit_session": 4,
                "assurance": "kernel", "actor": actor(), "acts_for": "starter", "display": "Ann",
                "grants": [["forge:a:read"]], "groups": ["unix:dev"], "parents": [ID]}),
            ),
            (
                "session.joined",
                json!({"groups": ["x"], "expires_us": 9, "display": "Ann", "below": ID, "actor": actor()}),
            ),
            ("session.ended", json!({"cause": "exited", "actor": actor()})),
            ("revocation.ordered", json!({"target": "human:unix:ann", "sessions": 1, "by": "uid:0"})),
            (
                "human.signed_in",
                json!({"uid": 1, "human": "oidc:https://id.test#ann", "groups": ["x"], "display": "Ann",
                "audit_session": 4, "amr": ["pwd"]}),
            ),
            ("human.signed_out", json!({"uid": 1, "human": "oidc:https://id.test#ann", "cause": "asked"})),
            (
                "human.signal",
                json!({"jti": "1", "issuer": "https://id.test", "human": "oidc:https://id.test#ann",
                "event": "session-revoked"}),
            ),
            (
                "identity.issued",
                json!({"serial": "01", "form": "jwt-svid", "expires_us": 9, "audience": ["x"], "actor": actor()}),
            ),
            ("identity.authority", json!({"state": "active", "generation": 2, "expires_us": 9})),
            ("agent.pinned", json!({"uid": 0, "digest": "00", "agent": "coder"})),
            (
                "agent.refused",
                json!({"uid": 1, "reason": "session.no_run", "process": process(), "exe": "/bin/x", "agent": "coder"}),
            ),
            (
                "process.executed",
                json!({"process": process(), "parent": 1, "exe": "/bin/x", "actor": actor()}),
            ),
            (
                "connection.refused",
                json!({"transport": "tcp", "reason": "session.no_run", "process": process(),
                "destination": "x:1", "conn": ID, "actor": actor()}),
            ),
            ("action.refused", decided(json!({"reason": "policy.agent_not_permitted"}))),
            ("action.intended", decided(json!({"observed": "policy.human_not_permitted"}))),
            (
                "action.closed",
                json!({"status": 200, "service": "forge", "scrubbed": 0, "actor": actor(),
                "reason": "gate.client_gone", "outcome": "completed", "operation": "forge/read", "lease": ID,
                "lease_fate": "standing", "duration_us": 5, "bytes_up": 1, "bytes_down": 2, "action": ID}),
            ),
        ]
    }

    /// RFC 8785 for the values that leaves have: ASCII keys, whole numbers.
    fn jcs(value: &Value) -> String {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<_> = map.iter().collect();
                keys.sort_by(|a, b| a.0.cmp(b.0));
                let fields: Vec<_> =
                    keys.iter().map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), jcs(v))).collect();
                format!("{{{}}}", fields.join(","))
            }
            Value::Array(items) => {
                format!("[{}]", items.iter().map(jcs).collect::<Vec<_>>().join(","))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
        }
    }

    fn leaf(kind: &str, body: &Value, version: u32) -> String {
        json!({"v": version, "kind": kind, "seq": 3, "time_us": 4, "body": body}).to_string()
    }

    #[test]
    fn every_event_is_written_in_its_sorted_form_and_reads_back() {
        let bodies = bodies();
        assert_eq!(bodies.iter().map(|b| b.0).collect::<Vec<_>>(), Event::KINDS, "a sample of every kind");
        for (kind, body) in bodies {
            let parsed = Leaf::decode(leaf(kind, &body, 1).as_bytes()).unwrap();
            let encoded = parsed.encode().unwrap();
            let value: Value = serde_json::from_slice(&encoded).unwrap();
            assert_eq!(String::from_utf8(encoded.clone()).unwrap(), jcs(&value), "{kind}: field order");
            assert_eq!(jcs(&value["body"]), jcs(&body), "{kind}: a field was lost, or the sample lacks one");
            assert_eq!(Leaf::decode(&encoded).unwrap(), parsed);
            assert_eq!(parsed.event.kind(), kind);
        }
    }

    #[test]
    fn what_was_written_before_groups_were_recorded_reads_back_and_stays_as_it_was() {
        let body = json!({"expires_us": 9, "display": null, "below": ID, "actor": actor()});
        let old = leaf("session.joined", &body, 1);
        let parsed = Leaf::decode(old.as_bytes()).unwrap();
        let canonical = jcs(&serde_json::from_str(&old).unwrap());
        assert_eq!(String::from_utf8(parsed.encode().unwrap()).unwrap(), canonical);
    }

    #[test]
    fn what_a_newer_version_wrote_is_refused() {
        let body = json!({"cut": 1});
        assert!(matches!(Leaf::decode(leaf("node.slept", &body, 1).as_bytes()), Err(LeafError::Kind(_))));
        let newer = Leaf::decode(leaf("node.stopped", &body, 2).as_bytes());
        assert!(matches!(newer, Err(LeafError::Version(2))));
        let extra = json!({"cut": 1, "more": 1});
        assert!(matches!(
            Leaf::decode(leaf("node.stopped", &extra, 1).as_bytes()),
            Err(LeafError::Malformed(_))
        ));
        for bytes in [&b""[..], b"{", b"[]", b"\xff", b"{\"v\":1}"] {
            assert!(Leaf::decode(bytes).is_err());
        }
    }
}
