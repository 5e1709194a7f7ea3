//! Bundles of other trust domains: fetched from their endpoints and published beside our own (SPIFFE Federation,
//! section 5).
//!
//! Relations are one-way and explicit: which trust domain, from which URL, how its server proves itself. Nothing is
//! inferred from anything else. What was fetched is kept in a file, because the server of an endpoint may since have
//! changed its keys to ones that only the newest bundle knows.
//!
//! Invariant: a bundle is published only under the trust domain of its relation, and an older one never replaces a newer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;
use rustls::ClientConfig;
use tokio::task::JoinSet;
use writ_core::{SpiffeId, Timestamp, TrustDomain};
use writ_gate::limits;
use writ_host::durable;

use crate::bundle::{self, Bundle, Bundles, Publication, REFRESH_HINT_DEFAULT};
use crate::https::{self, FetchError};
use crate::{Error, Surroundings, mtls, schedule};

/// A trust domain that is believed, and where its bundle is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Whose identities.
    pub trust_domain: TrustDomain,
    /// Its bundle endpoint.
    pub url: String,
    /// How the endpoint's server proves itself.
    pub profile: Profile,
}

/// How the server of a bundle endpoint proves itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// `https_web`: by name, to an authority of the web.
    Web {
        /// The roots, PEM; the system's if absent.
        ca_file: Option<PathBuf>,
    },
    /// `https_spiffe`: by an X509-SVID.
    Spiffe {
        /// The SPIFFE ID that it must have.
        endpoint: SpiffeId,
        /// The bundle of that ID's trust domain to begin with, in JWKS form.
        bootstrap: PathBuf,
    },
}

/// What one poll gave.
#[derive(Debug)]
#[non_exhaustive]
pub struct Poll {
    /// Whose bundle.
    pub trust_domain: TrustDomain,
    /// Whether it changed; what was fetched before stands if there is an error.
    pub changed: Result<bool, Error>,
}

/// The relations of this daemon. Shared; nothing runs by itself.
pub struct Federation {
    standings: Mutex<Vec<Standing>>,
    publication: Arc<Publication>,
    surroundings: Surroundings,
    file: PathBuf,
}

/// A relation and when it is looked at next.
#[derive(Debug, Clone)]
struct Standing {
    relation: Arc<Relation>,
    due: Timestamp,
}

impl Federation {
    /// Publishes what was fetched before and is still federated with; every relation is due at once. `file` is where
    /// bundles are kept.
    pub fn open(
        relations: Vec<Relation>,
        publication: Arc<Publication>,
        surroundings: Surroundings,
        file: PathBuf,
    ) -> Result<Self, Error> {
        let own = publication.now().own().trust_domain().clone();
        if let Some(relation) = relations.iter().find(|relation| relation.trust_domain == own) {
            // Whoever answers there would say whom we are believed by.
            let problem = "our own trust domain is not fetched from anywhere".to_owned();
            return Err(Error::Answer { url: relation.url.clone(), problem });
        }
        let kept = match durable::read(&file)? {
            Some(text) => bundle::from_map(&text).map_err(|source| Error::Unusable {
                origin: file.display().to_string(),
                source,
                hint: "remove the file; every endpoint is then asked with its bootstrap bundle",
            })?,
            None => Vec::new(),
        };
        for bundle in kept {
            if relations.iter().any(|relation| relation.trust_domain == *bundle.trust_domain()) {
                publication.set(bundle);
            }
        }
        let due = Timestamp::from_micros(0);
        let standings = relations.into_iter().map(|relation| Standing { relation: Arc::new(relation), due });
        Ok(Self { standings: Mutex::new(standings.collect()), publication, surroundings, file })
    }

    /// Fetches every bundle that is due at `now`, at the same time, and publishes what changed. To be called every few
    /// seconds. Cancelled, it loses fetches under way and nothing else.
    pub async fn tick(&self, now: Timestamp) -> Result<Vec<Poll>, Error> {
        let mut asked = JoinSet::new();
        for relation in self.take_due(now) {
            let bundles = self.publication.now();
            let surroundings = self.surroundings.clone();
            asked.spawn(async move {
                let fetched = fetch(&relation, &bundles, &surroundings).await;
                (relation, fetched)
            });
        }
        let mut polls = Vec::new();
        while let Some(answered) = asked.join_next().await {
            // A fetch that panicked is one that failed; its relation is due again after the default.
            let Ok((relation, fetched)) = answered else { continue };
            polls.push(self.take(&relation, fetched, now));
        }
        if polls.iter().any(|poll| matches!(poll.changed, Ok(true))) {
            self.keep()?;
        }
        Ok(polls)
    }

    /// The relations that are due, which are then due again after the default: a poll that fails waits like any other.
    fn take_due(&self, now: Timestamp) -> Vec<Arc<Relation>> {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = &*self.surroundings.ids;
        let due = standings.iter_mut().filter(|standing| standing.due <= now);
        due.map(|standing| {
            let held = self.publication.now();
            let held = held.get(standing.relation.trust_domain.as_str());
            standing.due = now.plus(interval(held.and_then(|bundle| bundle.refresh_hint), ids));
            Arc::clone(&standing.relation)
        })
        .collect()
    }

    fn take(&self, relation: &Relation, fetched: Result<Bundle, Error>, now: Timestamp) -> Poll {
        let changed = fetched.and_then(|bundle| {
            let held = self.publication.now();
            let held = held.get(relation.trust_domain.as_str());
            let sequences = held.and_then(|held| held.sequence).zip(bundle.sequence);
            if sequences.is_some_and(|(held, fetched)| fetched < held) {
                let problem = "it is older than the one that was fetched before".to_owned();
                return Err(Error::Answer { url: relation.url.clone(), problem });
            }
            let changed = held.is_none_or(|held| !held.same_keys(&bundle));
            let next = now.plus(interval(bundle.refresh_hint, &*self.surroundings.ids));
            self.publication.set(bundle);
            self.schedule(relation, next);
            Ok(changed)
        });
        if let Err(error) = &changed {
            tracing::warn!(target: "writ::identity", trust_domain = %relation.trust_domain, error = error as &dyn std::error::Error, "no bundle fetched");
        }
        Poll { trust_domain: relation.trust_domain.clone(), changed }
    }

    fn schedule(&self, relation: &Relation, due: Timestamp) {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        let same = standings.iter_mut().find(|standing| *standing.relation == *relation);
        if let Some(standing) = same {
            standing.due = due;
        }
    }

    fn keep(&self) -> Result<(), Error> {
        // Crash before or in here: the bundles of before are there, and all are fetched again at the start anyway.
        let bundles = self.publication.now();
        Ok(durable::replace(&self.file, bundle::to_map(bundles.federated()).as_bytes(), 0o600)?)
    }
}

impl std::fmt::Debug for Federation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Federation").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Until the next poll: what the bundle hints, neither so often that it harms nor so seldom that it is forgotten.
fn interval(hint: Option<Duration>, ids: &dyn writ_core::IdSource) -> Duration {
    let hint = hint.unwrap_or(REFRESH_HINT_DEFAULT);
    schedule::jittered(hint.clamp(POLL_MIN, POLL_MAX), ids)
}

const POLL_MIN: Duration = Duration::from_secs(10);
const POLL_MAX: Duration = Duration::from_hours(24);

/// Asks once. Redirections are followed under the same rules and never remembered.
async fn fetch(relation: &Relation, bundles: &Bundles, surroundings: &Surroundings) -> Result<Bundle, Error> {
    let tls = tls(&relation.profile, bundles, surroundings)?;
    let refused = |problem: String| Error::Answer { url: relation.url.clone(), problem };
    let failed = |source| Error::Fetch { url: relation.url.clone(), source };
    let mut uri: Uri = relation.url.parse().map_err(|_| failed(FetchError::Address))?;
    for _ in 0..=limits::FEDERATION_REDIRECTS_MAX {
        let request = Request::builder().uri(uri.clone()).header(http::header::ACCEPT, "application/json");
        let request = request.body(Full::new(Bytes::new())).map_err(|_| failed(FetchError::Address))?;
        let answer = https::send(Arc::clone(&tls), request).await.map_err(failed)?;
        if answer.status.is_redirection() {
            uri = follow(&uri, answer.location.as_deref())
                .ok_or_else(|| refused("it leads nowhere".to_owned()))?;
            continue;
        }
        if answer.status != http::StatusCode::OK {
            return Err(refused(format!("status {}", answer.status.as_u16())));
        }
        let read = Bundle::from_jwks(relation.trust_domain.clone(), &answer.body);
        return read.map_err(|invalid| refused(invalid.to_string()));
    }
    Err(refused("it leads on and on".to_owned()))
}

fn follow(from: &Uri, location: Option<&str>) -> Option<Uri> {
    let location = location?;
    let target: Uri = if location.starts_with('/') && !location.starts_with("//") {
        format!("https://{}{location}", from.authority()?).parse().ok()?
    } else {
        location.parse().ok()?
    };
    https::place(&target).is_ok().then_some(target)
}

fn tls(
    profile: &Profile,
    bundles: &Bundles,
    surroundings: &Surroundings,
) -> Result<Arc<ClientConfig>, Error> {
    let (endpoint, bootstrap) = match profile {
        Profile::Web { ca_file } => return https::web_config(ca_file.as_deref()),
        Profile::Spiffe { endpoint, bootstrap } => (endpoint.clone(), bootstrap),
    };
    let newest = bundles.get(endpoint.trust_domain()).map(|newest| Bundle::clone(newest));
    let trusted = newest.map_or_else(|| begin_with(bootstrap, &endpoint), Ok)?;
    let trusted = Arc::new(Bundles::new(trusted));
    let verifier = mtls::Verifier::new(
        Arc::new(move || Arc::clone(&trusted)),
        Arc::clone(&surroundings.clock),
        Arc::new(move |id| *id == endpoint),
    );
    Ok(Arc::new(mtls::client_without_identity(verifier)?))
}

/// The bootstrap bundle of the endpoint's trust domain.
fn begin_with(bootstrap: &Path, endpoint: &SpiffeId) -> Result<Bundle, Error> {
    let hint = "write the endpoint's trust bundle there, in JWKS form";
    let content = |problem| Error::Content { path: bootstrap.to_owned(), problem, hint };
    let text = durable::read(bootstrap)?.ok_or_else(|| content("does not exist"))?;
    let domain = TrustDomain::new(endpoint.trust_domain());
    let domain = domain.map_err(|_| content("is for a malformed trust domain"))?;
    Bundle::from_jwks(domain, &text).map_err(|_| content("is no trust bundle"))
}
