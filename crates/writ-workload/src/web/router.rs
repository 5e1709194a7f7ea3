//! Which answer belongs to which path.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use writ_gate::BoxFuture;

/// What answers at one path.
///
/// It gets the request with its whole body, which was bounded and read in time, and is dropped when the client goes
/// away or [`writ_gate::limits::WEB_TIMEOUT`] is over: what it began must not be left half done by that. It may run many
/// times at once. The peer's certificate is never asked for, so whoever must know the caller asks for a token.
pub trait Endpoint: Send + Sync {
    /// Answers one request with one of the methods that it was added for.
    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'_, Response<Bytes>>;
}

/// The paths that are served, each with its methods.
#[derive(Default, Clone)]
pub struct Router {
    paths: BTreeMap<String, (Vec<Method>, Arc<dyn Endpoint>)>,
}

impl Router {
    /// Adds a path. A second one of the same name takes the place of the first.
    pub fn route(
        mut self,
        path: impl Into<String>,
        methods: impl IntoIterator<Item = Method>,
        endpoint: Arc<dyn Endpoint>,
    ) -> Self {
        self.paths.insert(path.into(), (methods.into_iter().collect(), endpoint));
        self
    }

    /// Adds a document that anybody may read.
    pub fn document(self, path: impl Into<String>, document: impl Document + 'static) -> Self {
        self.route(path, [Method::GET, Method::HEAD], Arc::new(Shown(document)))
    }

    /// What answers, or the refusal. Paths are compared as they are: nothing here is worth decoding for.
    pub(super) fn find(
        &self,
        method: &Method,
        path: &str,
    ) -> Result<Arc<dyn Endpoint>, Box<Response<Bytes>>> {
        let Some((methods, endpoint)) = self.paths.get(path) else {
            return Err(Box::new(plain(StatusCode::NOT_FOUND, "not found\n")));
        };
        if methods.contains(method) {
            return Ok(Arc::clone(endpoint));
        }
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        let allowed: Vec<_> = methods.iter().map(Method::as_str).collect();
        if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", ")) {
            refusal.headers_mut().insert(header::ALLOW, allowed);
        }
        Err(Box::new(refusal))
    }
}

/// A JSON document that is made anew for each reader.
pub trait Document: Send + Sync {
    /// The text.
    fn json(&self) -> String;
}

impl<F: Fn() -> String + Send + Sync> Document for F {
    fn json(&self) -> String {
        self()
    }
}

struct Shown<D>(D);

impl<D: Document> Endpoint for Shown<D> {
    fn answer(&self, _request: Request<Bytes>) -> BoxFuture<'_, Response<Bytes>> {
        Box::pin(async { json(StatusCode::OK, self.0.json()) })
    }
}

/// A JSON answer that nobody may keep.
pub fn json(status: StatusCode, text: impl Into<Bytes>) -> Response<Bytes> {
    response(status, "application/json", text.into())
}

pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<Bytes> {
    response(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn response(status: StatusCode, content: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
