//! One issuer at work: its description, its keys, its endpoints.
//!
//! Everything that is sent to an issuer is sent from here. Invariant: what it describes is used only if it describes
//! itself as exactly the issuer that was configured (`OpenID` Connect Discovery, section 4.3; RFC 8414, section 3.3).

mod metadata;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode};
use writ_core::{Clock, IdSource, Secret, SecretName, Timestamp};
use writ_gate::limits;
use zeroize::Zeroizing;

use crate::cache::{Cache, Cached};
use crate::claims::Claims;
use crate::error::Error;
use crate::form;
use crate::issuer::{Endpoint, Issuer};
use crate::jose::{Algorithm, KeySet, encode};
use crate::json::Object;
use crate::keep::{Keep, KeepError, Pace, Reveal, Tell};
use crate::keys::{Keys, taken_apart};
use crate::refusal::Refusal;
use crate::signed_in::Person;
use crate::web::{Answer, Question, Web};
use metadata::ClientProof;
pub(crate) use metadata::Metadata;

/// What this crate needs from the daemon.
#[derive(Clone)]
pub struct Ports {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub ids: Arc<dyn IdSource>,
    /// Lasting storage.
    pub keep: Arc<dyn Keep>,
    /// The operators' secrets.
    pub reveal: Arc<dyn Reveal>,
    /// Who is told what ends.
    pub tell: Arc<dyn Tell>,
    /// Waiting.
    pub pace: Arc<dyn Pace>,
}

impl Ports {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// 256 random bits as text.
    pub(crate) fn token(&self) -> String {
        let bits = [self.ids.random().to_be_bytes(), self.ids.random().to_be_bytes()];
        encode(bits.as_flattened())
    }

    /// A secret of the operators.
    pub(crate) async fn secret(&self, name: &SecretName) -> Result<Secret<[u8]>, Error> {
        let (reveal, wanted) = (Arc::clone(&self.reveal), name.clone());
        let found = blocking(move || reveal.reveal(&wanted)).await?;
        found.ok_or_else(|| Error::NoSecret { name: name.clone() })
    }
}

/// Runs what may block for a disk, off the tasks that serve.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeepError> + Send + 'static,
) -> Result<T, KeepError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|lost| Err(KeepError(Box::new(lost))))
}

/// One issuer.
pub(crate) struct Provider {
    pub(crate) issuer: Issuer,
    pub(crate) ports: Ports,
    web: Web,
    metadata: Cache<Metadata>,
    keys: Keys,
}

/// What the token endpoint gave (RFC 6749, section 5.1).
pub(crate) struct Tokens {
    pub(crate) access: Zeroizing<String>,
    pub(crate) refresh: Option<Secret<str>>,
    pub(crate) id: Option<Zeroizing<String>>,
    pub(crate) expires: Option<Timestamp>,
}

impl Provider {
    pub(crate) fn new(issuer: Issuer, ports: Ports) -> Result<Self, Error> {
        let web = Web::new(&issuer)?;
        Ok(Self { issuer, ports, web, metadata: Cache::new(), keys: Keys::new() })
    }

    /// How it describes itself.
    pub(crate) async fn metadata(&self) -> Result<Arc<Metadata>, Error> {
        let fetch = async {
            let place = format!(
                "{}/.well-known/openid-configuration",
                self.issuer.issuer.strip_suffix('/').unwrap_or(&self.issuer.issuer)
            );
            let described = self.web.object(&self.endpoint(&place)?).await?;
            Metadata::read(&described, &self.issuer)
        };
        match self.metadata.get(&*self.ports.clock, fetch).await {
            Cached::Here(metadata) => Ok(metadata),
            Cached::Failed(error) => Err(error),
            Cached::Paused => Err(self.paused()),
        }
    }

    /// What a token of this issuer says, once its signature is verified.
    pub(crate) async fn verified(&self, token: &str) -> Result<Claims, Error> {
        let signed = taken_apart(token, Algorithm::ALL)?;
        let fetch = || async {
            let metadata = self.metadata().await?;
            self.keys_at(&metadata.jwks).await
        };
        self.keys.verified(&*self.ports.clock, &signed, || self.paused(), fetch).await
    }

    /// Asks the token endpoint.
    pub(crate) async fn tokens(&self, form: &[(&str, &str)]) -> Result<Tokens, Error> {
        let metadata = self.metadata().await?;
        let answer = self.post(&metadata.token, &metadata, form).await?;
        let object = self.granted(&answer)?;
        let wrong = |what: &str| self.web.wrong(what);
        let kind = object.text("token_type").ok_or_else(|| wrong("tokens without a type"))?;
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err(wrong("tokens of a type other than bearer"));
        }
        let access = object.text("access_token").ok_or_else(|| wrong("no access token"))?;
        let refresh = match object.text("refresh_token") {
            Some(token) if token.len() <= limits::TOKEN_BYTES_MAX => {
                Some(Secret::<str>::new(token.to_owned())?)
            }
            Some(_) => return Err(wrong("a refresh token that is too long")),
            None => None,
        };
        let life = object.get("expires_in").and_then(seconds);
        Ok(Tokens {
            access: Zeroizing::new(access.to_owned()),
            refresh,
            id: object.text("id_token").map(|token| Zeroizing::new(token.to_owned())),
            expires: life.map(|life| self.ports.now().plus(life)),
        })
    }

    /// Asks the device authorization endpoint (RFC 8628, section 3.1).
    pub(crate) async fn device(&self, form: &[(&str, &str)]) -> Result<Object, Error> {
        let metadata = self.metadata().await?;
        let to = metadata.device.as_ref().ok_or_else(|| Error::Unsupported {
            issuer: Arc::clone(&self.issuer.name),
            what: "device flow",
            hint: "log in with a browser, or ask its administrator to allow the flow for this client",
        })?;
        let answer = self.post(to, &metadata, form).await?;
        self.granted(&answer)
    }

    /// Takes a token back (RFC 7009). Whether the issuer can do so at all.
    pub(crate) async fn revoke(&self, token: &Secret<str>, hint: &str) -> Result<bool, Error> {
        let metadata = self.metadata().await?;
        let Some(to) = &metadata.revocation else { return Ok(false) };
        let form = [("token", token.expose()), ("token_type_hint", hint)];
        let answer = self.post(to, &metadata, &form).await?;
        if answer.status == StatusCode::OK {
            return Ok(true);
        }
        self.granted(&answer).map(|_| true)
    }

    /// What the issuer says of the human whom the access token is for (`OpenID` Connect Core, section 5.3).
    async fn userinfo(&self, access: &str) -> Result<Option<Object>, Error> {
        let metadata = self.metadata().await?;
        let Some(to) = &metadata.userinfo else { return Ok(None) };
        let mut question = Question::get(to);
        question.authorization = Some(self.bearer(access.as_bytes())?);
        let answer = self.web.ask(question).await?;
        Ok(answer.object().filter(|_| answer.status == StatusCode::OK))
    }

    /// The human whom a believed ID token is for. What it lacks is asked for with the access token beside it; an answer
    /// about another subject is not believed (`OpenID` Connect Core, section 5.3.2).
    pub(crate) async fn person(&self, claims: &Claims, access: &str) -> Result<Person, Error> {
        let more = if Person::is_incomplete(&self.issuer, &claims.object) {
            self.userinfo(access).await?
        } else {
            None
        };
        if more.as_ref().is_some_and(|more| more.text("sub") != Some(claims.subject().unwrap_or_default())) {
            return Err(Refusal::Subject.into());
        }
        Ok(Person::read(&self.issuer, &claims.object, more.as_ref())?)
    }

    /// The keys at a place.
    pub(crate) async fn keys_at(&self, place: &Endpoint) -> Result<KeySet, Error> {
        let answer = self.ask(Question::get(place)).await?;
        let set = KeySet::parse(&answer.body).filter(|_| answer.status == StatusCode::OK);
        set.ok_or_else(|| self.wrong("no set of keys where its keys should be"))
    }

    /// Asks on the way that is trusted for this issuer.
    pub(crate) async fn ask(&self, question: Question<'_>) -> Result<Answer, Error> {
        self.web.ask(question).await
    }

    /// A place that this issuer may name.
    pub(crate) fn endpoint(&self, url: &str) -> Result<Endpoint, Error> {
        Endpoint::new(url, self.issuer.plain_loopback)
            .map_err(|source| Error::Place { issuer: Arc::clone(&self.issuer.name), source })
    }

    /// The issuer answered wrongly.
    pub(crate) fn wrong(&self, what: &str) -> Error {
        self.web.wrong(what)
    }

    /// The issuer said no; its code is kept as far as it is one.
    pub(crate) fn refused(&self, code: &str) -> Error {
        let code = code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect();
        Error::Refused { issuer: Arc::clone(&self.issuer.name), code }
    }

    pub(crate) fn paused(&self) -> Error {
        Error::Unreachable {
            issuer: Arc::clone(&self.issuer.name),
            what: "it was asked a moment ago and did not help",
            place: self.issuer.issuer.clone(),
            source: None,
        }
    }

    pub(crate) fn bearer(&self, token: &[u8]) -> Result<HeaderValue, Error> {
        let text = Zeroizing::new([b"Bearer ", token].concat());
        let mut value =
            HeaderValue::from_bytes(&text).map_err(|_| self.web.wrong("a token that no header holds"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn post(&self, to: &Endpoint, about: &Metadata, form: &[(&str, &str)]) -> Result<Answer, Error> {
        let mut form = form.to_vec();
        let secret = match &self.issuer.client_secret {
            Some(name) => Some(self.ports.secret(name).await?),
            None => None,
        };
        let secret = secret.as_ref().map(|secret| std::str::from_utf8(secret.expose()).unwrap_or_default());
        let mut authorization = None;
        match (secret, about.proof) {
            (None, _) => form.push(("client_id", &self.issuer.client_id)),
            (Some(secret), ClientProof::Body) => {
                form.push(("client_id", &self.issuer.client_id));
                form.push(("client_secret", secret));
            }
            (Some(secret), ClientProof::Header) => authorization = Some(self.basic(secret)?),
        }
        let body = Some((form::KIND, form::body(&form)));
        self.web.ask(Question { to, authorization, body, within: limits::ISSUER_TIMEOUT }).await
    }

    /// RFC 6749, section 2.3.1: both parts are form-encoded first.
    fn basic(&self, secret: &str) -> Result<HeaderValue, Error> {
        let pair = format!("{}:{}", form::escape(&self.issuer.client_id), form::escape(secret));
        let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*Zeroizing::new(pair))));
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| self.web.wrong("a client without a name"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The object of a good answer; the issuer's code of a bad one (RFC 6749, section 5.2).
    fn granted(&self, answer: &Answer) -> Result<Object, Error> {
        let object = answer.object();
        match (answer.status, object) {
            (StatusCode::OK, Some(object)) if !object.has("error") => Ok(object),
            (status, Some(object)) if !status.is_server_error() && object.text("error").is_some() => {
                Err(self.refused(object.text("error").unwrap_or_default()))
            }
            (status, _) => {
                Err(self.web.wrong(format!("status {} and nothing that says why", status.as_u16())))
            }
        }
    }
}

/// A length in seconds; some issuers write it as text.
pub(crate) fn seconds(value: &serde_json::Value) -> Option<std::time::Duration> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    // A year: more is no promise that anybody keeps.
    Some(std::time::Duration::from_secs(number.min(31_536_000)))
}
