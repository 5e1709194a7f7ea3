//! One parameter of a query is replaced; the bytes of all others stay as they are.

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use writ_core::Reason;

/// All but the unreserved characters (RFC 3986 section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Removes every parameter called `name`, however it is encoded, and adds one at the end if there is a value.
pub(super) fn rewrite(parts: &mut Parts, name: &str, value: Option<&str>) -> Result<(), Reason> {
    let before = parts.uri.query().unwrap_or_default();
    let mut after = String::with_capacity(before.len());
    let mut changed = value.is_some();
    for part in before.split('&') {
        if called(part, name) {
            changed = true;
            continue;
        }
        if part.split(';').any(|part| called(part, name)) {
            // Read as one parameter by some servers, as two by others.
            return Err(Reason::AmbiguousRequest);
        }
        push(&mut after, part);
    }
    if !changed {
        return Ok(());
    }
    if let Some(value) = value {
        let name = utf8_percent_encode(name, ENCODED);
        push(&mut after, &format!("{name}={}", utf8_percent_encode(value, ENCODED)));
    }
    let path = parts.uri.path();
    let target = if after.is_empty() { path.to_owned() } else { format!("{path}?{after}") };
    let target = PathAndQuery::from_maybe_shared(Bytes::from(target)).map_err(|_| Reason::BrokerFailed)?;
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.path_and_query = Some(target);
    parts.uri = uri.try_into().map_err(|_| Reason::BrokerFailed)?;
    Ok(())
}

fn push(query: &mut String, part: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(part);
}

fn called(part: &str, name: &str) -> bool {
    let written = part.split('=').next().unwrap_or_default().replace('+', " ");
    percent_decode(written.as_bytes()).eq(name.bytes())
}
