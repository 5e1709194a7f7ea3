//! What a caller may have at this moment, and the wait for the moment when that changes.
//!
//! Every stream on the socket is one [`Standing`] and one [`View`]: the view makes the message that says everything,
//! the standing says when to make it anew. A message that would say the same again is not sent.
//!
//! Invariant: no message names an identity whose session has ended, and a caller without any gets an error.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::select_all;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use writ_core::Timestamp;
use writ_gate::limits;
use writ_identity::{Bundles, X509Svid};

use crate::Parts;
use crate::api::unissued;
use crate::caller::Caller;
use crate::workloads::{Entitled, Entitlements, NotAttested};

/// What all calls share.
pub(crate) struct Shared {
    pub(crate) parts: Parts,
    stop: CancellationToken,
    /// Counts updates that concern everybody, to spread them.
    turn: AtomicU32,
}

/// Wall clocks jump, so a wait for a time of day is cut into pieces of at most this.
const LOOK: Duration = Duration::from_secs(30);
/// Between two renewals of one stream, at least: when the authority's own time is nearly up, half of what is left is
/// ever shorter.
const RENEWAL_PAUSE_MIN: Duration = Duration::from_secs(1);
/// The standard's bound on a hint, bytes (Workload API, section 5.2.1).
const HINT_BYTES_MAX: usize = 1_024;

impl Shared {
    pub(crate) fn new(parts: Parts, stop: CancellationToken) -> Self {
        Self { parts, stop, turn: AtomicU32::new(0) }
    }

    /// Asks who the caller of this request is.
    pub(crate) async fn standing<T>(
        self: &Arc<Self>,
        request: &tonic::Request<T>,
    ) -> Result<Standing, Status> {
        let caller = request.extensions().get::<Arc<Caller>>().map(Arc::clone);
        let caller = caller.ok_or_else(|| Status::internal("the caller is not known"))?;
        let entitlements = self.parts.workloads.attest(caller.peer()).await.map_err(refused)?;
        // What was looked at may have been the next owner of the pid, if the caller went away meanwhile.
        if !caller.peer().is_alive() {
            return Err(refused(NotAttested::NoIdentity));
        }
        let mut bundles = self.parts.bundles.clone();
        bundles.mark_unchanged();
        Ok(Standing { shared: Arc::clone(self), caller, entitlements, bundles, held: Arc::default() })
    }

    /// Part of [`limits::WORKLOAD_SPREAD`], another for every caller that asks. Never nothing: what is published is used
    /// for signing a moment later.
    fn pause(&self) -> Duration {
        // Multiples of the golden ratio fill an interval evenly, however many there are (Weyl's sequence).
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9);
        limits::WORKLOAD_SPREAD.mul_f64(0.2 + 0.8 * f64::from(turn) / f64::from(u32::MAX))
    }
}

fn refused(error: NotAttested) -> Status {
    match error {
        NotAttested::NoIdentity => Status::permission_denied(error.to_string()),
        NotAttested::NotReady => Status::unavailable(error.to_string()),
    }
}

/// One caller's entitlements, followed.
pub(crate) struct Standing {
    shared: Arc<Shared>,
    caller: Arc<Caller>,
    entitlements: Entitlements,
    bundles: watch::Receiver<Arc<Bundles>>,
    held: Arc<[Entitled]>,
}

impl Standing {
    /// The caller's identities now, live ones, the default one first, no hint twice; and what is trusted now. No
    /// identity at all is `PermissionDenied`.
    pub(crate) fn now(&mut self) -> Result<(Arc<[Entitled]>, Arc<Bundles>), Status> {
        let now = self.shared.parts.clock.now();
        // A sender that is gone has no word on this caller any more.
        let known = self.entitlements.has_changed().is_ok();
        let all = Arc::clone(&self.entitlements.borrow_and_update());
        let live = all.iter().filter(|one| known && !one.ended.is_cancelled() && one.expires > now);
        let mut hints = HashSet::new();
        self.held = live
            .take(limits::WORKLOAD_IDENTITIES_MAX)
            .cloned()
            .map(|mut one| {
                if one.hint.len() > HINT_BYTES_MAX || !hints.insert(one.hint.clone()) {
                    one.hint.clear();
                }
                one
            })
            .collect();
        if self.held.is_empty() {
            return Err(refused(NotAttested::NoIdentity));
        }
        Ok((Arc::clone(&self.held), Arc::clone(&self.bundles.borrow_and_update())))
    }

    /// Whose it is, for the log.
    pub(crate) fn pid(&self) -> u32 {
        self.caller.peer().process().pid
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.shared.parts
    }

    /// Waits until the caller should be told anew: its identities, a session's end, what is trusted, or the time to
    /// renew.
    pub(crate) async fn changed(&mut self, renew: Option<Timestamp>) -> Result<(), Status> {
        let clock = &self.shared.parts.clock;
        let ends = self.held.iter().map(|one| one.expires);
        let due = renew.into_iter().chain(ends).min();
        let time = async {
            while let Some(wait) = due.map(|due| due.since(clock.now())).filter(|wait| !wait.is_zero()) {
                tokio::time::sleep(wait.min(LOOK)).await;
            }
            if due.is_none() {
                std::future::pending::<()>().await;
            }
        };
        let ended = async {
            let ends: Vec<_> = self.held.iter().map(|one| Box::pin(one.ended.cancelled())).collect();
            if ends.is_empty() {
                return std::future::pending().await;
            }
            select_all(ends).await;
        };
        let stopped = || Status::unavailable("the daemon stops");
        tokio::select! {
            () = self.shared.stop.cancelled() => Err(stopped()),
            () = ended => Ok(()),
            // A sender that is gone shows in `identities`.
            _ = self.entitlements.changed() => Ok(()),
            changed = self.bundles.changed() => {
                tokio::time::sleep(self.shared.pause()).await;
                changed.map_err(|_| stopped())
            }
            () = time => Ok(()),
        }
    }
}

/// Makes the messages of one kind of stream.
pub(crate) trait View: Send + Sync + 'static {
    /// One message; it says everything there is to say.
    type Message: Send + 'static;
    /// What it would say, without anything secret: two messages with the same stamp need not both be sent.
    type Stamp: PartialEq + Send;
    /// What there is to say now.
    fn stamp(&self, identities: &[Entitled], bundles: &Bundles) -> Self::Stamp;
    /// The message of this moment, made anew each time, so that no key is kept between two; and when it must be
    /// renewed at the latest.
    fn message(&self, now: &Moment<'_>) -> Result<(Self::Message, Option<Timestamp>), Status>;
}

/// What a message is made from.
pub(crate) struct Moment<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) identities: &'a [Entitled],
    pub(crate) bundles: &'a Bundles,
}

impl Moment<'_> {
    /// An X509-SVID for one of the caller's identities, and when to issue the next one.
    pub(crate) fn x509(&self, entitled: &Entitled) -> Result<(X509Svid, Option<Timestamp>), Status> {
        let issued = self.parts.x509(&entitled.spiffe_id, entitled.expires, self.bundles);
        let issued = issued.map_err(|error| unissued(&error))?;
        let renew = self.renewal(entitled, issued.not_after, issued.renew_at(self.parts.ids.as_ref()));
        Ok((issued, renew))
    }

    /// When to issue anew, if that is possible: what ends with its session is not renewed, and what is nearly over
    /// is not renewed in a hurry.
    pub(crate) fn renewal(
        &self,
        entitled: &Entitled,
        not_after: Timestamp,
        at: Timestamp,
    ) -> Option<Timestamp> {
        let soonest = self.parts.clock.now().plus(RENEWAL_PAUSE_MIN);
        // What is issued ends with a whole second.
        (not_after.seconds() < entitled.expires.seconds()).then_some(at.max(soonest))
    }
}

/// A stream of messages: the first at once, each other when it says something new. An error is its end.
pub(crate) fn updates<V: View>(
    standing: Standing,
    view: V,
) -> BoxStream<'static, Result<V::Message, Status>> {
    let updates = Updates { standing, view, said: None, renew: None };
    stream::unfold(Some(updates), |updates| async {
        let mut updates = updates?;
        Some(match updates.next().await {
            Ok(message) => (Ok(message), Some(updates)),
            Err(status) => (Err(status), None),
        })
    })
    .boxed()
}

struct Updates<V: View> {
    standing: Standing,
    view: V,
    said: Option<V::Stamp>,
    renew: Option<Timestamp>,
}

impl<V: View> Updates<V> {
    async fn next(&mut self) -> Result<V::Message, Status> {
        loop {
            if self.said.is_some() {
                self.standing.changed(self.renew).await?;
            }
            let (identities, bundles) = self.standing.now()?;
            let stamp = self.view.stamp(&identities, &bundles);
            let parts = self.standing.parts();
            let due = self.renew.is_some_and(|renew| renew <= parts.clock.now());
            if due || self.said.as_ref() != Some(&stamp) {
                let now = Moment { parts, identities: &identities, bundles: &bundles };
                let (message, renew) = self.view.message(&now)?;
                (self.said, self.renew) = (Some(stamp), renew);
                return Ok(message);
            }
        }
    }
}
