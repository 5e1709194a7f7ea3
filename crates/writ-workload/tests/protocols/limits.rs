//! What one user, one connection and one message may take.

use std::io::Read;
use std::os::unix::net::UnixStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tonic::Code;
use writ_gate::limits;
use writ_workload::proto::{ValidateJwtsvidRequest, X509BundlesRequest};

use crate::world::{PATIENCE, World, meant, soon};

#[tokio::test]
async fn one_uid_has_a_bounded_number_of_connections() {
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
    let world = World::new().await;
    world.entitle_me();
    let max = limits::WORKLOAD_CONNECTIONS_PER_UID_MAX;
    let socket = world.socket();
    let held = tokio::task::spawn_blocking(move || {
        let held: Vec<_> = (0..max).map(|_| UnixStream::connect(&socket).unwrap()).collect();
        let mut one_more = UnixStream::connect(&socket).unwrap();
        one_more.set_read_timeout(Some(PATIENCE)).unwrap();
        let begun = std::time::Instant::now();
        let mut some = Vec::new();
        // Reset or closed, it is at an end.
        let _ended = one_more.read_to_end(&mut some);
        (held, begun.elapsed(), some.is_empty())
    });
    let (held, after, silent) = soon("the end of the one too many", held).await.unwrap();
    assert!(silent && after < limits::WORKLOAD_HELLO_TIMEOUT / 2, "{after:?}");
    // As soon as there is room again, there is an answer.
    drop(held);
    let again = async {
        loop {
            let endpoint = tonic::transport::Endpoint::from_shared(world.endpoint()).unwrap();
            let Ok(channel) = endpoint.connect().await else { continue };
            let mut client =
                writ_workload::proto::spiffe_workload_api_client::SpiffeWorkloadApiClient::new(channel);
            if client.fetch_x509_bundles(meant(X509BundlesRequest {})).await.is_ok() {
                return;
            }
        }
    };
    soon("an answer", again).await;
}

#[tokio::test]
async fn one_connection_has_a_bounded_number_of_streams() {
    let world = World::new().await;
    world.entitle_me();
    let client = world.raw().await;
    let mut streams = Vec::new();
    for _ in 0..limits::WORKLOAD_STREAMS_MAX {
        let mut client = client.clone();
        let stream = client.fetch_x509_bundles(meant(X509BundlesRequest {}));
        streams.push(soon("a stream", stream).await.unwrap().into_inner());
    }
    let mut other = client.clone();
    let mut one_more = Box::pin(other.fetch_x509_bundles(meant(X509BundlesRequest {})));
    let waits = tokio::time::timeout(std::time::Duration::from_millis(300), one_more.as_mut()).await;
    assert!(waits.is_err(), "it has to wait");
    streams.pop();
    soon("the one that waited", one_more).await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused() {
    let world = World::new().await;
    world.entitle_me();
    let mut client = world.raw().await;
    let svid = "x".repeat(limits::WORKLOAD_MESSAGE_BYTES_MAX);
    let check = ValidateJwtsvidRequest { audience: "a".into(), svid };
    let refused = client.validate_jwtsvid(meant(check)).await.unwrap_err();
    assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{refused:?}");
    let many = (0..=limits::WORKLOAD_AUDIENCES_MAX).map(|n| n.to_string()).collect();
    let many = writ_workload::proto::JwtsvidRequest { audience: many, spiffe_id: String::new() };
    assert_eq!(client.fetch_jwtsvid(meant(many)).await.unwrap_err().code(), Code::InvalidArgument);
}
