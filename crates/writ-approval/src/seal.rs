//! The seal of a request: what is approved is this, byte for byte.

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256, digest};
use writ_gate::{Wanted, limits};

/// Headers that differ when a client sends the same again, and that no service acts on.
const FLEETING: [&str; 6] =
    ["baggage", "content-length", "date", "traceparent", "tracestate", "x-request-id"];

/// Headers whose values nobody is shown: they may be credentials of the agent's own.
const CONCEALED: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];

/// SHA-256, hex, over operation, arguments, method, host, path, query, headers and body, each with its length before it.
pub(crate) fn seal(wanted: &Wanted<'_>) -> String {
    let head = wanted.head;
    let mut context = Context::new(&SHA256);
    let mut add = |part: &[u8]| {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    };
    add(b"writ approval 1");
    add(wanted.operation.rule.name.as_str().as_bytes());
    for (name, value) in &wanted.operation.arguments {
        add(name.as_bytes());
        add(value.to_string().as_bytes());
    }
    for part in [head.method, wanted.host.as_str(), head.path, head.query.unwrap_or_default()] {
        add(part.as_bytes());
    }
    add(&[u8::from(head.query.is_some())]);
    let mut headers: Vec<(String, &[u8])> =
        head.headers.0.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value)).collect();
    headers.retain(|(name, _)| !FLEETING.contains(&name.as_str()));
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, value) in headers {
        add(name.as_bytes());
        add(value);
    }
    add(b"body");
    add(wanted.body);
    hex(context.finish().as_ref())
}

/// SHA-256 of these bytes, hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// The request as an approver reads it: head, and the beginning of the body. Bytes that are no text are replaced.
pub(crate) fn preview(wanted: &Wanted<'_>) -> String {
    let head = wanted.head;
    let mut text = format!("{} {}", head.method, head.path);
    if let Some(query) = head.query {
        // Writing to a string cannot fail.
        write!(text, "?{query}").unwrap_or_default();
    }
    for (name, value) in head.headers.0 {
        let concealed = CONCEALED.contains(&name.to_ascii_lowercase().as_str());
        let value = if concealed { "(not shown)".into() } else { String::from_utf8_lossy(value) };
        write!(text, "\n{name}: {value}").unwrap_or_default();
    }
    let room = limits::APPROVAL_PREVIEW_BYTES_MAX.saturating_sub(text.len());
    let shown = wanted.body.get(..room).unwrap_or(wanted.body);
    if !shown.is_empty() {
        write!(text, "\n\n{}", String::from_utf8_lossy(shown)).unwrap_or_default();
    }
    let more = wanted.body.len() - shown.len();
    if more > 0 {
        write!(text, "\n(and {more} bytes more)").unwrap_or_default();
    }
    text.truncate(text.floor_char_boundary(limits::APPROVAL_PREVIEW_BYTES_MAX * 2));
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap_or_default();
        hex
    })
}
