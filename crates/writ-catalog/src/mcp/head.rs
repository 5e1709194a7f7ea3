//! The headers that repeat what the body says (revision 2026-07-28, "Standard Request Headers"; 2025-06-18, "Protocol Version
//! Header").

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use writ_core::Reason;
use writ_core::mcp::McpAsk;
use writ_core::service::RequestHead;

use super::{Message, meta};

/// Every revision whose requests are understood, oldest first.
const REVISIONS: [&str; 5] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", STATELESS];
/// The revision since which each request says everything of itself.
const STATELESS: &str = "2026-07-28";
const REVISION: &str = "io.modelcontextprotocol/protocolVersion";
/// What stands before and after a value in base64.
const ENCODED: (&str, &str) = ("=?base64?", "?=");
const PARAMETER: &str = "mcp-param-";

/// Refuses a request whose headers say anything else than its body.
///
/// What a `Mcp-Param-*` repeats is known to the server's schema alone, so its value must at least be one of the arguments.
pub(super) fn agrees(request: &RequestHead<'_>, message: &Message<'_>) -> Result<(), Reason> {
    let version = one(request, "mcp-protocol-version")?;
    let said = meta(message, REVISION)?;
    if [version.as_deref(), said].into_iter().flatten().any(|version| !REVISIONS.contains(&version)) {
        return Err(Reason::McpHeaders);
    }
    let stateless = version.as_deref() == Some(STATELESS);
    let has_body = !matches!(message.ask, McpAsk::Stream | McpAsk::End);
    // A client of the older transport tries the newest revision without headers; whether that will do is the server's.
    let both = version.is_some() && said.is_some() || stateless && has_body;
    if both && version.as_deref() != said {
        return Err(Reason::McpHeaders);
    }
    let (method, name) = match &message.ask {
        McpAsk::Method { method, name } => (Some(method.as_str()), name.as_deref()),
        McpAsk::Session | McpAsk::Stream | McpAsk::End | McpAsk::Response => (None, None),
    };
    for (header, body) in [("mcp-method", method), ("mcp-name", name)] {
        match one(request, header)? {
            Some(value) if body.is_some_and(|body| decoded(&value).as_deref() == Some(body)) => {}
            Some(_) => return Err(Reason::McpHeaders),
            None if stateless && body.is_some() && needed(header, method) => return Err(Reason::McpHeaders),
            None => {}
        }
    }
    let mut parameters = request.headers.0.iter().filter(|(name, _)| is_parameter(name)).peekable();
    if parameters.peek().is_none() {
        return Ok(());
    }
    let scalars = message.scalars()?;
    let known = |value: &[u8]| {
        let text = std::str::from_utf8(value).ok().map(str::trim);
        text.and_then(decoded).is_some_and(|value| scalars.iter().any(|scalar| *scalar == value))
    };
    if parameters.all(|(_, value)| known(value)) { Ok(()) } else { Err(Reason::McpHeaders) }
}

/// `Mcp-Name` is asked for where a server would be chosen by it.
fn needed(header: &str, method: Option<&str>) -> bool {
    header == "mcp-method" || matches!(method, Some("tools/call" | "resources/read" | "prompts/get"))
}

/// Underscores count as hyphens, since gateways do not tell them apart.
fn is_parameter(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    name.starts_with(PARAMETER)
}

/// The one value of a header.
fn one<'r>(request: &RequestHead<'r>, name: &str) -> Result<Option<Cow<'r, str>>, Reason> {
    let mut values = request.headers.all(name);
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Reason::McpHeaders);
    }
    first
        .map(|value| std::str::from_utf8(value).map(|text| Cow::Borrowed(text.trim())))
        .transpose()
        .map_err(|_| Reason::McpHeaders)
}

/// The value, out of its base64 if it is in it.
fn decoded(value: &str) -> Option<Cow<'_, str>> {
    let (before, after) = ENCODED;
    match value.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)) {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(value)),
    }
}
