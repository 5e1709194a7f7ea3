//! The PKI secrets engine, spoken to over real TLS: a real `OpenBao` where there is one, and answers that must be refused.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use writ_identity::{Change, Error, validate};

use crate::federation::Endpoint;
use crate::support::{Node, openssl, workload, write};

/// A server in development mode on loopback, which ends with the test.
struct Bao {
    program: PathBuf,
    folder: tempfile::TempDir,
    server: Child,
    address: String,
}

impl Drop for Bao {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

impl Bao {
    /// `None`, and a word about it, where there is no `bao`.
    fn begin() -> Option<Self> {
        let program = std::env::var_os("WRIT_TEST_BAO").map_or_else(|| PathBuf::from("bao"), PathBuf::from);
        if Command::new(&program).arg("version").output().is_err() {
            println!("skipped: no `bao` on the path, and WRIT_TEST_BAO names none");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // Bound for a moment to find a port that is free.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = Command::new(&program)
            .args(["server", "-dev", "-dev-tls", "-dev-no-store-token", "-dev-root-token-id=root"])
            .arg(format!("-dev-listen-address={free}"))
            .arg(format!("-dev-tls-cert-dir={}", folder.path().display()))
            .env("HOME", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let bao = Self { program, folder, server, address: format!("https://{free}") };
        for _ in 0..600 {
            if bao.run(&["status"]).is_ok() {
                bao.prepare();
                return Some(bao);
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        panic!("the server does not answer");
    }

    fn ca(&self) -> PathBuf {
        let files = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        files.into_iter().find(|path| path.to_string_lossy().ends_with("ca.pem")).unwrap_or_default()
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.program)
            .args(arguments)
            .env("HOME", self.folder.path())
            .env("BAO_ADDR", &self.address)
            .env("BAO_CACERT", self.ca())
            .env("BAO_TOKEN", "root")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    /// A root, and an intermediate of the engine's own below it: what an operator would let us use.
    fn prepare(&self) {
        let run =
            |arguments: &[&str]| self.run(arguments).unwrap_or_else(|said| panic!("{arguments:?}: {said}"));
        run(&["secrets", "enable", "-path=pki/agents", "-max-lease-ttl=8760h", "pki"]);
        run(&[
            "write",
            "pki/agents/root/generate/internal",
            "common_name=root",
            "key_type=ec",
            "key_bits=256",
            "ttl=8760h",
        ]);
        write(
            &self.folder.path().join("policy"),
            b"path \"pki/agents/root/sign-intermediate\" { capabilities = [\"update\"] }",
        );
        run(&["policy", "write", "writ", &self.path("policy")]);
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn toml(&self, login: &str) -> String {
        let (address, ca) = (&self.address, self.ca());
        format!(
            "[identity]\nca = \"vault\"\n[identity.vault]\naddress = \"{address}\"\nmount = \"pki/agents\"\nca_file = \"{}\"\n{login}",
            ca.display()
        )
    }

    /// A JWT that its `jwt` auth method believes, in a file.
    fn jwt(&self) -> String {
        let folder = self.folder.path();
        openssl(folder, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "jwt.key"]).unwrap();
        openssl(folder, &["ec", "-in", "jwt.key", "-pubout", "-out", "jwt.pub"]).unwrap();
        openssl(
            folder,
            &["pkcs8", "-topk8", "-nocrypt", "-in", "jwt.key", "-outform", "DER", "-out", "jwt.der"],
        )
        .unwrap();
        self.run(&["auth", "enable", "-path=nodes", "jwt"]).unwrap();
        self.run(&[
            "write",
            "auth/nodes/config",
            &format!("jwt_validation_pubkeys=@{}", self.path("jwt.pub")),
        ])
        .unwrap();
        self.run(&[
            "write",
            "auth/nodes/role/writ",
            "role_type=jwt",
            "user_claim=sub",
            "bound_audiences=bao",
            "token_policies=writ",
        ])
        .unwrap();
        let key = std::fs::read(folder.join("jwt.der")).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key).unwrap();
        let far = u32::MAX;
        let claims = serde_json::json!({ "aud": "bao", "exp": far, "iat": 1, "nbf": 1, "sub": "node" });
        let text = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
        let signed =
            format!("{}.{}", text(br#"{"alg":"ES256","typ":"JWT"}"#), text(claims.to_string().as_bytes()));
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        write(&folder.join("jwt"), format!("{signed}.{}\n", text(signature.as_ref())).as_bytes());
        self.path("jwt")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openbao_signs_the_intermediate_for_a_token_and_for_a_jwt() {
    let Some(bao) = Bao::begin() else { return };
    let token = bao.run(&["token", "create", "-policy=writ", "-field=token"]).unwrap();
    write(&bao.folder.path().join("token"), token.as_bytes());
    let by_token = format!("token_file = \"{}\"\n", bao.path("token"));
    let by_jwt = format!("jwt_file = \"{}\"\njwt_mount = \"nodes\"\nrole = \"writ\"\n", bao.jwt());
    for login in [by_token, by_jwt] {
        let node = Node::new("example.org", &bao.toml(&login));
        let authority = node.open().await;
        // The server's clock is the real one; where an error hides, the next tick says it.
        let changes = authority.tick(node.now()).await.unwrap();
        assert!(changes.is_empty() && authority.issuer().is_ready(), "{changes:?}");
        let svid = authority.issuer().x509(&workload("example.org"), node.in_an_hour()).unwrap();
        let bundles = authority.bundles().borrow().clone();
        assert_eq!(validate::x509(&svid.chain, &bundles, node.now()), Ok(workload("example.org")));
        node.clock.advance(Duration::from_hours(13));
        assert!(matches!(
            authority.tick(node.now()).await.unwrap()[..],
            [Change::Prepared { generation: 2, .. }]
        ));
    }
    // A token that may do something else.
    write(
        &bao.folder.path().join("token"),
        bao.run(&["token", "create", "-policy=default", "-field=token"]).unwrap().as_bytes(),
    );
    let node = Node::new("example.org", &bao.toml(&format!("token_file = \"{}\"\n", bao.path("token"))));
    let authority = node.open().await;
    let refused = authority.tick(node.now()).await.unwrap_err();
    assert!(refused.to_string().contains("status 403"), "{refused}");
}

#[tokio::test]
async fn answers_that_are_none_leave_what_signs_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let endpoint = Endpoint::web(at).await;
    write(&at.join("token"), b"a-token\n");
    let toml = |file: &Path| {
        format!(
            "[identity]\nca = \"vault\"\n[identity.vault]\naddress = \"https://localhost:{}\"\nca_file = \"{}\"\ntoken_file = \"{}\"\n",
            endpoint.port(),
            at.join("ca.pem").display(),
            file.display(),
        )
    };
    let mut node = Node::new("example.org", "");
    let before = node.open().await.bundles().borrow().clone();
    node.settings = Node::new("example.org", &toml(&at.join("token"))).settings;
    let authority = node.open().await;
    let root = std::fs::read_to_string(at.join("ca.pem")).unwrap();
    let foreign = serde_json::json!({ "data": { "certificate": root, "issuing_ca": root } });
    for (body, said) in [
        ("not json".to_owned(), "not JSON"),
        ("{}".to_owned(), "holds no `data`"),
        (r#"{"data":{},"data":{}}"#.to_owned(), "twice"),
        (r#"{"data":{"certificate":"x"}}"#.to_owned(), "holds no certificates"),
        (foreign.to_string(), "cannot"),
    ] {
        endpoint.page("/v1/pki/root/sign-intermediate", &body);
        assert!(authority.tick(node.now()).await.unwrap().is_empty(), "left alone for a moment");
        node.clock.advance(Duration::from_mins(1));
        let refused = authority.tick(node.now()).await.unwrap_err();
        assert!(refused.to_string().contains(said), "{body}: {refused}");
        assert_eq!(*authority.bundles().borrow(), before);
        authority.issuer().x509(&workload("example.org"), node.in_an_hour()).unwrap();
    }
    node.clock.advance(Duration::from_mins(1));
    write(&at.join("token"), b"a\ntoken with a line");
    let refused = authority.tick(node.now()).await.unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("with a line"), "{refused}");
    node.clock.advance(Duration::from_mins(1));
    write(&at.join("token"), b" \n");
    assert!(matches!(authority.tick(node.now()).await, Err(Error::Content { .. })));
}
