//! The provider as a process of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};

use super::REDIRECT;
use super::browser::{Browser, escape, parameter};

/// A running provider. Ends when dropped, or when the test's process does.
pub(crate) struct Provider {
    process: Child,
    /// Its identifier.
    pub(crate) url: String,
    /// For whoever asks it over TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    files: tempfile::TempDir,
}

impl Provider {
    /// Over plain HTTP on loopback.
    pub(crate) fn start() -> Self {
        Self::started(tempfile::tempdir().unwrap(), &[])
    }

    /// Over TLS, under an authority of its own whose certificate is in [`Provider::ca_file`].
    pub(crate) fn start_tls() -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&authority_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let signer = Issuer::new(params, &authority_key);
        let leaf =
            CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().signed_by(&key, &signer).unwrap();
        for (name, text) in
            [("ca.pem", authority.pem()), ("leaf.pem", leaf.pem()), ("key.pem", key.serialize_pem())]
        {
            writ_host::durable::replace(&path(name), text.as_bytes(), 0o600).unwrap();
        }
        let arguments = [path("leaf.pem"), path("key.pem")];
        let mut provider = Self::started(files, &arguments);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(provider.ca_file()).unwrap()).unwrap();
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        provider.tls = Some(Arc::new(tls));
        provider
    }

    fn started(files: tempfile::TempDir, arguments: &[PathBuf]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provider/provider.mjs");
        let mut process = Command::new("node")
            .arg(script)
            .arg(modules())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = serde_json::from_str::<Value>(&line).unwrap()["port"].as_u64().unwrap();
        let scheme = if arguments.is_empty() { "http" } else { "https" };
        Self { process, url: format!("{scheme}://127.0.0.1:{port}"), tls: None, files }
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.files.path().join("ca.pem")
    }

    /// Configuration of this provider as an issuer, with more lines in it.
    pub(crate) fn configured(&self, more: &str) -> String {
        let way = if self.tls.is_some() {
            format!("ca_file = \"{}\"", self.ca_file().display())
        } else {
            "danger = { plain_loopback = true }".to_owned()
        };
        let client = if more.contains("client_id") { "" } else { "client_id = \"writ\"\n" };
        let scopes = if more.contains("scopes") {
            ""
        } else {
            "scopes = [\"openid\", \"offline_access\", \"profile\", \"email\", \"groups\"]\n"
        };
        format!(
            "[[human.issuer]]\nname = \"corp\"\nissuer = \"{}\"\n{client}{scopes}{way}\n{more}\n",
            self.url
        )
    }

    /// Asks one of the paths that tests have.
    pub(crate) async fn ask(&self, path: &str, what: Value) -> Value {
        let page = Browser::new(self).post_json(&format!("{}/test/{path}", self.url), &what).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        serde_json::from_str(&page.body).unwrap()
    }

    /// A token signed with one of the provider's keys.
    pub(crate) async fn sign(&self, key: &str, header: Value, claims: Value) -> String {
        let signed = self.ask("sign", json!({ "key": key, "header": header, "claims": claims })).await;
        signed["token"].as_str().unwrap().to_owned()
    }

    /// The token endpoint's next answer has this ID token.
    pub(crate) async fn next_id_token(&self, token: &str) {
        self.ask("fault", json!({ "path": "/token", "times": 1, "merge": { "id_token": token } })).await;
    }

    /// A page that anybody may see.
    pub(crate) async fn page(&self, path: &str) -> String {
        Browser::new(self).get(&format!("{}{path}", self.url)).await.body
    }

    /// A JWT access token for a resource, as the client `app` gets it.
    pub(crate) async fn access_token(&self, user: &str, resource: &str, scope: &str) -> String {
        let resource = [("resource", resource)];
        self.app(user, scope, &resource).await["access_token"].as_str().unwrap().to_owned()
    }

    /// An ID token of the client `app`.
    pub(crate) async fn id_token(&self, user: &str) -> String {
        self.app(user, "openid profile", &[]).await["id_token"].as_str().unwrap().to_owned()
    }

    /// The code flow of another client; verifier and challenge are those of RFC 7636, appendix B.
    async fn app(&self, user: &str, scope: &str, more: &[(&str, &str)]) -> Value {
        let mut asked = vec![
            ("client_id", "app"),
            ("response_type", "code"),
            ("redirect_uri", REDIRECT),
            ("scope", scope),
            ("nonce", "n"),
            ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
            ("code_challenge_method", "S256"),
        ];
        asked.extend(more);
        let pairs: Vec<String> =
            asked.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        let mut browser = Browser::new(self);
        let query = browser.log_in(&format!("{}/auth?{}", self.url, pairs.join("&")), user).await.unwrap();
        let code = parameter(&query, "code");
        assert!(!code.is_empty(), "{query}");
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", "app"),
            ("code", &code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        ];
        form.extend(more);
        let page = browser.post(&format!("{}/token", self.url), &form).await;
        assert_eq!(page.status, 200, "{}", page.body);
        serde_json::from_str(&page.body).unwrap()
    }

    /// Takes a token of the client `writ` back, as an administrator would.
    pub(crate) async fn revoke(&self, token: &str) {
        let form = [("client_id", "writ"), ("token", token)];
        let page = Browser::new(self).post(&format!("{}/token/revocation", self.url), &form).await;
        assert_eq!(page.status, 200, "{}", page.body);
    }

    /// Whether the provider still knows a token of the client `writ`.
    pub(crate) async fn is_active(&self, token: &str) -> bool {
        let form = [("client_id", "writ"), ("token", token)];
        let page = Browser::new(self).post(&format!("{}/token/introspection", self.url), &form).await;
        serde_json::from_str::<Value>(&page.body).unwrap()["active"] == true
    }

    /// How often a path was asked for.
    pub(crate) async fn count(&self, path: &str) -> u64 {
        self.ask("count", json!({ "path": path })).await["count"].as_u64().unwrap()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Where the provider's packages are; installed from the lock file if they are not, once for all tests.
fn modules() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (pins, cache) = (here.join("tests/provider"), here.join("../../.cache/npm"));
    std::fs::create_dir_all(&cache).unwrap();
    let turn = std::fs::File::create(cache.join(".turn")).unwrap();
    turn.lock().unwrap();
    let (wanted, stamp) = (pins.join("package-lock.json"), cache.join(".pins"));
    if std::fs::read(&wanted).unwrap() != std::fs::read(&stamp).unwrap_or_default() {
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(pins.join(file), cache.join(file)).unwrap();
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&cache);
        let installed = npm.status().expect("there is no npm; hint: scripts/setup test");
        assert!(installed.success(), "the provider could not be installed; hint: scripts/setup test");
        std::fs::copy(&wanted, &stamp).unwrap();
    }
    cache.join("node_modules")
}
