//! Device authorization (RFC 8628): the human types a code into any browser, the daemon asks until it is done.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex as Turn;
use writ_core::{Secret, Timestamp};
use writ_gate::limits;

use super::{LoginId, Logins, Pending, Way};
use crate::error::Error;
use crate::provider::{Provider, Tokens, seconds};
use crate::signed_in::{LoginOwner, SignedIn};

/// A login that waits for another device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLogin {
    /// Which login.
    pub id: LoginId,
    /// Where the human goes.
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: Option<String>,
    /// What the human types there.
    pub user_code: String,
    /// Between two questions to the issuer.
    pub interval: Duration,
    /// When the code ends.
    pub expires: Timestamp,
}

/// What stays here of a login from another device.
pub(super) struct Device {
    code: Secret<str>,
    /// The wait before the next question; held by whoever asks.
    pace: Turn<Duration>,
}

/// RFC 8628, section 3.2, if the issuer says nothing.
const INTERVAL: Duration = Duration::from_secs(5);
/// RFC 8628, section 3.5: what `slow_down` adds, for this and all later questions.
const SLOWER: Duration = Duration::from_secs(5);
/// The longest wait between two questions.
const INTERVAL_MAX: Duration = Duration::from_mins(1);

impl Logins {
    /// Begins a login from another device, at the issuer of this name or at the only one.
    pub async fn begin_device(&self, issuer: Option<&str>, owner: LoginOwner) -> Result<DeviceLogin, Error> {
        let provider = self.provider(issuer)?;
        self.has_room(&owner)?;
        let scope = provider.issuer.scopes.join(" ");
        let mut form = vec![("scope", scope.as_str())];
        let contexts = provider.issuer.acr_values.join(" ");
        form.extend((!contexts.is_empty()).then_some(("acr_values", contexts.as_str())));
        let answer = provider.device(&form).await?;
        let text = |name: &str| answer.text(name).filter(|text| !text.is_empty() && text.len() <= 2048);
        let required =
            |name: &str| text(name).ok_or_else(|| provider.wrong("a device code that lacks a part"));
        let code = Secret::<str>::new(required("device_code")?.to_owned())?;
        let verification_uri = provider.endpoint(required("verification_uri")?)?.to_string();
        let complete = text("verification_uri_complete").and_then(|url| provider.endpoint(url).ok());
        let user_code = required("user_code")?;
        if user_code.len() > 64 || !user_code.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return Err(provider.wrong("a code that nobody can type"));
        }
        let life = answer.get("expires_in").and_then(seconds).unwrap_or(limits::LOGIN_TIMEOUT);
        let interval = answer
            .get("interval")
            .and_then(seconds)
            .unwrap_or(INTERVAL)
            .clamp(Duration::from_secs(1), INTERVAL_MAX);
        let expires = self.ports.now().plus(life.min(3 * limits::LOGIN_TIMEOUT));
        let (user_code, complete) = (user_code.to_owned(), complete.map(|place| place.to_string()));
        let way = Way::Device(Arc::new(Device { code, pace: Turn::new(interval) }));
        let id = self.remember(Pending { provider, owner, expires, way })?;
        Ok(DeviceLogin {
            id,
            verification_uri,
            verification_uri_complete: complete,
            user_code,
            interval,
            expires,
        })
    }

    /// Waits until the human has answered or the time is over. May be given up and called again.
    pub async fn wait(&self, id: &LoginId, owner: &LoginOwner) -> Result<Arc<SignedIn>, Error> {
        let login = self.pending(id, owner)?;
        let Way::Device(device) = &login.way else { return Err(Error::UnknownLogin) };
        let mut interval = device.pace.lock().await;
        loop {
            self.ports.pace.pause(*interval).await;
            // Done by another waiter, cancelled, or over.
            self.pending(id, owner)?;
            let error = match ask(&login.provider, &device.code).await {
                Ok(tokens) if self.take(id) => return self.admit(&login, tokens, None, None).await,
                Ok(_) => return Err(Error::UnknownLogin),
                Err(error) => error,
            };
            match error.code() {
                Some("authorization_pending") => {}
                Some("slow_down") => *interval = (*interval + SLOWER).min(INTERVAL_MAX),
                // RFC 8628, section 3.5: back off from an issuer that does not answer.
                None if matches!(error, Error::Unreachable { .. }) => {
                    *interval = (*interval * 2).min(INTERVAL_MAX);
                }
                code => {
                    self.take(id);
                    return Err(match code {
                        Some("access_denied") => Error::Denied,
                        Some("expired_token") => Error::LoginExpired,
                        _ => error,
                    });
                }
            }
        }
    }
}

async fn ask(provider: &Provider, code: &Secret<str>) -> Result<Tokens, Error> {
    let form =
        [("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", code.expose())];
    provider.tokens(&form).await
}
