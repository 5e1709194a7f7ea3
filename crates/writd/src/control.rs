//! The control API over the assembled daemon: each operation in a few lines.

use std::sync::Arc;

use writ_capture::Feature;
use writ_control::api::{
    ActionQuery, Agents, AnswerGiven, AnswerTaken, Approval, Approved, Check, CheckState, Checkpoint, Checks,
    LogQuery, LoggedOut, Login, LoginBegun, LoginFinish, LoginState, Nothing, PolicyText, PolicyView,
    Prepared, Questions, Reloaded, Revocation, Revoked, RunOpen, SecretRef, Secrets, ServiceDetail,
    ServiceQuery, Services, SessionRow, Sessions, Status, Story, Who,
};
use writ_control::{Answer, Caller, Class, Clearance, Daemon, Fault, LeafStream, Opening};
use writ_core::event::{SecretRemoved, SecretSet};
use writ_core::{Secret, SecretName};
use writ_session::Live;

use crate::world::World;
use crate::{agents, approving, evidence, people, reload, runs};

/// The daemon as the control server knows it.
pub(crate) struct Control(pub(crate) Arc<World>);

impl Daemon for Control {
    fn is_governed(&self, caller: &Caller) -> Result<bool, Fault> {
        Ok(self.0.capture.run_of(caller.pidfd()).is_some())
    }

    fn status<'a>(&'a self, _by: &'a Clearance) -> Answer<'a, Status> {
        Box::pin(async { Ok(status(&self.0)) })
    }

    fn run_open<'a>(&'a self, by: &'a Clearance, ask: RunOpen) -> Answer<'a, (Prepared, Box<dyn Opening>)> {
        Box::pin(runs::open(&self.0, by, ask))
    }

    fn run_list<'a>(&'a self, by: &'a Clearance) -> Answer<'a, Sessions> {
        Box::pin(async {
            let mine = |live: &Arc<Live>| by.covers(live.session.facts().human.uid);
            let sessions =
                self.0.registry.list().into_iter().filter(mine).map(|live| row(&self.0, &live)).collect();
            Ok(Sessions { sessions })
        })
    }

    fn revoke<'a>(&'a self, by: &'a Clearance, ask: Revocation) -> Answer<'a, Revoked> {
        Box::pin(people::revoke(&self.0, by, ask.whose))
    }

    fn human_login<'a>(&'a self, by: &'a Clearance, ask: Login) -> Answer<'a, LoginBegun> {
        Box::pin(people::login(&self.0, by, ask))
    }

    fn human_finish<'a>(&'a self, by: &'a Clearance, ask: LoginFinish) -> Answer<'a, LoginState> {
        Box::pin(people::finish(&self.0, by, ask))
    }

    fn human_whoami<'a>(&'a self, by: &'a Clearance) -> Answer<'a, Who> {
        Box::pin(people::whoami(&self.0, by))
    }

    fn human_logout<'a>(&'a self, by: &'a Clearance) -> Answer<'a, LoggedOut> {
        Box::pin(people::logout(&self.0, by))
    }

    fn agent_list<'a>(&'a self, _by: &'a Clearance) -> Answer<'a, Agents> {
        Box::pin(agents::list(&self.0))
    }

    fn agent_approve<'a>(&'a self, by: &'a Clearance, ask: Approval) -> Answer<'a, Approved> {
        Box::pin(agents::approve(&self.0, by, ask))
    }

    fn approval_list<'a>(&'a self, by: &'a Clearance) -> Answer<'a, Questions> {
        Box::pin(approving::list(&self.0, by))
    }

    fn approval_answer<'a>(&'a self, by: &'a Clearance, ask: AnswerGiven) -> Answer<'a, AnswerTaken> {
        Box::pin(approving::answer(&self.0, by, ask))
    }

    fn log_query<'a>(&'a self, by: &'a Clearance, ask: LogQuery) -> Answer<'a, LeafStream> {
        Box::pin(async move { evidence::query(&self.0, by, ask).await })
    }

    fn action_why<'a>(&'a self, by: &'a Clearance, ask: ActionQuery) -> Answer<'a, Story> {
        Box::pin(async move { evidence::why(&self.0, by, ask).await })
    }

    fn secret_set<'a>(
        &'a self,
        by: &'a Clearance,
        name: SecretName,
        value: Secret<str>,
    ) -> Answer<'a, Nothing> {
        Box::pin(async move {
            let world = Arc::clone(&self.0);
            let event = SecretSet { name: name.to_string(), uid: by.caller().uid() };
            world.record.fact(event.into()).await.map_err(|error| failed(&error))?;
            off_runtime(move || world.store.set(&name, &value.into_bytes(), world.clock.now())).await?;
            Ok(Nothing {})
        })
    }

    fn secret_list<'a>(&'a self, _by: &'a Clearance) -> Answer<'a, Secrets> {
        Box::pin(async {
            let world = Arc::clone(&self.0);
            let entries = off_runtime(move || world.store.list()).await?;
            Ok(Secrets { names: entries.into_iter().map(|entry| entry.name).collect() })
        })
    }

    fn secret_remove<'a>(&'a self, by: &'a Clearance, ask: SecretRef) -> Answer<'a, Nothing> {
        Box::pin(async move {
            let world = Arc::clone(&self.0);
            let event = SecretRemoved { name: ask.name.to_string(), uid: by.caller().uid() };
            world.record.fact(event.into()).await.map_err(|error| failed(&error))?;
            let name = ask.name.clone();
            let was_there = off_runtime(move || world.store.remove(&name)).await?;
            if was_there { Ok(Nothing {}) } else { Err(Fault::missing("secret", &ask.name)) }
        })
    }

    fn service_list<'a>(&'a self, _by: &'a Clearance) -> Answer<'a, Services> {
        Box::pin(async {
            let services = self.0.catalog.services();
            Ok(Services { services: services.iter().map(|service| service.as_ref().into()).collect() })
        })
    }

    fn service_show<'a>(&'a self, _by: &'a Clearance, ask: ServiceQuery) -> Answer<'a, ServiceDetail> {
        Box::pin(async move {
            let service = self.0.catalog.service_named(&ask.name);
            service.map(|service| service.as_ref().into()).ok_or_else(|| Fault::missing("service", &ask.name))
        })
    }

    fn policy_show<'a>(&'a self, _by: &'a Clearance) -> Answer<'a, PolicyView> {
        Box::pin(async {
            let set = self.0.engine.set();
            let policies = set.texts().map(|(id, text)| PolicyText { id: id.to_owned(), text }).collect();
            Ok(PolicyView { digest: set.digest().to_owned(), policies })
        })
    }

    fn reload<'a>(&'a self, by: &'a Clearance) -> Answer<'a, Reloaded> {
        Box::pin(reload::reload(&self.0, by.caller().uid()))
    }

    fn evidence_checkpoint<'a>(&'a self, _by: &'a Clearance) -> Answer<'a, Checkpoint> {
        Box::pin(async {
            evidence::checkpoint(&self.0).ok_or_else(|| {
                Fault::local(Class::Unavailable, "evidence.no_checkpoint", "no checkpoint is signed yet")
                    .hint("wait a second")
            })
        })
    }

    fn doctor<'a>(&'a self, _by: &'a Clearance) -> Answer<'a, Checks> {
        Box::pin(async {
            let features = tokio::task::spawn_blocking(writ_capture::probe).await;
            let features = features.map_err(|error| failed(&error))?;
            let mut all = checks(&self.0);
            all.extend(features.iter().map(feature));
            Ok(Checks { checks: all })
        })
    }
}

fn status(world: &World) -> Status {
    let configuration = world.configuration.load();
    let log = world.log.status();
    let not_ready =
        if world.is_ready() { log.refusing.clone() } else { Some("starting or stopping".to_owned()) };
    Status {
        assurance: Some(world.capture.assurance()),
        checkpoint: evidence::checkpoint(world),
        config_digest: configuration.digest.clone(),
        connections: count(world.relay.tally().open()),
        dangers: configuration.dangers(),
        log_bytes: log.bytes,
        log_leaves: log.size,
        misses: world.relay.tally().missed(),
        not_ready,
        policy_digest: configuration.policies.digest().to_owned(),
        sessions: count(world.registry.list().len()),
        started: world.started.into(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn row(world: &World, live: &Live) -> SessionRow {
    let facts = live.session.facts();
    let tally = world.tallies.of(facts.id);
    SessionRow {
        actions: tally.actions,
        agent: facts.agent.clone(),
        assurance: facts.assurance,
        below: facts.delegation.below,
        command: vec![live.start.program.path.clone()],
        connections: count(world.relay.connections_of(facts.id)),
        display: facts.human.display.clone(),
        expires: facts.expires.into(),
        human: facts.human.id.clone(),
        opened: facts.opened.into(),
        pid: live.start.process.pid,
        purpose: facts.purpose.clone(),
        refused: tally.refused,
        run: facts.run,
        session: facts.id,
        spiffe_id: facts.spiffe_id.clone(),
        uid: facts.human.uid,
    }
}

/// What only the running daemon can say of itself; the host's features are the CLI's to probe.
fn checks(world: &World) -> Vec<Check> {
    let counters = world.capture.counters();
    let check = |name: &str, good: bool, found: String, hint: &str| Check {
        cost: None,
        found,
        hint: (!good).then(|| hint.to_owned()),
        name: name.to_owned(),
        state: if good { CheckState::Good } else { CheckState::Weaker },
    };
    let log = world.log.status();
    let misses = world.relay.tally().missed();
    vec![
        check("evidence", log.refusing.is_none(), format!("{} leaves", log.size), "free disk space"),
        check(
            "hand-off",
            misses == 0,
            format!("{misses} misses"),
            "something outside a run connects to the relay",
        ),
        check(
            "kernel events",
            counters.events_lost == 0,
            format!("{} lost", counters.events_lost),
            "the host is overloaded; refusals are counted even when their events are lost",
        ),
    ]
}

/// What the kernel offers, as it answered just now.
fn feature(feature: &Feature) -> Check {
    let state = match (feature.present, feature.required) {
        (true, _) => CheckState::Good,
        (false, true) => CheckState::Bad,
        (false, false) => CheckState::Weaker,
    };
    Check {
        cost: (!feature.present).then(|| feature.without.to_owned()),
        found: if feature.present { "loads" } else { "does not load" }.to_owned(),
        hint: None,
        name: feature.name.to_owned(),
        state,
    }
}

async fn off_runtime<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| failed(&error))?;
    done.map_err(|error| failed(&error))
}

fn failed(error: &dyn std::fmt::Display) -> Fault {
    Fault::local(Class::Failed, "control.failed", error.to_string())
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
