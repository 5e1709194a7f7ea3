//! Tokens that others can check: the exchange of RFC 8693 at `/token`, and introspection (RFC 7662) at `/introspect`.
//!
//! A client is a run that shows a JWT-SVID for the issuer, as actor token, as client assertion or as bearer token; on the
//! Workload API's socket it is the process that the kernel names, and shows nothing. What is issued, and for whom, is
//! decided in [`writ_identity::exchange`]; who humans are and which sessions live is asked of [`Subjects`] and [`Sessions`].
//!
//! The human is proved by their own token, by a handle in its place, by a token of ours, or by the run's own session: a run
//! that was started for a human has nothing of theirs to show, and names them (`unsigned_json`).
//!
//! Invariant: no token leaves before its issue is durable in the record, and nothing that was sent is repeated in an answer
//! or a log.

mod answer;
mod client;
mod exchange;
mod form;
mod introspect;
mod local;
mod metadata;
mod port;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use tokio::sync::watch;
use writ_core::{Clock, IdSource, Timestamp};
use writ_gate::{BoxFuture, Record};
use writ_identity::exchange::proof::Replays;
use writ_identity::exchange::{Actor, TokenSettings};
use writ_identity::{Bundles, Issuer};

use crate::Parts;
use crate::web::{Endpoint, Router};
use answer::Failure;
pub(crate) use local::Local;
pub use port::{NotProven, Sessions, Shown, SubjectKind, Subjects};

/// The path of the exchange, below the issuer's own.
pub const TOKEN_PATH: &str = "/token";
/// The path of introspection, below the issuer's own.
pub const INTROSPECT_PATH: &str = "/introspect";

/// What the exchange asks of its surroundings.
#[derive(Clone)]
pub struct TokenPorts {
    /// Who humans are.
    pub subjects: Arc<dyn Subjects>,
    /// Which sessions live.
    pub sessions: Arc<dyn Sessions>,
    /// The evidence log.
    pub record: Arc<dyn Record>,
}

/// Exchanges tokens, and tells whether they are active. One for the daemon, on however many listeners.
pub struct Tokens {
    issuer: Arc<Issuer>,
    /// `iss` of our tokens, and the audience of what clients show.
    name: String,
    /// The issuer without a slash at its end.
    base: String,
    bundles: watch::Receiver<Arc<Bundles>>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    ports: TokenPorts,
    settings: TokenSettings,
    replays: Replays,
}

/// Tokens name their issuer, and there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("tokens need an issuer; hint: set `identity.jwt_issuer`")]
pub struct NoIssuer;

impl Tokens {
    /// Ready to be added to listeners.
    pub fn new(
        parts: &Parts,
        around: TokenPorts,
        mut settings: TokenSettings,
    ) -> Result<Arc<Self>, NoIssuer> {
        let name = parts.issuer.issuer().ok_or(NoIssuer)?.to_owned();
        if settings.subject_audiences.is_empty() {
            settings.subject_audiences.push(name.clone());
        }
        Ok(Arc::new(Self {
            issuer: Arc::clone(&parts.issuer),
            base: name.trim_end_matches('/').to_owned(),
            name,
            bundles: parts.bundles.clone(),
            clock: Arc::clone(&parts.clock),
            ids: Arc::clone(&parts.ids),
            ports: around,
            settings,
            replays: Replays::default(),
        }))
    }

    /// Adds both endpoints, and says so in the discovery documents.
    pub fn add_to(self: &Arc<Self>, router: Router) -> Router {
        let path = metadata::path(&self.name);
        let document = metadata::document(self);
        let (openid, oauth) = (document.clone(), document);
        router
            .route(format!("{path}{TOKEN_PATH}"), [Method::POST], Arc::new(Exchange(Arc::clone(self))))
            .route(
                format!("{path}{INTROSPECT_PATH}"),
                [Method::POST],
                Arc::new(Introspection(Arc::clone(self))),
            )
            .document(format!("{path}/.well-known/openid-configuration"), move || openid.clone())
            // RFC 8414 section 3.1: the issuer's own path comes last.
            .document(format!("/.well-known/oauth-authorization-server{path}"), move || oauth.clone())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn bundles(&self) -> Arc<Bundles> {
        Arc::clone(&self.bundles.borrow())
    }

    /// The URL of the exchange, as proofs of keys name it.
    fn url(&self) -> String {
        format!("{}{TOKEN_PATH}", self.base)
    }

    /// Answers at one of the two paths, for a process that the kernel named or for whoever proves itself.
    async fn answer(&self, path: Path, request: &Request<Bytes>, peer: Option<&Actor>) -> Response<Bytes> {
        let answer = match path {
            Path::Token => self.exchanged(request, peer).await,
            Path::Introspect => self.introspected(request, peer),
        };
        answer.unwrap_or_else(|failure: Failure| {
            tracing::debug!(target: "writ::token", %failure, "refused");
            failure.response()
        })
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("issuer", &self.name).finish_non_exhaustive()
    }
}

/// The two endpoints.
#[derive(Debug, Clone, Copy)]
enum Path {
    Token,
    Introspect,
}

struct Exchange(Arc<Tokens>);

impl Endpoint for Exchange {
    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'_, Response<Bytes>> {
        Box::pin(async move { self.0.answer(Path::Token, &request, None).await })
    }
}

struct Introspection(Arc<Tokens>);

impl Endpoint for Introspection {
    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'_, Response<Bytes>> {
        Box::pin(async move { self.0.answer(Path::Introspect, &request, None).await })
    }
}
