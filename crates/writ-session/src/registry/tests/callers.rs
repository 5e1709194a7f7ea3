//! Sessions of callers: who is named by which handle and trace, and when they end.

use writ_core::ActsFor;
use writ_gate::{Caller, Handle, Joined, TraceId};

use super::*;

impl World {
    /// A run that serves callers.
    async fn service(&self) -> Arc<Session> {
        let agent = agent("concurrent_runs_max = 99");
        let delegation = Delegation { acts_for: ActsFor::Caller, ..Delegation::default() };
        let request = OpenRequest { delegation, ..request(&agent, self.registry.new_run()) };
        Arc::clone(&self.registry.open(request).await.unwrap().session)
    }

    fn caller(&self, name: &str, minutes: u64) -> Caller {
        Caller {
            human: HumanId::oidc("https://id.example", name).unwrap(),
            display: Some(name.to_owned()),
            groups: vec!["staff".to_owned()],
            expires: self.clock.now().plus(Duration::from_mins(minutes)),
            parents: Vec::new(),
        }
    }

    async fn join(&self, base: &Arc<Session>, name: &str) -> Joined {
        self.registry.serve(base, self.caller(name, 5)).await.unwrap()
    }

    fn acting(
        &self,
        base: &Arc<Session>,
        handles: &[&Joined],
        trace: Option<TraceId>,
    ) -> Result<String, Reason> {
        let handles: Vec<_> = handles.iter().map(|joined| joined.handle.as_str()).collect();
        let session = self.registry.acting(base, &Marks { handles: &handles, trace })?;
        Ok(session.facts().human.display.clone().unwrap())
    }
}

fn trace(n: u8) -> TraceId {
    TraceId::new([n; 16]).unwrap()
}

#[tokio::test]
async fn a_caller_has_one_session_below_the_run_and_its_beginning_is_durable() {
    let world = World::new();
    let base = world.service().await;
    let one = world.join(&base, "ann").await;
    let again = world.join(&base, "ann").await;
    assert_eq!((one.session.facts().id, &one.handle), (again.session.facts().id, &again.handle));
    let facts = one.session.facts();
    assert_eq!(
        (facts.run, &facts.spiffe_id, &facts.agent),
        (base.facts().run, &base.facts().spiffe_id, &base.facts().agent)
    );
    assert_eq!(facts.delegation.below, Some(base.facts().id));
    assert_eq!(facts.delegation.acts_for, ActsFor::Starter);
    assert_eq!(facts.expires, world.clock.now().plus(Duration::from_mins(5)));
    assert_eq!(world.log.kinds(), ["session.opened", "session.joined"]);
    {
        let events = world.log.events.lock().unwrap();
        let Event::SessionJoined(joined) = &events[1] else { panic!("{events:?}") };
        assert_eq!(joined.groups.as_ref(), Some(&facts.human.groups));
    }
    assert_eq!(world.files(), 1, "only the run's own session is kept");
    assert_eq!(world.registry.list().len(), 2);
    assert_eq!(world.registry.find(facts.id).unwrap().session.facts(), facts);
    // No longer than the run.
    let long = world.registry.serve(&base, world.caller("bob", 600)).await.unwrap();
    assert_eq!(long.session.expires(), base.expires());

    world.log.full.store(true, Ordering::Relaxed);
    assert!(matches!(world.registry.serve(&base, world.caller("eve", 5)).await, Err(Error::Unrecorded(_))));
    assert_eq!(world.registry.list().len(), 3);
}

#[tokio::test]
async fn callers_are_named_by_handle_by_trace_and_by_both_and_never_by_a_contradiction() {
    let world = World::new();
    let base = world.service().await;
    let (ann, bob) = (world.join(&base, "ann").await, world.join(&base, "bob").await);
    assert!(world.registry.note_trace(&ann.session, trace(1)));
    assert!(world.registry.note_trace(&bob.session, trace(2)));
    let ok = |name: &str| Ok(name.to_owned());
    assert_eq!(world.acting(&base, &[&ann], None), ok("ann"));
    assert_eq!(world.acting(&base, &[], Some(trace(2))), ok("bob"));
    assert_eq!(world.acting(&base, &[&bob], Some(trace(2))), ok("bob"));
    assert_eq!(world.acting(&base, &[&bob], Some(trace(9))), ok("bob"), "an unknown trace says nothing");
    assert_eq!(world.acting(&base, &[&bob], Some(trace(1))), Err(Reason::TwoHumans));
    assert_eq!(world.acting(&base, &[&ann, &bob], None), Err(Reason::TwoHumans));
    assert_eq!(world.acting(&base, &[], None), Err(Reason::NoHuman));
    assert_eq!(world.acting(&base, &[], Some(trace(9))), Err(Reason::NoHuman));
    let forged = Joined { handle: Handle::new(&[1; 32]), session: Arc::clone(&ann.session) };
    assert_eq!(world.acting(&base, &[&forged], Some(trace(1))), Err(Reason::NoHuman));
}

#[tokio::test]
async fn a_handle_of_another_run_is_worth_nothing_and_so_is_its_trace() {
    let world = World::new();
    let (here, there) = (world.service().await, world.service().await);
    let ann = world.join(&here, "ann").await;
    let same = world.join(&there, "ann").await;
    world.registry.note_trace(&ann.session, trace(1));
    assert_ne!(ann.handle, same.handle);
    assert_eq!(world.acting(&there, &[&ann], None), Err(Reason::NoHuman));
    assert_eq!(world.acting(&there, &[], Some(trace(1))), Err(Reason::NoHuman));
    assert_eq!(world.acting(&there, &[&same], Some(trace(1))), Ok("ann".to_owned()));
}

#[tokio::test]
async fn a_trace_stays_with_whom_it_was_first_bound_to() {
    let world = World::new();
    let base = world.service().await;
    let (ann, bob) = (world.join(&base, "ann").await, world.join(&base, "bob").await);
    assert!(world.registry.note_trace(&ann.session, trace(1)));
    assert!(world.registry.note_trace(&ann.session, trace(1)), "it is hers already");
    assert!(!world.registry.note_trace(&bob.session, trace(1)));
    // Even when her session is over; she herself goes on with it.
    world.registry.end(ann.session.facts().id, Cause::Revoked).unwrap();
    assert!(!world.registry.note_trace(&bob.session, trace(1)));
    assert_eq!(world.acting(&base, &[], Some(trace(1))), Err(Reason::SessionRevoked));
    let later = world.join(&base, "ann").await;
    assert!(world.registry.note_trace(&later.session, trace(1)));
    assert_eq!(world.acting(&base, &[], Some(trace(1))), Ok("ann".to_owned()));
    // A flood of one's own pushes out one's own.
    world.registry.note_trace(&bob.session, trace(2));
    for n in 0..limits::TRACES_PER_CALLER_MAX as u128 {
        world.registry.note_trace(&later.session, TraceId::new((1000 + n).to_be_bytes()).unwrap());
    }
    assert_eq!(world.acting(&base, &[], Some(trace(1))), Err(Reason::NoHuman));
    assert_eq!(world.acting(&base, &[], Some(trace(2))), Ok("bob".to_owned()));
}

#[tokio::test]
async fn a_session_goes_on_while_newer_tokens_come_and_ends_when_none_does() {
    let world = World::new();
    let base = world.service().await;
    let ann = world.join(&base, "ann").await;
    world.clock.advance(Duration::from_mins(4));
    let again = world.join(&base, "ann").await;
    assert_eq!(again.session.facts().id, ann.session.facts().id);
    assert_eq!(ann.session.expires(), world.clock.now().plus(Duration::from_mins(5)));
    assert_eq!(world.log.kinds(), ["session.opened", "session.joined", "session.joined"]);
    // A token per request is no record per request.
    world.clock.advance(Duration::from_secs(1));
    world.join(&base, "ann").await;
    assert_eq!(world.log.kinds().len(), 3);
    world.clock.advance(Duration::from_mins(5));
    assert_eq!(world.acting(&base, &[&ann], None), Err(Reason::SessionExpired));
    assert_eq!(world.registry.expire_due(world.clock.now()).unwrap(), [ann.session.facts().id]);
    ann.session.ended().await;
    assert_eq!(world.acting(&base, &[&ann], None), Err(Reason::SessionExpired));
    // She comes back in a session of its own, and the old handle stays what it was.
    let later = world.join(&base, "ann").await;
    assert_ne!(later.handle, ann.handle);
    assert_eq!(world.acting(&base, &[&later], None), Ok("ann".to_owned()));
    let spent = Caller { expires: world.clock.now(), ..world.caller("bob", 0) };
    assert!(matches!(world.registry.serve(&base, spent).await, Err(Error::Over(Cause::Expired))));
}

#[tokio::test]
async fn other_groups_are_another_session() {
    let world = World::new();
    let base = world.service().await;
    let ann = world.join(&base, "ann").await;
    let less = Caller { groups: Vec::new(), ..world.caller("ann", 5) };
    let less = world.registry.serve(&base, less).await.unwrap();
    assert_ne!(ann.session.facts().id, less.session.facts().id);
    assert!(less.session.facts().human.groups.is_empty());
    world.registry.note_trace(&ann.session, trace(1));
    assert!(!world.registry.note_trace(&less.session, trace(1)));
}

#[tokio::test]
async fn callers_end_with_their_run_by_human_by_session_and_by_run() {
    let world = World::new();
    let (base, other) = (world.service().await, world.service().await);
    let (ann, bob) = (world.join(&base, "ann").await, world.join(&base, "bob").await);
    let elsewhere = world.join(&other, "ann").await;
    let human = Revoked::Human(ann.session.facts().human.id.clone());
    assert_eq!(world.registry.revoke(&human, Cause::SignedOut).unwrap().len(), 2);
    assert_eq!(world.acting(&base, &[&ann], None), Err(Reason::SignedOut));
    assert_eq!(elsewhere.session.cause(), Some(Cause::SignedOut));
    assert_eq!((bob.session.cause(), base.cause()), (None, None));

    world.registry.end(base.facts().id, Cause::Exited).unwrap();
    assert_eq!(bob.session.cause(), Some(Cause::Exited));
    assert_eq!(world.acting(&base, &[&bob], None), Err(Reason::NoHuman));
    assert!(matches!(
        world.registry.serve(&base, world.caller("bob", 5)).await,
        Err(Error::Over(Cause::Exited))
    ));
    assert!(!world.registry.note_trace(&bob.session, trace(1)));
    let later = world.join(&other, "bob").await;
    assert_eq!(world.registry.revoke(&Revoked::Run(other.facts().run), Cause::Revoked).unwrap().len(), 1);
    assert_eq!(later.session.cause(), Some(Cause::Revoked), "with its run's");
    assert_eq!(world.log.causes(), ["signed-out", "signed-out", "exited", "exited", "revoked", "revoked"]);
}

#[tokio::test]
async fn a_run_that_acts_for_its_starter_serves_nobody_and_a_restart_forgets_callers() {
    let mut world = World::new();
    let plain = Arc::clone(&world.open(&agent("")).await.unwrap().session);
    assert!(matches!(
        world.registry.serve(&plain, world.caller("ann", 5)).await,
        Err(Error::NotServing { .. })
    ));
    let base = world.service().await;
    let ann = world.join(&base, "ann").await;
    world.restart();
    assert!(world.registry.identify(base.facts().run.tag()).is_ok());
    assert_eq!(world.acting(&base, &[&ann], None), Err(Reason::NoHuman));
}

#[tokio::test]
async fn many_callers_at_once_have_one_session_each_and_no_more_than_may_be() {
    let world = World::new();
    let base = world.service().await;
    let join = |name| world.join(&base, name);
    let (one, two, three, four) = tokio::join!(join("ann"), join("bob"), join("ann"), join("bob"));
    let joined = [one, two, three, four];
    let ids: std::collections::BTreeSet<_> = joined.iter().map(|joined| joined.session.facts().id).collect();
    assert_eq!((ids.len(), world.log.kinds().len()), (2, 3));
    for n in 2..limits::CALLERS_PER_RUN_MAX {
        world.join(&base, &format!("n{n}")).await;
    }
    assert!(matches!(world.registry.serve(&base, world.caller("late", 5)).await, Err(Error::Busy { .. })));
    // Whoever has ended makes room, and is forgotten first.
    let gone = &joined[0];
    world.registry.note_trace(&gone.session, trace(1));
    world.registry.end(gone.session.facts().id, Cause::Revoked).unwrap();
    world.join(&base, "late").await;
    assert_eq!(world.acting(&base, &[], Some(trace(1))), Err(Reason::NoHuman));
}
