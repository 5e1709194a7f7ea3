//! Bundle endpoints over real TLS, in both profiles.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use writ_core::{SpiffeId, TrustDomain};
use writ_identity::federation::{Federation, Poll, Profile, Relation};
use writ_identity::mtls::{self, Presented};
use writ_identity::{Authority, Bundle};

use crate::support::{Node, openssl, write};

/// Path, and what is answered there: status, location, body.
type Pages = Arc<Mutex<HashMap<String, (u16, Option<String>, String)>>>;

/// A TLS server on loopback that ends with the test.
pub(crate) struct Endpoint {
    port: u16,
    pages: Pages,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    async fn begin(config: rustls::ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let pages = Pages::default();
        let (acceptor, shown) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&pages));
        let task = tokio::spawn(async move {
            let mut served = tokio::task::JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, shown) = (acceptor.clone(), Arc::clone(&shown));
                served.spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let page = shown.lock().unwrap().get(request.uri().path()).cloned();
                        async move { Ok::<_, Infallible>(answer(page)) }
                    });
                    let served = hyper::server::conn::http1::Builder::new();
                    drop(served.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { port, pages, task }
    }

    /// Proves itself by an X509-SVID and asks for none.
    async fn spiffe(node: &Node, authority: &Authority, id: &str) -> (Self, Arc<Presented>) {
        let presented = Arc::new(Presented::default());
        let svid = authority.issuer().x509(&SpiffeId::new(id).unwrap(), node.in_an_hour()).unwrap();
        presented.set(&svid).unwrap();
        (Self::begin(mtls::server_for_anyone(Arc::clone(&presented)).unwrap()).await, presented)
    }

    /// Proves itself by name to the authority in `ca.pem` of the folder, which is made here by OpenSSL.
    pub(crate) async fn web(folder: &Path) -> Self {
        let made = |arguments: &[&str]| openssl(folder, arguments).unwrap();
        made(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-subj",
            "/CN=web",
            "-days",
            "2",
        ]);
        made(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
            "-subj",
            "/CN=server",
        ]);
        write(&folder.join("ext"), b"subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n");
        made(&[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            "server.pem",
            "-days",
            "1",
            "-extfile",
            "ext",
        ]);
        let certificate =
            rustls::pki_types::CertificateDer::from_pem_file(folder.join("server.pem")).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self::begin(config).await
    }

    pub(crate) fn page(&self, path: &str, body: &str) {
        self.pages.lock().unwrap().insert(path.to_owned(), (200, None, body.to_owned()));
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn redirect(&self, path: &str, status: u16, to: &str) {
        self.pages.lock().unwrap().insert(path.to_owned(), (status, Some(to.to_owned()), String::new()));
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }
}

fn answer(page: Option<(u16, Option<String>, String)>) -> Response<Full<Bytes>> {
    let (status, location, body) = page.unwrap_or((404, None, String::new()));
    let mut answer = Response::builder().status(StatusCode::from_u16(status).unwrap());
    if let Some(location) = location {
        answer = answer.header("location", location);
    }
    answer.body(Full::new(Bytes::from(body))).unwrap()
}

/// Someone who federates with `two.org`.
struct Consumer {
    node: Node,
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Consumer {
    async fn new() -> Self {
        let node = Node::new("one.org", "");
        let authority = node.open().await;
        Self { node, authority, folder: tempfile::tempdir().unwrap() }
    }

    fn open(&self, url: String, profile: Profile) -> Federation {
        let trust_domain = TrustDomain::new("two.org").unwrap();
        let relation = Relation { trust_domain, url, profile };
        let file = self.folder.path().join("federated.json");
        Federation::open(vec![relation], self.authority.publication(), self.node.surroundings(), file)
            .unwrap()
    }

    fn spiffe(&self, bootstrap: &Bundle) -> Profile {
        let path = self.folder.path().join("bootstrap.json");
        write(&path, bootstrap.jwks().as_bytes());
        Profile::Spiffe { endpoint: SpiffeId::new("spiffe://two.org/bundle").unwrap(), bootstrap: path }
    }

    async fn poll(&self, federation: &Federation) -> Result<bool, String> {
        let mut polls = federation.tick(self.node.now()).await.unwrap();
        let Poll { changed, .. } = polls.pop().expect("the relation is due");
        changed.map_err(|error| {
            let mut said = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                said = format!("{said}: {cause}");
                source = cause.source();
            }
            said
        })
    }

    fn held(&self) -> Option<Bundle> {
        self.authority.bundles().borrow().get("two.org").map(|bundle| Bundle::clone(bundle))
    }

    /// Waits, by the clock, until the relation is surely due.
    fn wait(&self) {
        self.node.clock.advance(Duration::from_mins(6));
    }
}

fn own(authority: &Authority) -> Bundle {
    Bundle::clone(authority.bundles().borrow().own())
}

#[tokio::test]
async fn https_spiffe_begins_with_the_bootstrap_and_goes_on_with_the_newest() {
    let (consumer, two) = (Consumer::new().await, Node::new("two.org", ""));
    let authority = two.open().await;
    let (endpoint, presented) = Endpoint::spiffe(&two, &authority, "spiffe://two.org/bundle").await;
    endpoint.page("/b", &own(&authority).jwks());
    let federation = consumer.open(endpoint.url("/b"), consumer.spiffe(&own(&authority)));
    let mut bundles = consumer.authority.bundles();
    bundles.mark_unchanged();
    assert_eq!(consumer.poll(&federation).await, Ok(true));
    assert!(bundles.has_changed().unwrap(), "streams are told");
    assert_eq!(consumer.held(), Some(own(&authority)));
    assert!(federation.tick(consumer.node.now()).await.unwrap().is_empty(), "not due again so soon");
    consumer.wait();
    assert_eq!(consumer.poll(&federation).await, Ok(false));

    // The other side begins anew: what was fetched in between is the only way to know its new server.
    let overlap = {
        let fresh = Node::new("two.org", "");
        let mut both = own(&authority);
        both.add_root(own(&fresh.open().await).x509()[0].clone()).unwrap();
        both.sequence = Some(2);
        (fresh, both)
    };
    let (fresh, both) = overlap;
    let authority = fresh.open().await;
    endpoint.page("/b", &both.jwks());
    consumer.wait();
    assert_eq!(consumer.poll(&federation).await, Ok(true));
    let id = SpiffeId::new("spiffe://two.org/bundle").unwrap();
    presented.set(&authority.issuer().x509(&id, fresh.in_an_hour()).unwrap()).unwrap();
    consumer.wait();
    assert_eq!(consumer.poll(&federation).await, Ok(false), "the bootstrap bundle does not know this root");

    // After a restart as well: what was fetched is kept.
    let federation = consumer.open(endpoint.url("/b"), consumer.spiffe(&Bundle::empty(two.domain.clone())));
    assert_eq!(consumer.held().map(|bundle| bundle.x509().to_vec()), Some(both.x509().to_vec()));
    assert_eq!(consumer.poll(&federation).await, Ok(false));
}

#[tokio::test]
async fn https_spiffe_believes_one_id_of_one_domain() {
    let (consumer, two) = (Consumer::new().await, Node::new("two.org", ""));
    let authority = two.open().await;
    let (endpoint, _) = Endpoint::spiffe(&two, &authority, "spiffe://two.org/another").await;
    endpoint.page("/b", &own(&authority).jwks());
    let federation = consumer.open(endpoint.url("/b"), consumer.spiffe(&own(&authority)));
    let refused = consumer.poll(&federation).await.unwrap_err();
    assert!(refused.contains("no verified connection"), "{refused}");
    // The same ID, from an authority that the bootstrap bundle does not know.
    let evil = Node::new("two.org", "");
    let evil_authority = evil.open().await;
    let (endpoint, _) = Endpoint::spiffe(&evil, &evil_authority, "spiffe://two.org/bundle").await;
    endpoint.page("/b", &own(&evil_authority).jwks());
    let federation = consumer.open(endpoint.url("/b"), consumer.spiffe(&own(&authority)));
    consumer.poll(&federation).await.unwrap_err();
    assert_eq!(consumer.held(), None);
}

#[tokio::test]
async fn our_own_bundle_is_fetched_from_nowhere() {
    let consumer = Consumer::new().await;
    let relation = Relation {
        trust_domain: consumer.node.domain.clone(),
        url: "https://localhost/b".to_owned(),
        profile: Profile::Web { ca_file: None },
    };
    let file = consumer.folder.path().join("federated.json");
    let (publication, surroundings) = (consumer.authority.publication(), consumer.node.surroundings());
    Federation::open(vec![relation], publication, surroundings, file).unwrap_err();
}

#[tokio::test]
async fn https_web_is_checked_by_name() {
    let consumer = Consumer::new().await;
    let endpoint = Endpoint::web(consumer.folder.path()).await;
    let two = Node::new("two.org", "");
    let bundle = own(&two.open().await);
    endpoint.page("/b", &bundle.jwks());
    let web = || Profile::Web { ca_file: Some(consumer.folder.path().join("ca.pem")) };
    let federation = consumer.open(endpoint.url("/b"), web());
    assert_eq!(consumer.poll(&federation).await, Ok(true));
    assert_eq!(consumer.held(), Some(bundle));
    // The same server under a name that its certificate does not have.
    let federation = consumer.open(format!("https://127.0.0.1:{}/b", endpoint.port), web());
    consumer.poll(&federation).await.unwrap_err();
    // The system's roots do not know this authority.
    let federation = consumer.open(endpoint.url("/b"), Profile::Web { ca_file: None });
    consumer.poll(&federation).await.unwrap_err();
}

#[tokio::test]
async fn redirections_are_followed_under_the_same_rules() {
    let consumer = Consumer::new().await;
    let endpoint = Endpoint::web(consumer.folder.path()).await;
    let bundle = own(&Node::new("two.org", "").open().await);
    endpoint.page("/b", &bundle.jwks());
    endpoint.redirect("/relative", 302, "/b");
    endpoint.redirect("/absolute", 307, &endpoint.url("/relative"));
    endpoint.redirect("/plain", 302, &format!("http://localhost:{}/b", endpoint.port));
    endpoint.redirect("/user", 302, &format!("https://user@localhost:{}/b", endpoint.port));
    endpoint.redirect("/elsewhere", 302, &format!("https://127.0.0.1:{}/b", endpoint.port));
    endpoint.redirect("/loop", 302, "/loop");
    endpoint.redirect("/nowhere", 302, "//");
    let poll = async |path: &str| {
        let profile = Profile::Web { ca_file: Some(consumer.folder.path().join("ca.pem")) };
        consumer.poll(&consumer.open(endpoint.url(path), profile)).await
    };
    for path in ["/plain", "/user", "/elsewhere", "/loop", "/nowhere", "/absent"] {
        assert!(poll(path).await.is_err(), "{path}");
        assert_eq!(consumer.held(), None);
    }
    assert_eq!(poll("/absolute").await, Ok(true));
}

#[tokio::test]
async fn what_was_fetched_stands_until_something_better_comes() {
    let consumer = Consumer::new().await;
    let endpoint = Endpoint::web(consumer.folder.path()).await;
    let mut bundle = own(&Node::new("two.org", "").open().await);
    bundle.sequence = Some(7);
    endpoint.page("/b", &bundle.jwks());
    let profile = Profile::Web { ca_file: Some(consumer.folder.path().join("ca.pem")) };
    let federation = consumer.open(endpoint.url("/b"), profile);
    assert_eq!(consumer.poll(&federation).await, Ok(true));
    let mut older = own(&Node::new("two.org", "").open().await);
    older.sequence = Some(6);
    let huge = format!("{}{}", bundle.jwks(), " ".repeat(2 << 20));
    let twice = bundle.jwks().replacen('{', r#"{"keys":[],"#, 1);
    for (body, said) in [
        (older.jwks(), "older"),
        ("not json".to_owned(), "not JSON"),
        ("{}".to_owned(), "no `keys`"),
        (twice, "twice"),
        (huge, "too large"),
    ] {
        endpoint.page("/b", &body);
        consumer.wait();
        let refused = consumer.poll(&federation).await.unwrap_err();
        assert!(refused.contains(said), "{refused}");
        assert_eq!(consumer.held(), Some(bundle.clone()));
        assert!(
            federation.tick(consumer.node.now()).await.unwrap().is_empty(),
            "a failed poll waits like any other"
        );
    }
    // Empty keys are no failure: everything of that domain is revoked.
    endpoint.page("/b", r#"{"keys":[],"spiffe_sequence":8}"#);
    consumer.wait();
    assert_eq!(consumer.poll(&federation).await, Ok(true));
    assert!(consumer.held().unwrap().is_empty());
}
