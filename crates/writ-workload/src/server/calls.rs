//! From a request to the service that it is for.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use writ_gate::{BoxFuture, limits};

use crate::Parts;
use crate::api::Api;
use crate::caller::Caller;
use crate::proto;
use crate::proto::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer;
use crate::proto::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use crate::standing::Shared;
use crate::token::{Local, Tokens};

/// The services on the socket, by the path of a request.
pub(super) struct Calls {
    workload: SpiffeWorkloadApiServer<Api>,
    secrets: SecretDiscoveryServiceServer<Api>,
    reflection: [Option<Described>; 2],
    tokens: Option<Arc<Local>>,
}

type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;
type Described = Box<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

/// The security header of the Workload Endpoint, section 6.1: a request that somebody was tricked into making, by a
/// redirect for instance, does not carry it.
const HEADER: &str = "workload.spiffe.io";

impl Calls {
    pub(super) fn new(parts: Parts, tokens: Option<Arc<Tokens>>, stop: CancellationToken) -> Self {
        let workloads = Arc::clone(&parts.workloads);
        let api = Api::new(Arc::new(Shared::new(parts, stop)));
        Self {
            workload: SpiffeWorkloadApiServer::new(api.clone())
                .max_decoding_message_size(limits::WORKLOAD_MESSAGE_BYTES_MAX),
            secrets: SecretDiscoveryServiceServer::new(api)
                .max_decoding_message_size(limits::WORKLOAD_MESSAGE_BYTES_MAX),
            reflection: reflection(),
            tokens: tokens.map(|tokens| Arc::new(Local { tokens, workloads })),
        }
    }

    pub(super) fn answer(&self, caller: Arc<Caller>, mut request: Request<Incoming>) -> Answer {
        if let Some(tokens) = self.tokens.clone().filter(|_| Local::serves(request.uri().path())) {
            let meant = is_meant(&request);
            return Box::pin(async move { Ok(tokens.answer(caller, request, meant).await) });
        }
        request.extensions_mut().insert(caller);
        let [v1, v1alpha] = &self.reflection;
        match service(request.uri().path()) {
            "SpiffeWorkloadAPI" if !is_meant(&request) => refuse(&Status::invalid_argument(
                "the request must carry the metadata `workload.spiffe.io: true`",
            )),
            "SpiffeWorkloadAPI" => self.workload.clone().call(request),
            "envoy.service.secret.v3.SecretDiscoveryService" => self.secrets.clone().call(request),
            "grpc.reflection.v1.ServerReflection" => describe(v1.as_ref(), request),
            "grpc.reflection.v1alpha.ServerReflection" => describe(v1alpha.as_ref(), request),
            _ => refuse(&unserved()),
        }
    }
}

/// The `package.Service` of `/package.Service/Method`.
fn service(path: &str) -> &str {
    path.strip_prefix('/').and_then(|path| path.split_once('/')).map_or("", |(service, _)| service)
}

fn is_meant<B>(request: &Request<B>) -> bool {
    let mut values = request.headers().get_all(HEADER).iter();
    values.next().is_some_and(|value| value.as_bytes() == b"true") && values.next().is_none()
}

fn unserved() -> Status {
    Status::unimplemented("no such service")
}

fn refuse(status: &Status) -> Answer {
    let response = status.clone().into_http();
    Box::pin(async move { Ok(response) })
}

fn describe(reflection: Option<&Described>, request: Request<Incoming>) -> Answer {
    reflection.map_or_else(|| refuse(&unserved()), |describe| describe(request))
}

/// Both versions of gRPC reflection. They are built from descriptions that are part of the program; without them the
/// rest is served all the same.
fn reflection() -> [Option<Described>; 2] {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
    };
    let v1 = builder()
        .build_v1()
        .ok()
        .map(|server| -> Described { Box::new(move |request| server.clone().call(request)) });
    let v1alpha = builder()
        .build_v1alpha()
        .ok()
        .map(|server| -> Described { Box::new(move |request| server.clone().call(request)) });
    [v1, v1alpha]
}
