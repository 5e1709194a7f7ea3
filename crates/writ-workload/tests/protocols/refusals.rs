//! Every status that the standard names, and what is told to whom.

use tonic::Code;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use writ_workload::proto::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, WitsvidRequest, X509BundlesRequest,
    X509svidRequest,
};

use crate::world::{World, meant, soon};

/// The status of every call, with a request that would be good.
async fn codes(world: &World, header: Option<&str>) -> Vec<Code> {
    fn request<T>(message: T, header: Option<&str>) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(value) = header {
            request.metadata_mut().insert("workload.spiffe.io", value.parse().unwrap());
        }
        request
    }
    let mut client = world.raw().await;
    let jwt = JwtsvidRequest { audience: vec!["a".into()], spiffe_id: String::new() };
    let check = ValidateJwtsvidRequest { audience: "a".into(), svid: "a.b.c".into() };
    [
        client.fetch_x509svid(request(X509svidRequest {}, header)).await.map(drop),
        client.fetch_x509_bundles(request(X509BundlesRequest {}, header)).await.map(drop),
        client.fetch_jwtsvid(request(jwt, header)).await.map(drop),
        client.fetch_jwt_bundles(request(JwtBundlesRequest {}, header)).await.map(drop),
        client.validate_jwtsvid(request(check, header)).await.map(drop),
    ]
    .map(|answer| answer.map_or_else(|status| status.code(), |()| Code::Ok))
    .to_vec()
}

#[tokio::test]
async fn without_the_security_header_nothing_is_answered() {
    let world = World::new().await;
    world.entitle_me();
    for header in [None, Some("True"), Some("false"), Some("")] {
        assert_eq!(codes(&world, header).await, [Code::InvalidArgument; 5], "{header:?}");
    }
    let mut client = world.raw().await;
    let mut twice = meant(X509svidRequest {});
    twice.metadata_mut().append("workload.spiffe.io", "true".parse().unwrap());
    assert_eq!(client.fetch_x509svid(twice).await.unwrap_err().code(), Code::InvalidArgument);
    let wit = client.fetch_witsvid(WitsvidRequest::default()).await.unwrap_err();
    assert_eq!(wit.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_process_without_identity_is_denied_everything() {
    let world = World::new().await;
    assert_eq!(codes(&world, Some("true")).await, [Code::PermissionDenied; 5]);
    let error = world.spiffe().await.fetch_x509_svid().await.unwrap_err();
    assert!(matches!(error, spiffe::WorkloadApiError::NoIdentityIssued), "{error}");
    // Known to be nobody is no better than not known.
    world.processes.entitle(std::process::id(), &[]);
    assert_eq!(codes(&world, Some("true")).await, [Code::PermissionDenied; 5]);
    let ended = world.entitle_me();
    ended.cancel();
    assert_eq!(codes(&world, Some("true")).await, [Code::PermissionDenied; 5]);
}

#[tokio::test]
async fn while_nobody_can_say_it_is_unavailable() {
    let world = World::new().await;
    world.entitle_me();
    world.processes.starting(true);
    assert_eq!(codes(&world, Some("true")).await, [Code::Unavailable; 5]);
    world.processes.starting(false);
    let answered = codes(&world, Some("true")).await;
    assert_eq!(answered, [Code::Ok, Code::Ok, Code::Ok, Code::Ok, Code::InvalidArgument]);
}

#[tokio::test]
async fn reflection_describes_what_is_served() {
    let world = World::new().await;
    let mut client = ServerReflectionClient::new(world.channel().await);
    let list = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let requests = [
        list(MessageRequest::ListServices(String::new())),
        list(MessageRequest::FileContainingSymbol("SpiffeWorkloadAPI".to_owned())),
    ];
    let answers = client.server_reflection_info(futures_util::stream::iter(requests)).await.unwrap();
    let mut answers = answers.into_inner();
    let services = soon("the list", answers.message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = services.message_response else {
        panic!("{services:?}")
    };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"SpiffeWorkloadAPI"), "{names:?}");
    assert!(names.contains(&"envoy.service.secret.v3.SecretDiscoveryService"), "{names:?}");
    let file = soon("the file", answers.message()).await.unwrap().unwrap();
    assert!(matches!(file.message_response, Some(MessageResponse::FileDescriptorResponse(_))));
}

#[tokio::test]
async fn a_service_that_is_not_served_is_unimplemented() {
    let world = World::new().await;
    world.entitle_me();
    let mut grpc = tonic::client::Grpc::new(world.channel().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<X509svidRequest, X509svidRequest>::default();
    let path = http::uri::PathAndQuery::from_static("/spiffe.broker.API/SubscribeToX509SVID");
    let answer = grpc.unary(meant(X509svidRequest {}), path, codec).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
}
