//! People and their sessions: signing in, the human behind a caller, and every way in which somebody may no longer act.
//!
//! Whatever ends a human's proof (they sign out, the issuer refuses or signals, somebody revokes) comes to [`Endings`]
//! and from there to the registry, which cuts what is live. A sign-in belongs to whoever logged in to the host and to
//! that login session: `sudo` does not change it, and another login of the same user does not share it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::mpsc;
use writ_broker::Store;
use writ_control::api::{
    LoggedOut, Login, LoginBegun, LoginFinish, LoginPlace, LoginState, Revoked, Who, Whose,
};
use writ_control::{Caller, Class, Clearance, Fault};
use writ_core::event::{HumanSignal, HumanSignedIn, HumanSignedOut, RevocationOrdered};
use writ_core::{Clock, HumanId, IdSource, Secret, SecretName, SessionId};
use writ_gate::{BoxFuture, Cause, Human, Record};
use writ_human::{
    EndCause, Ended, Error, Keep, KeepError, LoginId, LoginOwner, People, Ports, RealPace, Reveal, Signal,
    SignedIn, Tell,
};
use writ_session::{Live, Peer};
use writ_workload::web::Endpoint;

use crate::settings::Settings;
use crate::world::World;

/// How long one question of the device flow is kept waiting: well below the control socket's own limit.
const DEVICE_WAIT: Duration = Duration::from_secs(20);

/// `human.login`.
pub(crate) async fn login(world: &Arc<World>, by: &Clearance, ask: Login) -> Result<LoginBegun, Fault> {
    let owner = owner(&peer(by.caller()).await?);
    let (logins, issuer) = (world.people.logins(), ask.issuer.as_deref());
    if let Some(redirect) = ask.redirect_uri {
        let begun = logins.begin_browser(issuer, &redirect, owner).await.map_err(|e| refused(&e))?;
        return Ok(LoginBegun { login: begun.id.to_string(), place: LoginPlace::Browser { url: begun.url } });
    }
    let begun = logins.begin_device(issuer, owner).await.map_err(|e| refused(&e))?;
    let place = LoginPlace::Device {
        verification_uri: begun.verification_uri,
        verification_uri_complete: begun.verification_uri_complete,
        user_code: begun.user_code,
    };
    Ok(LoginBegun { login: begun.id.to_string(), place })
}

/// `human.finish`.
pub(crate) async fn finish(
    world: &Arc<World>,
    by: &Clearance,
    ask: LoginFinish,
) -> Result<LoginState, Fault> {
    let peer = peer(by.caller()).await?;
    let (owner, id) = (owner(&peer), LoginId::from(ask.login.as_str()));
    let logins = world.people.logins();
    let signed_in = match ask.query {
        Some(query) => logins.finish(&id, &owner, &query).await,
        None => match tokio::time::timeout(DEVICE_WAIT, logins.wait(&id, &owner)).await {
            Ok(answer) => answer,
            Err(_) => return Ok(LoginState::Pending { wait_s: 0 }),
        },
    };
    let signed_in = signed_in.map_err(|error| refused(&error))?;
    let event = HumanSignedIn {
        amr: signed_in.amr.clone(),
        audit_session: owner.audit_session,
        display: Some(signed_in.display.clone()),
        groups: signed_in.groups.clone(),
        human: signed_in.human.clone(),
        uid: owner.uid,
    };
    if let Err(error) = world.record.fact(event.into()).await {
        // What is not on record does not stand.
        drop(world.people.sign_out(&owner).await);
        return Err(failed(&error));
    }
    Ok(LoginState::Done(who(world, &peer)?))
}

/// `human.whoami`.
pub(crate) async fn whoami(world: &Arc<World>, by: &Clearance) -> Result<Who, Fault> {
    who(world, &peer(by.caller()).await?)
}

/// `human.logout`.
pub(crate) async fn logout(world: &Arc<World>, by: &Clearance) -> Result<LoggedOut, Fault> {
    let owner = owner(&peer(by.caller()).await?);
    let live = |human: &HumanId| sessions(world, human, Some(&owner));
    let before = world.people.who(owner.uid, owner.audit_session);
    let hung: Vec<SessionId> = before.as_ref().map(|who| live(&who.human)).unwrap_or_default();
    let out = world.people.sign_out(&owner).await.map_err(|error| refused(&error))?;
    let out = out.ok_or_else(|| Fault::missing("sign-in", &format!("uid {}", owner.uid)))?;
    // Told through `Endings` as well; whoever comes second finds nothing left.
    end(world, hung.iter().copied(), Cause::SignedOut);
    Ok(LoggedOut { end_session_url: out.end_session, human: out.human, sessions: hung })
}

/// `revoke`.
pub(crate) async fn revoke(world: &Arc<World>, by: &Clearance, whose: Whose) -> Result<Revoked, Fault> {
    let meant = |live: &Arc<Live>| {
        let facts = live.session.facts();
        by.covers(facts.human.uid)
            && match &whose {
                Whose::Session(id) => facts.id == *id,
                Whose::Run(id) => facts.run == *id,
                Whose::Agent(name) => facts.agent == *name,
                Whose::Human(id) => facts.human.id == *id,
            }
    };
    let live: Vec<SessionId> =
        world.registry.list().iter().filter(|live| meant(live)).map(|live| live.session.facts().id).collect();
    match &whose {
        Whose::Session(id) if live.is_empty() => return Err(Fault::missing("live session", id)),
        Whose::Run(id) if live.is_empty() => return Err(Fault::missing("live run", id)),
        Whose::Session(_) | Whose::Run(_) | Whose::Agent(_) | Whose::Human(_) => {}
    }
    let event = RevocationOrdered {
        by: format!("uid:{}", by.caller().uid()),
        sessions: count(live.len()),
        target: whose.to_string(),
    };
    world.record.fact(event.into()).await.map_err(|error| failed(&error))?;
    let connections = live.iter().map(|id| count(world.relay.connections_of(*id))).sum();
    end(world, live.iter().copied(), Cause::Revoked);
    // Only an administrator can say that a human may not act at all: sign-ins and callers' tokens of before end too.
    if let (Whose::Human(human), writ_control::Scope::All) = (&whose, by.scope()) {
        world.people.revoke(human).await.map_err(|error| refused(&error))?;
    }
    Ok(Revoked { connections, sessions: live })
}

/// The human behind a peer: as they signed in from this login, or as the kernel knows them.
pub(crate) fn human(world: &World, peer: &Peer, run_uid: u32) -> Result<Human, writ_session::Error> {
    let mut human = peer.human(run_uid)?;
    let owner = owner(peer);
    if let Some(signed_in) = world.people.who(owner.uid, owner.audit_session) {
        human.id = signed_in.human.clone();
        human.display = Some(signed_in.display.clone());
        // Groups of the host stay: policies may speak of either.
        human.groups.extend(signed_in.groups.iter().cloned());
    }
    Ok(human)
}

/// Whose sign-in it is: that of who logged in, which `sudo` does not change.
fn owner(peer: &Peer) -> LoginOwner {
    let (login_uid, audit_session) = (peer.login_uid(), peer.audit_session());
    LoginOwner { uid: login_uid.unwrap_or_else(|| peer.uid()), login_uid, audit_session }
}

/// The human behind a call.
pub(crate) async fn caller(world: &World, by: &Clearance) -> Result<Human, Fault> {
    let peer = peer(by.caller()).await?;
    human(world, &peer, peer.uid()).map_err(|error| failed(&error))
}

fn who(world: &World, peer: &Peer) -> Result<Who, Fault> {
    let human = human(world, peer, peer.uid()).map_err(|error| failed(&error))?;
    let owner = owner(peer);
    let signed_in = world.people.who(owner.uid, owner.audit_session);
    Ok(Who {
        audit_session: owner.audit_session,
        display: human.display,
        expires: signed_in.as_ref().map(|signed_in| signed_in.expires.into()),
        groups: human.groups,
        human: human.id,
        issuer: signed_in.map(|signed_in| signed_in.issuer.to_string()),
        login_uid: owner.login_uid,
        uid: peer.uid(),
    })
}

/// Reads what the kernel says of a caller, off the runtime's threads: the user database may be slow.
async fn peer(caller: &Caller) -> Result<Peer, Fault> {
    let pidfd = caller.pidfd().try_clone_to_owned();
    let (pid, uid, gid) = (caller.pid(), caller.uid(), caller.gid());
    let work =
        move || Peer::behind(pidfd.map_err(|error| failed(&error))?, pid, uid, gid).map_err(|e| failed(&e));
    tokio::task::spawn_blocking(work).await.map_err(|error| failed(&error))?
}

/// The live sessions of a human: all of them, or those that were started from one login.
fn sessions(world: &World, human: &HumanId, from: Option<&LoginOwner>) -> Vec<SessionId> {
    let meant = |live: &Arc<Live>| {
        let theirs = &live.session.facts().human;
        theirs.id == *human
            && from.is_none_or(|owner| {
                theirs.audit_session == owner.audit_session && theirs.login_uid == owner.login_uid
            })
    };
    world.registry.list().iter().filter(|live| meant(live)).map(|live| live.session.facts().id).collect()
}

fn end(world: &World, sessions: impl Iterator<Item = SessionId>, cause: Cause) {
    for session in sessions {
        if let Err(error) = world.registry.end(session, cause) {
            tracing::error!(target: "writ::session", %session, %error, "an ended session is still kept");
        }
    }
}

/// Takes back who was signed in; asks no issuer.
pub(crate) async fn open(
    settings: &Settings,
    store: &Arc<Store>,
    (clock, ids): (&Arc<dyn Clock>, &Arc<dyn IdSource>),
    tell: Endings,
) -> Result<People, anyhow::Error> {
    let sealed = Arc::new(Sealed { store: Arc::clone(store), clock: Arc::clone(clock) });
    let ports = Ports {
        clock: Arc::clone(clock),
        ids: Arc::clone(ids),
        keep: Arc::clone(&sealed) as _,
        reveal: sealed,
        tell: Arc::new(tell),
        pace: Arc::new(RealPace),
    };
    // Login sessions are counted anew with every start of the machine.
    let boot =
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("this start has no name")?;
    let people = People::open(settings.issuers.clone(), ports, boot.trim().to_owned()).await;
    people.context("the sign-ins that were kept cannot be read")
}

/// Where transmitters push what they know of people (RFC 8935).
pub(crate) struct Pushed(pub(crate) Arc<World>);

impl Endpoint for Pushed {
    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'_, Response<Bytes>> {
        Box::pin(async move {
            let answer = self.0.people.signals().push(request.headers(), request.body()).await;
            answer.map(Bytes::from)
        })
    }
}

/// What the human crate tells: passed on at once, done by [`follow`].
pub(crate) struct Endings(mpsc::UnboundedSender<Ended>, Arc<dyn Record>);

impl Endings {
    /// The two ends. What is told is bounded by what is signed in and by what transmitters may say.
    pub(crate) fn new(record: Arc<dyn Record>) -> (Self, mpsc::UnboundedReceiver<Ended>) {
        let (tell, told) = mpsc::unbounded_channel();
        (Self(tell, record), told)
    }
}

impl Tell for Endings {
    fn ended(&self, ended: &Ended) {
        // Without a reader the daemon stops, and every session is judged anew at its next start.
        drop(self.0.send(ended.clone()));
        if let Some(owner) = ended.owner {
            let cause = ended.cause.as_str().to_owned();
            self.1.note(HumanSignedOut { cause, human: ended.human.clone(), uid: owner.uid }.into());
        }
    }

    fn changed(&self, signed_in: &SignedIn) {
        // Sessions keep the groups they were opened with; what they may do from now on is the next session's.
        tracing::info!(target: "writ::human", uid = signed_in.owner.uid, "what the issuer says of a human changed");
    }

    fn signalled(&self, signal: &Signal) {
        for human in &signal.humans {
            let event = HumanSignal {
                event: signal.event.as_str().to_owned(),
                human: Some(human.clone()),
                issuer: signal.issuer.to_string(),
                jti: signal.id.clone(),
            };
            self.1.note(event.into());
        }
    }
}

/// Ends the sessions of humans whose proof is gone, until the daemon stops.
pub(crate) async fn follow(world: Arc<World>, mut told: mpsc::UnboundedReceiver<Ended>) {
    loop {
        let ended = tokio::select! {
            ended = told.recv() => ended,
            () = world.stop.cancelled() => None,
        };
        let Some(Ended { human, owner, cause }) = ended else { return };
        let sessions = sessions(&world, &human, owner.as_ref());
        let cause = if cause == EndCause::Revoked { Cause::Revoked } else { Cause::SignedOut };
        end(&world, sessions.into_iter(), cause);
    }
}

/// Refreshes sign-ins and listens for signals, until the daemon stops.
pub(crate) async fn tend(world: Arc<World>) {
    tokio::select! {
        () = world.people.tend() => {}
        () = world.stop.cancelled() => {}
    }
}

/// The sealed store as the human crate knows it.
pub(crate) struct Sealed {
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<dyn Clock>,
}

fn unkept(error: impl std::error::Error + Send + Sync + 'static) -> KeepError {
    KeepError(Box::new(error))
}

impl Keep for Sealed {
    fn load(&self, name: &SecretName) -> Result<Option<Secret<[u8]>>, KeepError> {
        self.store.internal().get(name).map_err(unkept)
    }

    fn store(&self, name: &SecretName, value: &Secret<[u8]>) -> Result<(), KeepError> {
        self.store.internal().set(name, value, self.clock.now()).map_err(unkept)
    }

    fn remove(&self, name: &SecretName) -> Result<(), KeepError> {
        self.store.internal().remove(name).map(drop).map_err(unkept)
    }

    fn list(&self) -> Result<Vec<SecretName>, KeepError> {
        let names = self.store.internal().names().map_err(unkept)?;
        let own = names.iter().filter(|name| name.starts_with("human-"));
        Ok(own.filter_map(|name| SecretName::new(name).ok()).collect())
    }
}

impl Reveal for Sealed {
    fn reveal(&self, name: &SecretName) -> Result<Option<Secret<[u8]>>, KeepError> {
        self.store.get(name).map_err(unkept)
    }
}

/// A sign-in that came to nothing, in the words of the human crate.
#[expect(clippy::wildcard_enum_match_arm, reason = "most of its errors are of one class")]
fn refused(error: &Error) -> Fault {
    let text = error.to_string();
    let (message, hint) = text.split_once("; hint: ").unwrap_or((&text, ""));
    let (class, code) = match error {
        Error::UnknownIssuer { .. } => (Class::Missing, "human.no_issuer"),
        Error::UnknownLogin => (Class::Missing, "human.no_login"),
        Error::Denied | Error::Token(_) => (Class::Denied, "human.refused"),
        Error::Busy { .. } | Error::Full { .. } => (Class::Unavailable, "human.busy"),
        _ => (Class::Failed, "human.failed"),
    };
    let fault = Fault::local(class, code, message);
    if hint.is_empty() { fault } else { fault.hint(hint) }
}

fn failed(error: &dyn std::fmt::Display) -> Fault {
    Fault::local(Class::Failed, "control.failed", error.to_string())
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
