//! Everything that ends a stream.

use tonic::{Code, Status, Streaming};
use writ_workload::proto::{JwtBundlesRequest, X509BundlesRequest, X509svidRequest, X509svidResponse};

use crate::world::{World, entitled, meant, run_id, soon};

async fn stream(world: &World) -> Streaming<X509svidResponse> {
    let mut svids = world.raw().await.fetch_x509svid(meant(X509svidRequest {})).await.unwrap().into_inner();
    soon("the first message", svids.message()).await.unwrap().unwrap();
    svids
}

async fn end(svids: &mut Streaming<X509svidResponse>) -> Status {
    loop {
        match soon("the end", svids.message()).await {
            Ok(message) => assert!(message.is_some(), "a stream never ends without a status"),
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn full_redaction_is_permission_denied_on_every_stream() {
    let world = World::new().await;
    world.entitle_me();
    let mut svids = stream(&world).await;
    let mut client = world.raw().await;
    let mut roots = client.fetch_x509_bundles(meant(X509BundlesRequest {})).await.unwrap().into_inner();
    let mut keys = client.fetch_jwt_bundles(meant(JwtBundlesRequest {})).await.unwrap().into_inner();
    soon("roots", roots.message()).await.unwrap().unwrap();
    soon("keys", keys.message()).await.unwrap().unwrap();
    world.processes.entitle(std::process::id(), &[]);
    assert_eq!(end(&mut svids).await.code(), Code::PermissionDenied);
    assert_eq!(soon("the end", roots.message()).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(soon("the end", keys.message()).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_stream_ends_with_the_session() {
    let world = World::new().await;
    let (first, second) = (entitled("coder", 1), entitled("helper", 2));
    world.processes.entitle(std::process::id(), &[first.clone(), second.clone()]);
    let mut svids = stream(&world).await;
    first.ended.cancel();
    let left = soon("what is left", svids.message()).await.unwrap().unwrap();
    assert_eq!(left.svids.len(), 1);
    assert_eq!(left.svids[0].spiffe_id, run_id("helper", 2).as_str());
    second.ended.cancel();
    assert_eq!(end(&mut svids).await.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_process_that_is_forgotten_has_no_identity_any_more() {
    let world = World::new().await;
    world.entitle_me();
    let mut svids = stream(&world).await;
    world.processes.forget(std::process::id());
    assert_eq!(end(&mut svids).await.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_daemon_that_stops_says_so_and_clients_come_back() {
    let mut world = World::new().await;
    world.entitle_me();
    let mut svids = stream(&world).await;
    let serving = world.serving.take().unwrap();
    world.stop.cancel();
    assert_eq!(end(&mut svids).await.code(), Code::Unavailable);
    soon("the end of the server", serving).await.unwrap();
    // The next daemon takes the place of the socket that the last one left.
    world.stop = tokio_util::sync::CancellationToken::new();
    world.serve();
    stream(&world).await;
}
