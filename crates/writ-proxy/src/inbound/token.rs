//! The token of a caller in a request's head: taken out, and a handle put where it was.
//!
//! Invariant: after [`take`] no header of the request holds the token, nor a handle that somebody else wrote.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use memchr::memmem;
use writ_core::serve::TokenPlace;
use writ_core::{Reason, Secret};
use writ_gate::{Handle, limits};
use zeroize::Zeroizing;

use crate::marks::{self, Found};

/// A token that was taken out of a request.
pub(super) struct Taken {
    pub(super) token: Secret<str>,
    place: HeaderName,
    /// What stood before it: the scheme with its blank, or nothing.
    scheme: String,
}

/// Takes the token out of the request; `None` if there is none. A token that stands in two places is refused, and so is one
/// in the query, where it would stay.
pub(super) fn take(parts: &mut Parts, place: &TokenPlace) -> Result<Option<Taken>, Reason> {
    // Only Writ tells an agent handles: one that a caller sends was learnt elsewhere.
    Found::take(&mut parts.headers);
    let name = match place {
        TokenPlace::Bearer => header::AUTHORIZATION,
        TokenPlace::Header(name) => name.parse().map_err(|_| Reason::CallerMissing)?,
    };
    let Some((scheme, token)) = presented(&parts.headers, &name, place)? else { return Ok(None) };
    parts.headers.remove(&name);
    let needle = token.as_bytes();
    let copies: Vec<_> = parts
        .headers
        .iter()
        .filter(|(_, value)| holds(value, needle))
        .map(|(name, _)| name.clone())
        .collect();
    for copy in copies {
        marks::keep(&mut parts.headers, &copy, |value| !holds(value, needle));
    }
    if memmem::find(parts.uri.to_string().as_bytes(), needle).is_some() {
        return Err(Reason::BadRequest);
    }
    let token = Secret::<str>::new(token.as_str().to_owned()).map_err(|_| Reason::Busy)?;
    Ok(Some(Taken { token, place: name, scheme }))
}

fn holds(value: &HeaderValue, token: &[u8]) -> bool {
    memmem::find(value.as_bytes(), token).is_some()
}

/// The scheme and the token in the one header that may hold it.
fn presented(
    headers: &HeaderMap,
    name: &HeaderName,
    place: &TokenPlace,
) -> Result<Option<(String, Zeroizing<String>)>, Reason> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Reason::BadRequest);
    }
    let text = value.to_str().map_err(|_| Reason::CallerRefused)?;
    let (scheme, token) = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            (format!("{scheme} "), token.trim())
        }
        _ if *place == TokenPlace::Bearer => return Ok(None),
        _ => (String::new(), text.trim()),
    };
    // RFC 6750, section 2.1: `b64token`.
    let legal =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    if token.is_empty() || token.len() > limits::TOKEN_BYTES_MAX || !token.bytes().all(legal) {
        return Err(Reason::CallerRefused);
    }
    Ok(Some((scheme, Zeroizing::new(token.to_owned()))))
}

/// Puts a handle where a token would be, for a caller who brought none.
pub(super) fn present(place: &TokenPlace, handle: &Handle, headers: &mut HeaderMap) -> Result<(), Reason> {
    match place {
        TokenPlace::Bearer => Taken::replace("Bearer ", &header::AUTHORIZATION, handle, headers),
        TokenPlace::Header(name) => {
            let name = name.parse().map_err(|_| Reason::CallerMissing)?;
            Taken::replace("", &name, handle, headers);
        }
    }
    Ok(())
}

impl Taken {
    /// Puts the handle where the token was.
    pub(super) fn replace(scheme: &str, place: &HeaderName, handle: &Handle, headers: &mut HeaderMap) {
        // Both are visible ASCII.
        if let Ok(mut value) = HeaderValue::try_from(format!("{scheme}{}", handle.as_str())) {
            value.set_sensitive(true);
            headers.insert(place.clone(), value);
        }
    }

    /// The token, and where it was.
    pub(super) fn into_parts(self) -> (Secret<str>, String, HeaderName) {
        (self.token, self.scheme, self.place)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn request(uri: &str, lines: &[(&str, &str)]) -> Parts {
        let builder =
            lines.iter().fold(Request::get(uri), |builder, (name, value)| builder.header(*name, *value));
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_token_goes_with_its_copies_and_the_handle_stands_in_its_place() {
        let handle = Handle::new(&[3; 32]);
        for (place, lines) in [
            (
                TokenPlace::Bearer,
                [("authorization", "bEARER abc.def-1"), ("x-forwarded-access-token", "abc.def-1")],
            ),
            (TokenPlace::Header("x-user".into()), [("x-user", "abc.def-1"), ("cookie", "a=1; t=abc.def-1")]),
        ] {
            let mut parts = request("/a?b=c", &lines);
            let (token, scheme, name) = take(&mut parts, &place).unwrap().unwrap().into_parts();
            assert_eq!(token.expose(), "abc.def-1");
            assert!(parts.headers.is_empty(), "{:?}", parts.headers);
            Taken::replace(&scheme, &name, &handle, &mut parts.headers);
            let expected = format!("{scheme}{}", handle.as_str());
            assert_eq!(parts.headers[lines[0].0], expected.as_str());
        }
    }

    #[test]
    fn what_is_no_token_is_refused_or_missing() {
        let taken = |uri: &str, lines: &[(&str, &str)]| {
            take(&mut request(uri, lines), &TokenPlace::Bearer).map(|taken| taken.is_some())
        };
        let handle = format!("Bearer {}", Handle::new(&[3; 32]).as_str());
        assert_eq!(taken("/", &[]), Ok(false));
        assert_eq!(taken("/", &[("authorization", "Basic eA==")]), Ok(false));
        assert_eq!(taken("/", &[("authorization", &handle)]), Ok(false), "a handle proves nobody");
        assert_eq!(taken("/", &[("authorization", "Bearer a b")]), Err(Reason::CallerRefused));
        assert_eq!(
            taken("/", &[("authorization", "Bearer a"), ("authorization", "Bearer b")]),
            Err(Reason::BadRequest)
        );
        assert_eq!(taken("/?t=abcd", &[("authorization", "Bearer abcd")]), Err(Reason::BadRequest));
    }
}
