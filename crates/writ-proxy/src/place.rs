//! The credential's place in a request: what the agent put there goes, what was lent is written over it.
//!
//! Not here: headers of one hop (`head`), and whether the channel may carry a credential (`upstream`). Invariant: the
//! place is overwritten; nothing that the agent sent is ever searched for text to replace, so nothing that it wrote
//! can make the credential appear anywhere else.
//!
//! Removed from every request, credential or not, because a service is acted on with what Writ lends and nothing
//! else: `Authorization`, `Cookie`, `Proxy-*`, well-known token headers (`X-Api-Key`, `Private-Token`, ...),
//! `Impersonate-*`, and what claims another origin of the request (`Forwarded`, `X-Forwarded-*`, `X-Real-IP`, ...).
//! Underscores count as hyphens, since gateways do not tell them apart. `X-Amz-Date`, `-Security-Token` and
//! `-Content-Sha256` go only when a credential is lent. What says that another method or path is meant is refused:
//! the decision was about the one on the request line.
//!
//! Kept: the body, all other headers (`Origin`, `Referer`, `User-Agent`, `Sec-WebSocket-*`, ...), and every byte of the
//! query but the parameter that is the place. A presigned query is the agent's own and is kept.
//!
//! With a credential lent, `Range` stays only if the answer cannot cut the credential into pieces that are too short
//! to be recognised: one range, open or at least [`RANGE_BYTES_MIN`] long, and of an answer that is not encoded.
//! Otherwise it is dropped with `If-Range`, which any server may do as well (RFC 9110 section 14.2). The alternative,
//! to drop every range, would break resumed downloads for no gain.

mod query;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use writ_core::{Placement, Reason, Service};
use writ_gate::Credential;
use zeroize::Zeroizing;

/// The shortest closed range that is asked for with a credential: longer than any form a usual credential takes.
pub(crate) const RANGE_BYTES_MIN: u64 = 4096;

/// Removes the agent's own credentials and places the lent ones. Call it after the headers of one hop are gone.
pub(crate) fn prepare(
    parts: &mut Parts,
    service: &Service,
    credentials: &[Credential],
) -> Result<(), Reason> {
    strip(&mut parts.headers, !credentials.is_empty())?;
    if let Some(rule) = &service.credential {
        clear(parts, &rule.place)?;
    }
    for credential in credentials {
        clear(parts, &credential.place)?;
    }
    for credential in credentials {
        place(parts, credential)?;
    }
    if !credentials.is_empty() {
        limit_range(&mut parts.headers, credentials);
    }
    Ok(())
}

fn strip(headers: &mut HeaderMap, lent: bool) -> Result<(), Reason> {
    let mut gone = Vec::new();
    for name in headers.keys() {
        match class(name.as_str()) {
            Class::Kept => {}
            Class::Override => return Err(Reason::AmbiguousRequest),
            Class::Signature if !lent => {}
            Class::Signature | Class::Own => gone.push(name.clone()),
        }
    }
    for name in gone {
        headers.remove(name);
    }
    Ok(())
}

/// What a header is to the placing of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It stays.
    Kept,
    /// A credential, or a claim about the origin of the request.
    Own,
    /// Part of the agent's own signature.
    Signature,
    /// Says that another method or path is meant.
    Override,
}

fn class(name: &str) -> Class {
    if name.contains('_') {
        return class(&name.replace('_', "-"));
    }
    match name {
        "authorization" | "cookie" | "x-api-key" | "api-key" | "x-auth-token" | "x-access-token"
        | "private-token" | "job-token" | "deploy-token" | "x-goog-api-key" | "x-vault-token"
        | "forwarded" | "x-real-ip" | "x-client-ip" | "true-client-ip" | "cf-connecting-ip" => Class::Own,
        "x-amz-security-token" | "x-amz-date" | "x-amz-content-sha256" => Class::Signature,
        "x-http-method-override"
        | "x-http-method"
        | "x-method-override"
        | "x-original-url"
        | "x-rewrite-url" => Class::Override,
        _ if ["proxy-", "x-forwarded-", "impersonate-"].iter().any(|p| name.starts_with(p)) => Class::Own,
        _ => Class::Kept,
    }
}

/// Empties a place. `Authorization` and `Cookie` are empty already.
fn clear(parts: &mut Parts, place: &Placement) -> Result<(), Reason> {
    match place {
        Placement::Header(name) => {
            parts.headers.remove(header_name(name)?);
        }
        Placement::Query(name) => query::rewrite(parts, name, None)?,
        Placement::Bearer | Placement::Basic { .. } | Placement::Cookie(_) => {}
    }
    Ok(())
}

fn place(parts: &mut Parts, credential: &Credential) -> Result<(), Reason> {
    let secret = credential.secret.expose();
    if secret.is_empty() {
        return Err(Reason::BrokerFailed);
    }
    let (name, text) = match &credential.place {
        Placement::Bearer => (header::AUTHORIZATION, format!("Bearer {secret}")),
        Placement::Header(name) => (header_name(name)?, secret.to_owned()),
        Placement::Basic { user } => {
            if user.bytes().any(|b| b == b':' || b.is_ascii_control()) {
                return Err(Reason::BrokerFailed);
            }
            if secret.bytes().any(|b| b.is_ascii_control()) {
                return Err(Reason::BrokerFailed);
            }
            let pair = Zeroizing::new(format!("{user}:{secret}"));
            (header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair.as_bytes())))
        }
        Placement::Query(name) => {
            if secret.bytes().any(|b| b.is_ascii_control()) {
                return Err(Reason::BrokerFailed);
            }
            return query::rewrite(parts, name, Some(secret));
        }
        Placement::Cookie(name) => {
            // Anything else would be read as another cookie, or as the end of this one.
            let legal = |b: u8| b.is_ascii_graphic() && b != b';' && b != b',';
            let named = HeaderName::from_bytes(name.as_bytes()).is_ok();
            if !named || !secret.bytes().all(legal) {
                return Err(Reason::BrokerFailed);
            }
            (header::COOKIE, format!("{name}={secret}"))
        }
    };
    // Refuses CR, LF, NUL and all other control characters.
    let mut value = HeaderValue::from_maybe_shared(Bytes::from(text)).map_err(|_| Reason::BrokerFailed)?;
    value.set_sensitive(true);
    parts.headers.insert(name, value);
    Ok(())
}

/// The header that a service file names; none that decides about framing or routing.
fn header_name(name: &str) -> Result<HeaderName, Reason> {
    let name: HeaderName = name.parse().map_err(|_| Reason::BrokerFailed)?;
    let reserved = [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
    ];
    if reserved.contains(&name) { Err(Reason::BrokerFailed) } else { Ok(name) }
}

fn limit_range(headers: &mut HeaderMap, credentials: &[Credential]) {
    if !headers.contains_key(header::RANGE) {
        return;
    }
    // A character takes six bytes in the longest form that is searched for.
    let longest = credentials.iter().map(|c| c.secret.len() as u64 * 6).max().unwrap_or(0);
    let min = RANGE_BYTES_MIN.max(longest);
    let mut values = headers.get_all(header::RANGE).iter();
    let sound = match (values.next().map(HeaderValue::to_str), values.next()) {
        (Some(Ok(value)), None) => range_is_wide(value, min),
        _ => false,
    };
    if sound {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    } else {
        headers.remove(header::RANGE);
        headers.remove(header::IF_RANGE);
    }
}

fn range_is_wide(value: &str, min: u64) -> bool {
    let Some((first, last)) = value.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return false;
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok());
    match (first, last) {
        ("", last) => digits(last).flatten().is_some(),
        (first, "") => digits(first).flatten().is_some(),
        (first, last) => match (digits(first).flatten(), digits(last).flatten()) {
            (Some(first), Some(last)) => last.checked_sub(first).is_some_and(|length| length >= min),
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests;
