//! Signals that are sent here (RFC 8935). The daemon mounts [`Signals::push`] at one HTTPS path.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::{AUTHORIZATION, CONTENT_LANGUAGE, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::{Signals, Source, is_for_later, set};
use crate::error::Error;
use crate::issuer::Delivery;
use crate::jose::Algorithm;
use crate::keys::taken_apart;
use crate::refusal::Refusal;

/// Why a push was not taken.
enum Failure {
    /// The transmitter did not prove itself.
    Unauthenticated,
    /// The request or its token is wrong, and stays so.
    Wrong { code: &'static str, description: String },
    /// It could not be done now; the transmitter shall send it again.
    Later,
}

impl Signals {
    /// Takes one pushed event: 202 once what follows from it has been done and is durable, 400 with an error code of
    /// RFC 8935 if it never can be taken, 401 without the token that was agreed on, 503 if it shall be sent again.
    ///
    /// The caller bounds the body ([`writ_gate::limits::TOKEN_BYTES_MAX`]) and has checked that it was a POST.
    pub async fn push(&self, headers: &HeaderMap, body: &[u8]) -> Response<Vec<u8>> {
        match self.pushed(headers, body).await {
            Ok(()) => answer(StatusCode::ACCEPTED, None),
            Err(Failure::Unauthenticated) => {
                let mut answer = answer(
                    StatusCode::UNAUTHORIZED,
                    Some(("authentication_failed", "show the token agreed on")),
                );
                answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                answer
            }
            Err(Failure::Wrong { code, description }) => {
                answer(StatusCode::BAD_REQUEST, Some((code, &description)))
            }
            Err(Failure::Later) => answer(StatusCode::SERVICE_UNAVAILABLE, None),
        }
    }

    async fn pushed(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Failure> {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.trim().eq_ignore_ascii_case("application/secevent+jwt") {
            let description = "the content type must be application/secevent+jwt".to_owned();
            return Err(Failure::Wrong { code: "invalid_request", description });
        }
        let token = std::str::from_utf8(body).map(str::trim).unwrap_or_default();
        let source = self.pushing(token).map_err(|error| wrong(&error))?;
        let shown = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        if !authenticated(&source, shown).await? {
            return Err(Failure::Unauthenticated);
        }
        match self.take(&source, token).await {
            // RFC 8935, section 2: to send again what was taken is no error.
            Ok(()) | Err(Error::Token(Refusal::Replayed)) => Ok(()),
            Err(error @ Error::Token(_)) if !is_for_later(&error) => Err(wrong(&error)),
            Err(error) => {
                tracing::warn!(target: "writ::human", error = &error as &dyn std::error::Error, "a signal must wait");
                Err(Failure::Later)
            }
        }
    }

    /// The transmitter that a token claims to be from.
    fn pushing(&self, token: &str) -> Result<Arc<Source>, Error> {
        let unproven = taken_apart(token, Algorithm::SIGNALS)?;
        let from = unproven.unproven_issuer().ok_or(Refusal::Issuer)?;
        let pushes = |source: &&Arc<Source>| {
            source.transmitter.issuer == from && matches!(source.transmitter.delivery, Delivery::Push { .. })
        };
        Ok(self.sources.iter().find(pushes).map(Arc::clone).ok_or(Refusal::Issuer)?)
    }
}

async fn authenticated(source: &Source, shown: Option<&[u8]>) -> Result<bool, Failure> {
    let Delivery::Push { token: Some(name) } = &source.transmitter.delivery else { return Ok(true) };
    let agreed = source.provider.ports.secret(name).await.map_err(|error| {
        tracing::error!(target: "writ::human", error = &error as &dyn std::error::Error, "a transmitter cannot be known");
        Failure::Later
    })?;
    let (scheme, token) = shown.unwrap_or_default().split_at_checked(7).unwrap_or_default();
    Ok(scheme.eq_ignore_ascii_case(b"Bearer ") && verify_slices_are_equal(token, agreed.expose()).is_ok())
}

fn wrong(error: &Error) -> Failure {
    tracing::warn!(target: "writ::human", %error, "a signal is refused");
    Failure::Wrong { code: set::code(error), description: error.to_string() }
}

fn answer(status: StatusCode, error: Option<(&str, &str)>) -> Response<Vec<u8>> {
    let body =
        error.map(|(code, description)| serde_json::json!({ "err": code, "description": description }));
    let mut answer =
        Response::new(body.as_ref().map(|body| body.to_string().into_bytes()).unwrap_or_default());
    *answer.status_mut() = status;
    if body.is_some() {
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer.headers_mut().insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
    }
    answer
}
