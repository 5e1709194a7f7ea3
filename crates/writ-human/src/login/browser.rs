//! Authorization code with PKCE (RFC 7636) and a redirect to this machine's loopback (RFC 8252, section 7.3).

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use http::Uri;
use writ_gate::limits;
use zeroize::Zeroizing;

use super::{LoginId, Logins, Pending, Way};
use crate::error::Error;
use crate::form;
use crate::issuer::Issuer;
use crate::jose::encode;
use crate::provider::Provider;
use crate::signed_in::{LoginOwner, SignedIn};

/// A login that waits for a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserLogin {
    /// Which login.
    pub id: LoginId,
    /// Where the browser begins.
    pub url: String,
}

/// What stays here of a login in a browser.
pub(super) struct Browser {
    redirect: String,
    state: String,
    nonce: String,
    verifier: Zeroizing<String>,
    /// Whether the issuer said that it names itself in its answers.
    says_iss: bool,
}

impl Logins {
    /// Begins a login in a browser, at the issuer of this name or at the only one. `redirect` is where the asker
    /// listens: a literal loopback address.
    pub async fn begin_browser(
        &self,
        issuer: Option<&str>,
        redirect: &str,
        owner: LoginOwner,
    ) -> Result<BrowserLogin, Error> {
        let provider = self.provider(issuer)?;
        if !is_loopback(redirect) {
            return Err(Error::Redirect { uri: redirect.to_owned() });
        }
        self.has_room(&owner)?;
        let metadata = provider.metadata().await?;
        let browser = Browser {
            redirect: redirect.to_owned(),
            state: self.ports.token(),
            nonce: self.ports.token(),
            verifier: Zeroizing::new(self.ports.token()),
            says_iss: metadata.says_iss,
        };
        let url = metadata.authorization.with_query(&question(&provider, &browser));
        let expires = self.ports.now().plus(limits::LOGIN_TIMEOUT);
        let way = Way::Browser(Arc::new(browser));
        let id = self.remember(Pending { provider, owner, expires, way })?;
        Ok(BrowserLogin { id, url })
    }

    /// Ends a login with what the browser came back with: the query of the redirect, without `?`. A query that does not
    /// carry the login's state changes nothing; any other uses the login up.
    pub async fn finish(
        &self,
        id: &LoginId,
        owner: &LoginOwner,
        query: &str,
    ) -> Result<Arc<SignedIn>, Error> {
        let login = self.pending(id, owner)?;
        let Way::Browser(browser) = &login.way else { return Err(Error::UnknownLogin) };
        let answer =
            form::parse(query).ok_or(Error::Callback { what: "it is no query, or says things twice" })?;
        let said =
            |name: &str| answer.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let state = said("state").unwrap_or_default();
        if verify_slices_are_equal(state.as_bytes(), browser.state.as_bytes()).is_err() {
            return Err(Error::Callback { what: "its `state` is another" });
        }
        if !self.take(id) {
            return Err(Error::UnknownLogin);
        }
        // RFC 9207, section 2.4: before anything is sent to anybody, or an honest issuer's code goes to another.
        match (said("iss"), browser.says_iss) {
            (Some(iss), _) if iss == login.provider.issuer.issuer => {}
            (None, false) => {}
            (Some(_), _) => return Err(Error::Callback { what: "its `iss` is another issuer" }),
            (None, true) => {
                return Err(Error::Callback { what: "it lacks the `iss` that the issuer promised" });
            }
        }
        match said("error") {
            Some("access_denied") => return Err(Error::Denied),
            Some(error) => return Err(login.provider.refused(error)),
            None => {}
        }
        let code = said("code").filter(|code| !code.is_empty());
        let code = code.ok_or(Error::Callback { what: "it holds no code" })?;
        let tokens = login
            .provider
            .tokens(&[
                ("grant_type", "authorization_code"),
                ("code", code),
                ("redirect_uri", &browser.redirect),
                ("code_verifier", &browser.verifier),
            ])
            .await?;
        self.admit(&login, tokens, Some(&browser.nonce), Some(code)).await
    }
}

fn question(provider: &Provider, browser: &Browser) -> String {
    let issuer = &provider.issuer;
    let scope = issuer.scopes.join(" ");
    let challenge = encode(digest(&SHA256, browser.verifier.as_bytes()).as_ref());
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", &issuer.client_id),
        ("redirect_uri", &browser.redirect),
        ("scope", &scope),
        ("state", &browser.state),
        ("nonce", &browser.nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let max_age = issuer.max_age.map(|age| age.as_secs().to_string());
    let contexts = issuer.acr_values.join(" ");
    pairs.extend(max_age.as_deref().map(|age| ("max_age", age)));
    pairs.extend((!contexts.is_empty()).then_some(("acr_values", contexts.as_str())));
    pairs.extend(prompt(issuer).map(|prompt| ("prompt", prompt)));
    form::query(&pairs)
}

/// `OpenID` Connect Core, section 11: a refresh token is asked for together with the human's consent.
fn prompt(issuer: &Issuer) -> Option<&str> {
    let offline = issuer.scopes.iter().any(|scope| scope == "offline_access");
    let prompt = issuer.prompt.as_deref().or(offline.then_some("consent"));
    prompt.filter(|prompt| !prompt.is_empty())
}

/// A literal loopback address over HTTP, with a port: a name could be resolved to elsewhere.
fn is_loopback(redirect: &str) -> bool {
    let Ok(uri) = redirect.parse::<Uri>() else { return false };
    let Some(authority) = uri.authority() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    uri.scheme_str() == Some("http")
        && host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        && authority.port_u16().is_some_and(|port| port != 0)
        && !authority.as_str().contains('@')
        && !redirect.contains('#')
        && uri.query().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_browser_comes_back_to_this_machine_only() {
        assert!(is_loopback("http://127.0.0.1:4711/callback") && is_loopback("http://[::1]:4711/"));
        for bad in [
            "http://localhost:4711/",
            "https://127.0.0.1:4711/",
            "http://127.0.0.1/",
            "http://192.0.2.1:4711/",
            "http://127.0.0.1:4711@evil.example/",
            "http://127.0.0.1:4711/#x",
            "http://127.0.0.1:4711/?x=y",
            "x",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
