//! The Workload API (SPIFFE Workload API, and its WIT-SVID profile), call by call.
//!
//! Invariant: nothing is issued but for a caller whose process was attested for this very call, and nothing outlives
//! the session that it is issued for.

mod claims;
mod jwt;
mod wit;
mod x509;

use std::sync::Arc;

use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use crate::proto;
use crate::proto::spiffe_workload_api_server::SpiffeWorkloadApi;
use crate::standing::{Moment, Shared, Standing, View, updates};

/// The calls on the socket.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) shared: Arc<Shared>,
}

/// A stream of messages to a workload.
pub(crate) type Stream<M> = BoxStream<'static, Result<M, Status>>;

impl Api {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn follow<T, V: View>(&self, request: &Request<T>, view: V) -> Reply<Stream<V::Message>> {
        let mut standing = self.shared.standing(request).await?;
        // Refused before the stream begins: clients tell that from one that ends.
        standing.now()?;
        Ok(Response::new(updates(standing, view)))
    }

    async fn once<T, M>(
        &self,
        request: &Request<T>,
        answer: impl FnOnce(&Moment<'_>) -> Result<M, Status>,
    ) -> Reply<M> {
        let mut standing: Standing = self.shared.standing(request).await?;
        let (identities, bundles) = standing.now()?;
        let moment = Moment { parts: standing.parts(), identities: &identities, bundles: &bundles };
        Ok(Response::new(answer(&moment)?))
    }

    fn wit_is_on(&self) -> Result<(), Status> {
        let on = self.shared.parts.issuer.issues_wit();
        on.then_some(()).ok_or_else(|| Status::unimplemented("WIT-SVIDs are not served here"))
    }
}

type Reply<M> = Result<Response<M>, Status>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for Api {
    type FetchX509SVIDStream = Stream<proto::X509svidResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<proto::X509svidRequest>,
    ) -> Reply<Self::FetchX509SVIDStream> {
        self.follow(&request, x509::Svids).await
    }

    type FetchX509BundlesStream = Stream<proto::X509BundlesResponse>;

    async fn fetch_x509_bundles(
        &self,
        request: Request<proto::X509BundlesRequest>,
    ) -> Reply<Self::FetchX509BundlesStream> {
        self.follow(&request, x509::Roots).await
    }

    async fn fetch_jwtsvid(&self, request: Request<proto::JwtsvidRequest>) -> Reply<proto::JwtsvidResponse> {
        let wanted = jwt::Wanted::read(request.get_ref())?;
        self.once(&request, |moment| jwt::svids(moment, &wanted)).await
    }

    type FetchJWTBundlesStream = Stream<proto::JwtBundlesResponse>;

    async fn fetch_jwt_bundles(
        &self,
        request: Request<proto::JwtBundlesRequest>,
    ) -> Reply<Self::FetchJWTBundlesStream> {
        self.follow(&request, jwt::Keys).await
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<proto::ValidateJwtsvidRequest>,
    ) -> Reply<proto::ValidateJwtsvidResponse> {
        let asked = request.get_ref();
        if asked.audience.is_empty() {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        if asked.svid.is_empty() {
            return Err(Status::invalid_argument("svid must be specified"));
        }
        self.once(&request, |moment| jwt::validate(moment, asked)).await
    }

    type FetchWITSVIDStream = Stream<proto::WitsvidResponse>;

    async fn fetch_witsvid(
        &self,
        request: Request<proto::WitsvidRequest>,
    ) -> Reply<Self::FetchWITSVIDStream> {
        self.wit_is_on()?;
        let only = wanted_id(&request.get_ref().spiffe_id)?;
        self.follow(&request, wit::Svids { only }).await
    }

    type FetchWITBundlesStream = Stream<proto::WitBundlesResponse>;

    async fn fetch_wit_bundles(
        &self,
        request: Request<proto::WitBundlesRequest>,
    ) -> Reply<Self::FetchWITBundlesStream> {
        self.wit_is_on()?;
        self.follow(&request, wit::Keys).await
    }
}

/// The one identity that a request may name; empty means all.
fn wanted_id(text: &str) -> Result<Option<writ_core::SpiffeId>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let id = writ_core::SpiffeId::new(text);
    id.map(Some).map_err(|_| Status::invalid_argument("spiffe_id is not a SPIFFE ID"))
}

/// The caller's identities, or the one that it names.
fn chosen<'a>(
    moment: &'a Moment<'_>,
    only: Option<&writ_core::SpiffeId>,
) -> Result<Vec<&'a crate::Entitled>, Status> {
    let mine = moment.identities.iter();
    let chosen: Vec<_> = mine.filter(|one| only.is_none_or(|only| *only == one.spiffe_id)).collect();
    if chosen.is_empty() {
        return Err(Status::permission_denied("this process has no such identity"));
    }
    Ok(chosen)
}

/// What could not be issued, as a status. The caller is told the kind; the log is told why.
pub(crate) fn unissued(error: &writ_identity::Error) -> Status {
    use writ_identity::Error;
    if matches!(error, Error::Ended) {
        return Status::permission_denied("the session has ended");
    }
    let error = error as &dyn std::error::Error;
    tracing::warn!(target: "writ::workload", error, "an identity could not be issued");
    Status::unavailable("identities cannot be issued at the moment")
}

/// The SPIFFE ID of a trust domain.
pub(crate) fn domain_id(bundle: &writ_identity::Bundle) -> String {
    format!("spiffe://{}", bundle.trust_domain())
}
