//! The PKI secrets engine of Vault and `OpenBao`: `POST /v1/MOUNT/root/sign-intermediate`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{Origin, Source, VaultLogin, VaultSettings, arrange};
use crate::{Error, Invalid, Token, certificate, https, json as strict, key};

pub(super) async fn obtain(source: &Source, ttl: Duration, vault: &VaultSettings) -> Result<Origin, Error> {
    let secret = key::generate(source.kind)?;
    let pair = key::certificates(source.kind, &secret)?;
    let name = certificate::serial(&*source.surroundings.ids);
    let request = certificate::request(&source.domain, name, &pair)?.pem()?;
    let engine = Engine { vault, tls: https::web_config(vault.ca_file.as_deref())? };
    let token = engine.log_in().await?;
    let body = json!({
        "common_name": certificate::common_name("intermediate", name),
        "csr": request,
        "format": "pem",
        "max_path_length": 0,
        "organization": "Writ",
        "ttl": format!("{}s", ttl.as_secs()),
        "uri_sans": format!("spiffe://{}", source.domain),
    });
    let answer = engine.post(&format!("{}/root/sign-intermediate", vault.mount), Some(&token), &body).await?;
    let given = chain(&answer).ok_or_else(|| engine.wrong("it holds no certificates"))?;
    let (chain, roots) = arrange(given, vault.address.as_ref())?;
    Ok(Origin::Signed(source.signed(secret, chain, roots)))
}

/// The intermediate, and whatever the engine gives that leads to its root.
fn chain(answer: &Map<String, Value>) -> Option<Vec<CertificateDer<'static>>> {
    let pem = |value: &Value| CertificateDer::from_pem_slice(value.as_str()?.as_bytes()).ok();
    let mut found = vec![pem(answer.get("certificate")?)?];
    let above = answer.get("ca_chain").and_then(Value::as_array).into_iter().flatten();
    for value in above.chain(answer.get("issuing_ca")) {
        let certificate = pem(value)?;
        if !found.contains(&certificate) {
            found.push(certificate);
        }
    }
    Some(found)
}

struct Engine<'s> {
    vault: &'s VaultSettings,
    tls: Arc<rustls::ClientConfig>,
}

impl Engine<'_> {
    async fn log_in(&self) -> Result<Token, Error> {
        let (file, jwt) = match &self.vault.login {
            VaultLogin::Token(file) => (file, None),
            VaultLogin::Jwt { file, mount, role } => (file, Some((mount, role))),
        };
        let content = |problem| Error::Content {
            path: file.clone(),
            problem,
            hint: "write the token there and nothing else",
        };
        let text =
            writ_host::durable::read(file)?.map(Zeroizing::new).ok_or_else(|| content("does not exist"))?;
        let text = std::str::from_utf8(&text).map_err(|_| content("is no text"))?;
        let text = text.trim();
        if text.is_empty() {
            return Err(content("is empty"));
        }
        let Some((mount, role)) = jwt else { return Ok(Token::new(text.to_owned())) };
        let body = json!({ "jwt": text, "role": role });
        let answer = self.post(&format!("auth/{mount}/login"), None, &body).await?;
        let token = answer.get("client_token").and_then(Value::as_str);
        token.map(|token| Token::new(token.to_owned())).ok_or_else(|| self.wrong("the login gave no token"))
    }

    /// The `data`, or for a login the `auth`, of the answer.
    async fn post(
        &self,
        path: &str,
        token: Option<&Token>,
        body: &Value,
    ) -> Result<Map<String, Value>, Error> {
        let uri: Uri = format!("{}/v1/{path}", self.vault.address.trim_end_matches('/'))
            .parse()
            .map_err(|_| self.wrong("its address is no URL"))?;
        let mut request =
            Request::builder().method(Method::POST).uri(uri.clone()).header(CONTENT_TYPE, "application/json");
        let secret = |text: &str| {
            let mut value = HeaderValue::from_str(text).map_err(|_| self.wrong("the token is no header"))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        };
        if let Some(token) = token {
            request = request.header(HeaderName::from_static("x-vault-token"), secret(token.expose())?);
        }
        if let Some(namespace) = &self.vault.namespace {
            request = request.header(HeaderName::from_static("x-vault-namespace"), namespace);
        }
        let request = request.body(Full::new(Bytes::from(body.to_string())));
        let request = request.map_err(|_| self.wrong("the request could not be written"))?;
        let fetch = |source| Error::Fetch { url: uri.to_string(), source };
        let answer = https::send(Arc::clone(&self.tls), request).await.map_err(fetch)?;
        if !answer.status.is_success() {
            // The body may repeat what was sent; its status says enough.
            return Err(self.wrong(&format!("status {}", answer.status.as_u16())));
        }
        let mut answer =
            strict::object(&answer.body).map_err(|invalid: Invalid| self.wrong(&invalid.to_string()))?;
        let inner = answer.remove("data").filter(Value::is_object).or_else(|| answer.remove("auth"));
        match inner {
            Some(Value::Object(inner)) => Ok(inner),
            Some(_) | None => Err(self.wrong("it holds no `data`")),
        }
    }

    fn wrong(&self, problem: &str) -> Error {
        Error::Answer { url: self.vault.address.clone(), problem: problem.to_owned() }
    }
}
