//! The same endpoints on the Workload API's socket, where the kernel says who asks and nothing need be shown.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;
use tonic::body::Body;
use writ_gate::limits;
use writ_identity::exchange::{Actor, Refusal};

use super::answer::Failure;
use super::{INTROSPECT_PATH, Path, TOKEN_PATH, Tokens};
use crate::caller::Caller;
use crate::{NotAttested, Workloads};

/// The endpoints for processes of this machine.
pub(crate) struct Local {
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) workloads: Arc<dyn Workloads>,
}

impl Local {
    /// Whether a path is one of the endpoints'.
    pub(crate) fn serves(path: &str) -> bool {
        named(path).is_some()
    }

    /// Answers a process. `meant` tells whether its request carries the security header of the Workload Endpoint.
    pub(crate) async fn answer(
        &self,
        caller: Arc<Caller>,
        request: Request<Incoming>,
        meant: bool,
    ) -> Response<Body> {
        let answered = timeout(limits::WEB_TIMEOUT, self.answered(&caller, request, meant)).await;
        let response = answered.unwrap_or(Err(Failure::Unavailable)).unwrap_or_else(Failure::response);
        response.map(|body| Body::new(Full::new(body)))
    }

    async fn answered(
        &self,
        caller: &Caller,
        request: Request<Incoming>,
        meant: bool,
    ) -> Result<Response<Bytes>, Failure> {
        let path = named(request.uri().path()).ok_or(Refusal::Request("there is nothing here"))?;
        let (head, body) = request.into_parts();
        // Also before a refusal: curl takes a stream that ends with something unread for a broken one.
        let body = Limited::new(body, limits::WEB_BODY_BYTES_MAX).collect().await;
        if !meant || head.method != Method::POST {
            let refusal = Refusal::Request("the request must be a POST with `workload.spiffe.io: true`");
            return Err(refusal.into());
        }
        let body = body.map_err(|_| Refusal::Request("the body is too large or broke off"))?.to_bytes();
        let peer = self.peer(caller).await?;
        Ok(self.tokens.answer(path, &Request::from_parts(head, body), Some(&peer)).await)
    }

    /// The process's own identity, the default one.
    async fn peer(&self, caller: &Caller) -> Result<Actor, Failure> {
        let identities = self.workloads.attest(caller.peer()).await.map_err(|refused| match refused {
            NotAttested::NoIdentity => Failure::Refused(Refusal::Client("the process has no identity")),
            NotAttested::NotReady => Failure::Unavailable,
        })?;
        let first = identities.borrow().iter().find(|one| !one.ended.is_cancelled()).cloned();
        let first = first.ok_or(Refusal::Client("the process has no identity"))?;
        Ok(Actor { spiffe_id: first.spiffe_id, expires: first.expires })
    }
}

fn named(path: &str) -> Option<Path> {
    match path {
        TOKEN_PATH => Some(Path::Token),
        INTROSPECT_PATH => Some(Path::Introspect),
        _ => None,
    }
}
