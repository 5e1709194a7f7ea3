//! Logging in: in a browser (authorization code with PKCE) or from another device (RFC 8628).
//!
//! The daemon does all of it; whoever asks carries a URL, a code to type, and what the browser came back with. State,
//! nonce, verifier and device code stay here. A login belongs to the login session that began it, is used once, and
//! ends by itself; how many are under way is bounded.

mod browser;
mod device;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use writ_core::{Secret, Timestamp};
use writ_gate::limits;

use crate::claims::{Beside, Nonce};
use crate::error::Error;
use crate::issuer::IssuerName;
use crate::provider::{Ports, Provider, Tokens};
use crate::roster::{Arrival, Roster};
use crate::signed_in::{LoginOwner, SignedIn};

use browser::Browser;
pub use browser::BrowserLogin;
use device::Device;
pub use device::DeviceLogin;

/// A login under way. Not a secret: only its owner can use it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoginId(String);

impl fmt::Display for LoginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for LoginId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The logins under way.
pub struct Logins {
    providers: HashMap<IssuerName, Arc<Provider>>,
    ports: Ports,
    roster: Arc<Roster>,
    pending: Mutex<HashMap<LoginId, Pending>>,
}

#[derive(Clone)]
struct Pending {
    provider: Arc<Provider>,
    owner: LoginOwner,
    expires: Timestamp,
    way: Way,
}

#[derive(Clone)]
enum Way {
    Browser(Arc<Browser>),
    Device(Arc<Device>),
}

impl Logins {
    pub(crate) fn new(
        providers: HashMap<IssuerName, Arc<Provider>>,
        ports: Ports,
        roster: Arc<Roster>,
    ) -> Self {
        Self { providers, ports, roster, pending: Mutex::default() }
    }

    /// Gives a login up. That there is none is no error.
    pub fn cancel(&self, id: &LoginId, owner: &LoginOwner) {
        if self.pending(id, owner).is_ok() {
            self.take(id);
        }
    }

    /// The issuer of this name, or the only one.
    fn provider(&self, name: Option<&str>) -> Result<Arc<Provider>, Error> {
        let found = match (name, self.providers.len()) {
            (Some(name), _) => self.providers.get(name),
            (None, 1) => self.providers.values().next(),
            (None, _) => None,
        };
        found.map(Arc::clone).ok_or_else(|| {
            let mut known: Vec<String> = self.providers.keys().map(|name| format!("`{name}`")).collect();
            known.sort_unstable();
            let known = if known.is_empty() {
                "none: see `human.issuer` in writd.toml".to_owned()
            } else {
                known.join(", ")
            };
            Error::UnknownIssuer { name: name.unwrap_or_default().to_owned(), known }
        })
    }

    /// Refuses a new login where too many are under way.
    fn has_room(&self, owner: &LoginOwner) -> Result<(), Error> {
        let now = self.ports.now();
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|_, login| login.expires > now);
        let own = pending.values().filter(|login| login.owner.uid == owner.uid).count();
        if own >= limits::LOGINS_PER_UID_MAX {
            return Err(Error::Busy { open: own });
        }
        if pending.len() >= limits::LOGINS_MAX {
            return Err(Error::Busy { open: pending.len() });
        }
        Ok(())
    }

    fn remember(&self, login: Pending) -> Result<LoginId, Error> {
        // Asked again: others may have begun while the issuer was asked.
        self.has_room(&login.owner)?;
        let id = LoginId(self.ports.token());
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.insert(id.clone(), login);
        Ok(id)
    }

    /// A login of this owner that is still under way.
    fn pending(&self, id: &LoginId, owner: &LoginOwner) -> Result<Pending, Error> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let login =
            pending.get(id).filter(|login| login.owner == *owner).cloned().ok_or(Error::UnknownLogin)?;
        drop(pending);
        if login.expires <= self.ports.now() {
            self.take(id);
            return Err(Error::LoginExpired);
        }
        Ok(login)
    }

    /// Ends a login; whether this call was the one that did.
    fn take(&self, id: &LoginId) -> bool {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(id).is_some()
    }

    /// Verifies what the token endpoint gave, and signs the human in.
    async fn admit(
        &self,
        login: &Pending,
        mut tokens: Tokens,
        nonce: Option<&str>,
        code: Option<&str>,
    ) -> Result<Arc<SignedIn>, Error> {
        let provider = &login.provider;
        let id = tokens.id.take().ok_or_else(|| provider.wrong("no ID token"))?;
        let claims = provider.verified(&id).await?;
        let expected = nonce.map_or(Nonce::IfAny(None), Nonce::Exactly);
        let beside =
            Beside { nonce: expected, access_token: Some(&tokens.access), code, now: self.ports.now() };
        claims.believe_id(&provider.issuer, beside)?;
        let person = provider.person(&claims, &tokens.access).await?;
        let access = match &tokens.refresh {
            Some(_) => None,
            None => Some(Secret::<str>::new(tokens.access.as_str().to_owned())?),
        };
        let arrival = Arrival {
            provider: Arc::clone(provider),
            owner: login.owner,
            person,
            nonce: nonce.map(str::to_owned),
            expires: tokens.expires.unwrap_or(claims.required_time("exp")?),
            refresh: tokens.refresh,
            access,
        };
        self.roster.sign_in(arrival).await
    }
}
