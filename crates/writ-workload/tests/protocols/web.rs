//! The endpoints over TLS, as curl and openssl see them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::Value;
use tokio::task::JoinHandle;
use writ_core::clock::ManualClock;
use writ_core::{Clock, SpiffeId, TrustDomain};
use writ_gate::{BoxFuture, limits};
use writ_identity::federation::{Federation, Profile, Relation};
use writ_workload::Parts;
use writ_workload::settings::{Certificate, Https};
use writ_workload::web::{self, BUNDLE_PATH, Endpoint, Web, WebError};

use crate::world::{DOMAIN, PATIENCE, World, entitled, now, settings, soon, surroundings};

/// What an engineer of the token exchange would add.
struct Echo;

impl Endpoint for Echo {
    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'_, Response<Bytes>> {
        Box::pin(async move { web::json(StatusCode::OK, format!("{}", request.body().len())) })
    }
}

struct Site {
    world: World,
    at: SocketAddr,
    roots: PathBuf,
    /// When certificates are renewed.
    clock: Arc<ManualClock>,
    _serving: JoinHandle<()>,
}

impl Site {
    /// With a certificate from files, for `localhost`.
    async fn web(text: &str) -> Self {
        let world = World::with(settings(text)).await;
        let (chain, key) = (world.folder.path().join("chain.pem"), world.folder.path().join("key.pem"));
        issue(&chain, &key);
        Self::serve(world, Certificate::Files { chain: chain.clone(), key }, chain).await
    }

    /// With an X509-SVID of our own.
    async fn spiffe() -> Self {
        let world = World::new().await;
        let roots = world.folder.path().join("roots.pem");
        write_roots(&world, &roots);
        let id = SpiffeId::new(&format!("spiffe://{DOMAIN}/writ/web")).unwrap();
        Self::serve(world, Certificate::Svid(id), roots).await
    }

    async fn serve(world: World, certificate: Certificate, roots: PathBuf) -> Self {
        let clock = Arc::new(ManualClock::new(now()));
        let https = Https { listen: "127.0.0.1:0".parse().unwrap(), certificate };
        let parts = Parts { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..world.parts.clone() };
        let web = Web::bind(&https, &parts).await.unwrap();
        let at = web.address().unwrap();
        let router = web::documents(&world.parts, &[("token_endpoint", "/token")]).route(
            "/token",
            [Method::POST],
            Arc::new(Echo),
        );
        let serving = tokio::spawn(web.serve(router, world.stop.clone()));
        Self { world, at, roots, clock, _serving: serving }
    }

    async fn curl(&self, path: &str, extra: &[&str]) -> Output {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "20", "--cacert"]).arg(&self.roots).args(extra);
        command.arg("--resolve").arg(format!("localhost:{}:127.0.0.1", self.at.port()));
        command.arg(format!("https://localhost:{}{path}", self.at.port()));
        run(command).await
    }

    async fn json(&self, path: &str) -> Value {
        let output = self.curl(path, &[]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn status(&self, path: &str, extra: &[&str]) -> String {
        let mut all = vec!["-o", "/dev/null", "-w", "%{http_code} %{http_version}"];
        all.extend(extra);
        String::from_utf8(self.curl(path, &all).await.stdout).unwrap()
    }

    async fn openssl(&self, extra: &[&str]) -> String {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-ign_eof", "-connect", &self.at.to_string(), "-CAfile"])
            .arg(&self.roots)
            .args(extra);
        let mut client =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let asked = "GET /bundle HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        client.stdin.take().unwrap().write_all(asked.as_bytes()).unwrap();
        let output = tokio::task::spawn_blocking(move || client.wait_with_output().unwrap());
        let output = soon("the end of openssl", output).await.unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

async fn run(mut command: Command) -> Output {
    soon("the program's end", tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap()
}

fn issue(chain: &Path, key: &Path) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(key, signed.signing_key.serialize_pem()).unwrap();
    std::fs::write(chain, signed.cert.pem()).unwrap();
}

fn write_roots(world: &World, path: &Path) {
    let der = world.parts.bundles.borrow().own().x509()[0].to_vec();
    let der_path = path.with_extension("der");
    std::fs::write(&der_path, der).unwrap();
    let mut command = Command::new("openssl");
    command.args(["x509", "-inform", "DER", "-in"]).arg(&der_path).arg("-out").arg(path);
    assert!(command.status().unwrap().success());
}

#[tokio::test]
async fn the_bundle_is_what_others_federate_with() {
    let site = Site::web("").await;
    let served = site.json(BUNDLE_PATH).await;
    let text = served.to_string();
    let domain = TrustDomain::new(DOMAIN).unwrap();
    let read = writ_identity::Bundle::from_jwks(domain, text.as_bytes()).unwrap();
    assert_eq!(read.x509(), site.world.parts.bundles.borrow().own().x509());
    assert!(served["spiffe_sequence"].is_u64() && served["spiffe_refresh_hint"].is_u64());
    // A change is served at once.
    site.world.authority.replace(now()).await.unwrap();
    let changed = site.json(BUNDLE_PATH).await;
    assert!(changed["spiffe_sequence"].as_u64() > served["spiffe_sequence"].as_u64());
    let content = site.curl(BUNDLE_PATH, &["-o", "/dev/null", "-w", "%{content_type}"]).await;
    assert_eq!(String::from_utf8_lossy(&content.stdout), "application/json");
}

#[tokio::test]
async fn openid_discovery_leads_to_the_keys_of_tokens() {
    let issuer = "https://localhost/idp";
    let site = Site::web(&format!("[identity]\njwt_issuer = \"{issuer}\"\n")).await;
    let discovery = site.json("/idp/.well-known/openid-configuration").await;
    assert_eq!(discovery["issuer"], issuer);
    assert_eq!(discovery["jwks_uri"], "https://localhost/idp/keys");
    assert_eq!(discovery["token_endpoint"], "https://localhost/idp/token");
    assert_eq!(discovery["id_token_signing_alg_values_supported"][0], "ES256");
    let keys = site.json("/idp/keys").await;
    let keys = keys["keys"].as_array().unwrap();
    assert!(
        !keys.is_empty() && keys.iter().all(|key| key["use"] == "sig" && key["alg"] == "ES256"),
        "{keys:?}"
    );
    assert!(keys.iter().all(|key| key.get("d").is_none() && key.get("x5c").is_none()));
    // A token that a workload gets is one that they vouch for.
    let one = entitled("coder", 1);
    let svid = site.world.parts.issuer.jwt(&one.spiffe_id, &["sts.example".to_owned()], one.expires).unwrap();
    let part = |n: usize| {
        let text = svid.token.expose().split('.').nth(n).unwrap().to_owned();
        let raw = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text).unwrap();
        serde_json::from_slice::<Value>(&raw).unwrap()
    };
    assert_eq!(part(1)["iss"], issuer);
    assert!(keys.iter().any(|key| key["kid"] == part(0)["kid"]));
}

#[tokio::test]
async fn without_an_issuer_there_is_no_discovery() {
    let site = Site::web("").await;
    assert_eq!(site.status("/.well-known/openid-configuration", &[]).await, "404 2");
    assert_eq!(site.status("/keys", &[]).await, "404 2");
}

#[tokio::test]
async fn both_versions_of_http_and_only_the_methods_that_were_added() {
    let site = Site::web("").await;
    assert_eq!(site.status(BUNDLE_PATH, &["--http1.1"]).await, "200 1.1");
    assert_eq!(site.status(BUNDLE_PATH, &["--http2"]).await, "200 2");
    for version in ["--http1.1", "--http2"] {
        let head = String::from_utf8(site.curl(BUNDLE_PATH, &["-I", version]).await.stdout).unwrap();
        let length = site.curl(BUNDLE_PATH, &[version]).await.stdout.len();
        assert!(head.contains(&format!("content-length: {length}")), "{head}");
    }
    assert_eq!(site.status(BUNDLE_PATH, &["-d", "x"]).await, "405 2");
    assert_eq!(site.status("/nothing", &[]).await, "404 2");
    assert_eq!(site.status("/token", &["-d", "x=y"]).await, "200 2");
    let echoed = site.curl("/token", &["-d", "x=y"]).await;
    assert_eq!(echoed.stdout, b"3");
}

#[tokio::test]
async fn an_svid_of_our_own_proves_the_listener_to_those_who_have_the_bundle() {
    let site = Site::spiffe().await;
    let said = site.openssl(&["-showcerts", "-verify_return_error", "-brief"]).await;
    assert!(said.contains("Verification: OK"), "{said}");
    // `https_spiffe` is checked by its URI, which curl does not know; its chain it checks.
    let read = site.curl(BUNDLE_PATH, &["--insecure"]).await;
    assert!(read.status.success());
    let certificates = site.openssl(&["-showcerts"]).await;
    let mut inspect = Command::new("openssl")
        .args(["x509", "-noout", "-ext", "subjectAltName"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    inspect.stdin.take().unwrap().write_all(certificates.as_bytes()).unwrap();
    let text = String::from_utf8(inspect.wait_with_output().unwrap().stdout).unwrap();
    assert!(text.contains(&format!("URI:spiffe://{DOMAIN}/writ/web")), "{text}");
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_shown_to_the_next_client_and_a_broken_one_is_not() {
    let site = Site::web("").await;
    let (chain, key) = (site.roots.clone(), site.world.folder.path().join("key.pem"));
    assert_eq!(site.status(BUNDLE_PATH, &[]).await, "200 2");
    let old = std::fs::read(&chain).unwrap();
    let minute = Duration::from_mins(1);
    // Half written, as when somebody copies it there.
    std::fs::write(&chain, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
    site.clock.advance(minute);
    let kept = site.world.folder.path().join("old.pem");
    std::fs::write(&kept, old).unwrap();
    let kept = ["--cacert", kept.to_str().unwrap()];
    assert_eq!(site.status(BUNDLE_PATH, &kept).await, "200 2", "what was good stays in use");
    issue(&chain, &key);
    site.clock.advance(minute);
    assert_eq!(site.status(BUNDLE_PATH, &[]).await, "200 2", "the new one");
    assert_eq!(site.status(BUNDLE_PATH, &kept).await, "000 0", "and no longer the old one");
}

#[tokio::test]
async fn an_svid_of_our_own_is_renewed_before_it_ends() {
    let site = Site::spiffe().await;
    let shown = async || {
        let said = site.openssl(&["-showcerts"]).await;
        let (_, rest) = said.split_once("-----BEGIN CERTIFICATE-----").unwrap();
        rest.split_once("-----END").unwrap().0.to_owned()
    };
    let first = shown().await;
    assert_eq!(first, shown().await);
    // A certificate holds for an hour.
    site.clock.advance(Duration::from_mins(40));
    assert_ne!(first, shown().await);
}

/// Another trust domain's daemon polls the bundle, in either profile.
#[tokio::test]
async fn others_federate_with_us_in_both_profiles() {
    let own = TrustDomain::new(DOMAIN).unwrap();
    for spiffe in [false, true] {
        let site = if spiffe { Site::spiffe().await } else { Site::web("").await };
        let bootstrap = site.world.folder.path().join("bootstrap.json");
        std::fs::write(&bootstrap, site.world.parts.bundles.borrow().own().jwks()).unwrap();
        let endpoint = SpiffeId::new(&format!("spiffe://{DOMAIN}/writ/web")).unwrap();
        let profile = if spiffe {
            Profile::Spiffe { endpoint, bootstrap }
        } else {
            Profile::Web { ca_file: Some(site.roots.clone()) }
        };
        let url = format!("https://localhost:{}{BUNDLE_PATH}", site.at.port());
        let relation = Relation { trust_domain: own.clone(), url, profile };
        let other = crate::world::authority("other.example", settings("")).await;
        let kept = site.world.folder.path().join("federation.json");
        let publication = other.publication();
        let federation = Federation::open(vec![relation], publication, surroundings(), kept).unwrap();
        let polls = soon("the poll", federation.tick(now())).await.unwrap();
        assert!(polls.iter().all(|poll| poll.changed.is_ok()) && polls.len() == 1, "{polls:?}");
        let bundles = other.bundles().borrow().clone();
        let ours = site.world.parts.bundles.borrow().own().x509().to_vec();
        assert_eq!(bundles.get(DOMAIN).unwrap().x509(), ours);
    }
}

/// A root that was replaced vouches for nothing any more, not even for the listener that says so.
#[tokio::test]
async fn the_listener_shows_no_svid_of_a_root_that_was_replaced() {
    let site = Site::spiffe().await;
    let verify = ["-verify_return_error", "-brief"];
    assert!(site.openssl(&verify).await.contains("Verification: OK"));
    site.world.authority.replace(now()).await.unwrap();
    write_roots(&site.world, &site.roots);
    assert!(site.openssl(&verify).await.contains("Verification: OK"));
}

#[tokio::test]
async fn no_client_is_asked_for_a_certificate() {
    let site = Site::web("").await;
    for version in ["-tls1_2", "-tls1_3"] {
        let said = site.openssl(&[version]).await;
        assert!(said.contains("No client certificate CA names sent"), "{said}");
        assert!(!said.contains("Requested Signature Algorithms"), "{said}");
    }
}

/// The trap row "TLS ticket resumption skips a changed bundle": nothing is ever resumed.
#[tokio::test]
async fn ticket_resumption_cannot_skip_a_changed_bundle() {
    let site = Site::web("").await;
    for version in ["-tls1_2", "-tls1_3"] {
        let kept = site.world.folder.path().join("session");
        let kept = kept.to_str().unwrap();
        let first = site.openssl(&[version, "-sess_out", kept]).await;
        assert!(first.contains("New, TLSv1") && first.contains("200 OK"), "{first}");
        assert!(!first.contains("TLS session ticket:"), "{first}");
        if Path::new(kept).exists() {
            let second = site.openssl(&[version, "-sess_in", kept]).await;
            assert!(!second.contains("Reused, "), "{second}");
            std::fs::remove_file(kept).unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_large_is_refused() {
    let site = Site::web("").await;
    let body = site.world.folder.path().join("body");
    std::fs::write(&body, vec![b'x'; limits::WEB_BODY_BYTES_MAX + 1]).unwrap();
    let body = format!("@{}", body.display());
    assert_eq!(site.status("/token", &["--data-binary", &body]).await, "413 2");
    assert_eq!(site.status("/token", &["--data-binary", &body, "--http1.1"]).await, "413 1.1");
    let long = format!("X-Long: {}", "x".repeat(limits::WEB_HEAD_BYTES_MAX));
    assert_eq!(site.status(BUNDLE_PATH, &["--http1.1", "-H", &long]).await, "431 1.1");
    let refused = site.status(BUNDLE_PATH, &["--http2", "-H", &long]).await;
    assert!(refused.starts_with("431") || refused.starts_with("000"), "{refused}");
}

/// Slow clients: one that never speaks TLS, one whose head never ends, one whose body never comes.
#[tokio::test]
async fn slow_clients_are_hung_up_on_in_time() {
    let site = Site::web("").await;
    let at = site.at;
    let wait = |mut read: Box<dyn Read + Send>| {
        move || {
            let (begun, mut all) = (Instant::now(), Vec::new());
            // An error is an end as well.
            let _ended = read.read_to_end(&mut all);
            (begun.elapsed(), String::from_utf8_lossy(&all).into_owned())
        }
    };
    let silent = TcpStream::connect(at).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let silent = tokio::task::spawn_blocking(wait(Box::new(silent)));
    let dribble = |text: &'static str| {
        let (roots, at) = (site.roots.clone(), at.to_string());
        tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let mut client = Command::new("openssl")
                .args(["s_client", "-quiet", "-connect", &at, "-CAfile"])
                .arg(roots)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut stdin = client.stdin.take().unwrap();
            stdin.write_all(text.as_bytes()).unwrap();
            let mut said = String::new();
            client.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            drop(stdin);
            client.wait().unwrap();
            (begun.elapsed(), said)
        })
    };
    let head = dribble("GET /bundle HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    let body = dribble(
        "POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\nConnection: close\r\n\r\nx",
    );
    for (what, client) in [("silent", silent), ("head", head), ("body", body)] {
        let (after, said) = soon(what, client).await.unwrap();
        assert!(after < limits::WEB_TIMEOUT * 2, "{what}: {after:?}");
        assert!(after >= limits::WEB_TIMEOUT / 2, "{what}: {after:?} is too early to be the time limit");
        assert!(what != "body" || said.starts_with("HTTP/1.1 408"), "{said}");
    }
    // Meanwhile and afterwards others are served.
    assert_eq!(site.status(BUNDLE_PATH, &[]).await, "200 2");
}

#[tokio::test]
async fn one_address_has_a_bounded_number_of_connections() {
    let site = Site::web("").await;
    let mut held: Vec<_> =
        (0..limits::WEB_CONNECTIONS_PER_ADDRESS_MAX).map(|_| TcpStream::connect(site.at).unwrap()).collect();
    let mut one_more = TcpStream::connect(site.at).unwrap();
    one_more.set_read_timeout(Some(PATIENCE)).unwrap();
    let begun = Instant::now();
    let hung_up = tokio::task::spawn_blocking(move || one_more.read(&mut [0]));
    assert!(matches!(soon("the end", hung_up).await.unwrap(), Ok(0) | Err(_)));
    assert!(begun.elapsed() < limits::WEB_TIMEOUT / 2, "at once, not by the time limit");
    held.clear();
    let begun = Instant::now();
    while site.status(BUNDLE_PATH, &[]).await != "200 2" {
        assert!(begun.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let world = World::new().await;
    let folder = world.folder.path();
    let (chain, key, other) = (folder.join("chain.pem"), folder.join("key.pem"), folder.join("other.pem"));
    issue(&chain, &key);
    issue(&folder.join("unused.pem"), &other);
    let bind = async |chain: &Path, key: &Path| {
        let certificate = Certificate::Files { chain: chain.to_owned(), key: key.to_owned() };
        let https = Https { listen: "127.0.0.1:0".parse().unwrap(), certificate };
        Web::bind(&https, &world.parts).await.map(drop)
    };
    assert!(bind(&chain, &key).await.is_ok());
    let missing = bind(&folder.join("nothing.pem"), &key).await.unwrap_err();
    assert!(matches!(&missing, WebError::Missing { path } if path.ends_with("nothing.pem")), "{missing}");
    assert!(matches!(bind(&key, &key).await, Err(WebError::Content { what: "certificates", .. })));
    assert!(matches!(bind(&chain, &chain).await, Err(WebError::Content { what: "private key", .. })));
    assert!(matches!(bind(&chain, &other).await, Err(WebError::Tls(_))), "another one's key");
}
