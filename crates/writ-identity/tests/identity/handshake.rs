//! Mutual TLS between identities, over real sockets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use writ_core::{Clock, SpiffeId};
use writ_identity::mtls::{self, Presented, Verifier};
use writ_identity::{Authority, Bundle, Bundles};

use crate::support::{Node, example, workload};

fn verifier(node: &Node, authority: &Authority, admit: fn(&SpiffeId) -> bool) -> Verifier {
    let bundles = authority.bundles();
    let trust = Arc::new(move || Arc::clone(&bundles.borrow()));
    Verifier::new(trust, Arc::clone(&node.clock) as Arc<dyn Clock>, Arc::new(admit))
}

fn presented(node: &Node, authority: &Authority, id: &SpiffeId) -> Arc<Presented> {
    let presented = Arc::new(Presented::default());
    presented.set(&authority.issuer().x509(id, node.in_an_hour()).unwrap()).unwrap();
    presented
}

/// One handshake and one byte each way: who the server saw, or why it failed.
async fn meet(
    client: rustls::ClientConfig,
    server: Arc<rustls::ServerConfig>,
) -> Result<Option<SpiffeId>, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = async {
        let (tcp, _) = listener.accept().await.map_err(|e| e.to_string())?;
        let mut stream = TlsAcceptor::from(server).accept(tcp).await.map_err(|e| e.to_string())?;
        let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
        let byte = stream.read_u8().await.map_err(|e| e.to_string())?;
        stream.write_u8(byte).await.map_err(|e| e.to_string())?;
        stream.shutdown().await.map_err(|e| e.to_string())?;
        Ok::<_, String>(chain.map(|chain| mtls::peer(&chain).unwrap()))
    };
    let connected = async {
        let tcp = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        let name = ServerName::try_from("unimportant.invalid").unwrap();
        let mut stream =
            TlsConnector::from(Arc::new(client)).connect(name, tcp).await.map_err(|e| e.to_string())?;
        stream.write_u8(7).await.map_err(|e| e.to_string())?;
        stream.read_u8().await.map_err(|e| e.to_string())
    };
    let (seen, answered) = tokio::join!(accepted, connected);
    match (seen, answered) {
        (Ok(seen), Ok(7)) => Ok(seen),
        (Err(seen), Err(answered)) => Err(format!("{seen}; {answered}")),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Ok(_), Ok(_)) => Err("another byte".to_owned()),
    }
}

#[tokio::test]
async fn two_runs_know_each_other_and_nobody_else_gets_in() {
    let (node, authority) = example().await;
    let (id, all) = (workload("example.org"), verifier(&node, &authority, |_| true));
    let own = presented(&node, &authority, &id);
    let server = Arc::new(mtls::server(Arc::clone(&own), all.clone()).unwrap());
    let client = || mtls::client(Arc::clone(&own), all.clone()).unwrap();
    assert_eq!(meet(client(), Arc::clone(&server)).await, Ok(Some(id.clone())));
    // No certificate at all.
    let bare = mtls::client_without_identity(all.clone()).unwrap();
    meet(bare.clone(), Arc::clone(&server)).await.unwrap_err();
    // A bundle endpoint asks for none.
    let open = Arc::new(mtls::server_for_anyone(Arc::clone(&own)).unwrap());
    assert_eq!(meet(bare, open).await, Ok(None));
    // Believed, and not let through.
    let nobody = mtls::server(Arc::clone(&own), verifier(&node, &authority, |_| false)).unwrap();
    meet(client(), Arc::new(nobody)).await.unwrap_err();
    // An authority of the same name that is another.
    let other = Node::new("example.org", "");
    let evil = other.open().await;
    let foreign = mtls::client(presented(&other, &evil, &id), all.clone()).unwrap();
    meet(foreign, Arc::clone(&server)).await.unwrap_err();
    let evil = mtls::server(presented(&other, &evil, &id), all.clone()).unwrap();
    meet(client(), Arc::new(evil)).await.unwrap_err();
    // Expired by our clock, whatever the system's says.
    node.clock.advance(Duration::from_hours(2));
    meet(client(), Arc::clone(&server)).await.unwrap_err();
    own.set(&authority.issuer().x509(&id, node.in_an_hour()).unwrap()).unwrap();
    assert_eq!(meet(client(), Arc::clone(&server)).await, Ok(Some(id)));
    own.clear();
    meet(client(), server).await.unwrap_err();
}

#[tokio::test]
async fn tls_ticket_resumption_does_not_skip_a_changed_bundle() {
    let (node, authority) = example().await;
    let id = workload("example.org");
    let own = presented(&node, &authority, &id);
    let trusted = Arc::new(Mutex::new(Arc::clone(&authority.bundles().borrow())));
    let view = Arc::clone(&trusted);
    let changing = Verifier::new(
        Arc::new(move || Arc::clone(&view.lock().unwrap())),
        Arc::clone(&node.clock) as Arc<dyn Clock>,
        Arc::new(|_| true),
    );
    let server = mtls::server(Arc::clone(&own), changing).unwrap();
    assert_eq!(
        (server.send_tls13_tickets, server.session_storage.can_cache(), server.ticketer.enabled()),
        (0, false, false)
    );
    let server = Arc::new(server);
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
        // A client that would resume if it were given anything to resume with.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier(&node, &authority, |_| true)))
            .with_client_cert_resolver(Arc::clone(&own) as Arc<_>);
        *trusted.lock().unwrap() = Arc::clone(&authority.bundles().borrow());
        assert_eq!(meet(client.clone(), Arc::clone(&server)).await, Ok(Some(id.clone())));
        assert_eq!(meet(client.clone(), Arc::clone(&server)).await, Ok(Some(id.clone())));
        *trusted.lock().unwrap() = Arc::new(Bundles::new(Bundle::empty(node.domain.clone())));
        meet(client, Arc::clone(&server)).await.unwrap_err();
    }
}

#[tokio::test]
async fn runs_of_federated_domains_meet() {
    let (one, two) = (Node::new("one.org", ""), Node::new("two.org", ""));
    let (first, second) = (one.open().await, two.open().await);
    let (a, b) = (workload("one.org"), workload("two.org"));
    let server = mtls::server(presented(&two, &second, &b), verifier(&two, &second, |_| true)).unwrap();
    let server = Arc::new(server);
    let client = || mtls::client(presented(&one, &first, &a), verifier(&one, &first, |_| true)).unwrap();
    meet(client(), Arc::clone(&server)).await.unwrap_err();
    second.publication().set(Bundle::clone(first.bundles().borrow().own()));
    meet(client(), Arc::clone(&server)).await.unwrap_err();
    first.publication().set(Bundle::clone(second.bundles().borrow().own()));
    assert_eq!(meet(client(), server).await, Ok(Some(a)));
}
