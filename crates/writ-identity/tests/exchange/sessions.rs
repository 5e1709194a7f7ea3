//! Which session binds a human to a run.

use std::sync::Arc;
use std::time::Duration;

use writ_core::{
    ActsFor, AgentName, Assurance, HumanId, Reason, RunId, SessionId, SpiffeId, Timestamp, TrustDomain,
};
use writ_gate::{Cause, Delegation, Human, Session, SessionFacts};
use writ_identity::exchange::{Actor, Meant, Refusal, Scopes, Subject, session};

fn now() -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000)
}

fn run() -> SpiffeId {
    let domain = TrustDomain::new("example.org").unwrap();
    domain.run_id(&AgentName::new("coder").unwrap(), RunId::from_bits(1))
}

fn facts(id: u128, human: &str) -> SessionFacts {
    let human = Human {
        id: HumanId::new(human).unwrap(),
        display: None,
        groups: Vec::new(),
        uid: 1000,
        login_uid: None,
        audit_session: None,
    };
    SessionFacts {
        id: SessionId::from_bits(id),
        run: RunId::from_bits(1),
        spiffe_id: run(),
        agent: AgentName::new("coder").unwrap(),
        human,
        purpose: String::new(),
        opened: now(),
        expires: now().plus(Duration::from_secs(10)),
        assurance: Assurance::Kernel,
        delegation: Delegation::default(),
    }
}

fn open(facts: SessionFacts) -> Arc<Session> {
    Arc::new(Session::new(facts))
}

fn subject(meant: Meant) -> Subject {
    Subject {
        human: HumanId::new("unix:alice").unwrap(),
        groups: Vec::new(),
        scopes: Some(Scopes::read("read").unwrap()),
        expires: now().plus(Duration::from_secs(10)),
        meant,
        may_act: None,
        actors: Vec::new(),
    }
}

fn found(subject: &Subject, live: &[Arc<Session>], at: Timestamp) -> Result<SessionId, Refusal> {
    let actor = Actor { spiffe_id: run(), expires: at.plus(Duration::from_secs(10)) };
    session(subject, &actor, live, at).map(|session| session.facts().id)
}

#[test]
fn the_newest_live_session_of_run_and_human_binds_them() {
    let mut newer = facts(2, "unix:alice");
    newer.opened = now().plus(Duration::from_secs(1));
    let mut other_run = facts(4, "unix:alice");
    other_run.spiffe_id = SpiffeId::new("spiffe://example.org/agent/coder/run/2").unwrap();
    let live = [facts(1, "unix:alice"), newer, facts(3, "unix:bob"), other_run].map(open);
    let alice = subject(Meant::For(Vec::new()));
    assert_eq!(found(&alice, &live, now()), Ok(SessionId::from_bits(2)));
    live[1].end(Cause::Revoked);
    assert_eq!(live[1].cause().map(Cause::reason), Some(Reason::SessionRevoked));
    assert_eq!(found(&alice, &live, now()), Ok(SessionId::from_bits(1)));
    assert!(matches!(found(&alice, &live, live[0].expires()), Err(Refusal::Grant(_))), "ends in that moment");
    assert!(found(&alice, &live[2..], now()).is_err());
}

#[test]
fn a_handle_binds_in_its_session_and_a_mere_name_never_in_a_callers() {
    let mut base = facts(1, "unix:alice");
    base.delegation.acts_for = ActsFor::Caller;
    let mut caller = facts(2, "unix:alice");
    caller.delegation.below = Some(SessionId::from_bits(1));
    let live = [base, caller].map(open);
    let handle = |id| subject(Meant::Session(SessionId::from_bits(id)));
    assert_eq!(found(&handle(2), &live, now()), Ok(SessionId::from_bits(2)));
    assert!(found(&handle(1), &live, now()).is_err() && found(&handle(3), &live, now()).is_err());
    assert!(found(&subject(Meant::Own), &live, now()).is_err());
    let own = [open(facts(5, "unix:alice"))];
    assert_eq!(found(&subject(Meant::Own), &own, now()), Ok(SessionId::from_bits(5)));
    let mut only = subject(Meant::Own);
    only.may_act = Some("spiffe://example.org/agent/coder/run/2".to_owned());
    assert!(found(&only, &own, now()).is_err());
}
