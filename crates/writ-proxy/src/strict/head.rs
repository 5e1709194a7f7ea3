//! One request head (RFC 9112), judged as a whole.

use memchr::memchr2_iter;
use writ_core::Reason;
use writ_gate::limits;

use super::body::Framing;

/// Judges the beginning of a head whose end has not arrived.
pub(super) fn check_beginning(bytes: &[u8]) -> Result<(), Reason> {
    if bytes.len() > limits::HEAD_BYTES_MAX {
        return Err(Reason::TooLarge);
    }
    // The last byte may be a CR whose LF is still to come.
    let (_, whole) = bytes.split_last().unwrap_or((&0, &[]));
    check_line_ends(whole, bytes)
}

/// Judges a complete head and says how its body is framed.
pub(super) fn check(bytes: &[u8]) -> Result<Framing, Reason> {
    if bytes.len() > limits::HEAD_BYTES_MAX {
        return Err(Reason::TooLarge);
    }
    check_line_ends(bytes, bytes)?;
    let mut headers = [httparse::EMPTY_HEADER; limits::HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        // The parser skips empty lines before the request line; then more than the head was meant.
        Ok(httparse::Status::Complete(length)) if length == bytes.len() && !bytes.starts_with(b"\r\n") => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Reason::TooLarge),
        _ => return Err(Reason::BadRequest),
    }
    check_headers(&request)
}

/// Every CR is followed by an LF and every LF follows a CR.
fn check_line_ends(whole: &[u8], bytes: &[u8]) -> Result<(), Reason> {
    for at in memchr2_iter(b'\r', b'\n', whole) {
        let paired = match bytes.get(at) {
            Some(b'\r') => bytes.get(at + 1) == Some(&b'\n'),
            _ => at.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&b'\r'),
        };
        if !paired {
            return Err(Reason::BadRequest);
        }
    }
    Ok(())
}

fn check_headers(request: &httparse::Request<'_, '_>) -> Result<Framing, Reason> {
    let (mut hosts, mut length, mut chunked) = (0, None, false);
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("host") {
            hosts += 1;
        } else if header.name.eq_ignore_ascii_case("content-length") {
            let value = decimal(header.value).ok_or(Reason::BadRequest)?;
            if length.replace(value).is_some() {
                return Err(Reason::BadRequest);
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Reason::BadRequest);
            }
            chunked = true;
        }
    }
    let old = request.version == Some(0);
    if hosts != 1 || (chunked && (old || length.is_some())) {
        return Err(Reason::BadRequest);
    }
    Ok(if chunked { Framing::chunked() } else { Framing::length(length.unwrap_or(0)) })
}

/// Digits only: no sign, no list, no white space; at most what a file could hold.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
