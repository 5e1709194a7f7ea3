//! What a service file says of an operation of an MCP server.

use writ_core::config::{Setting, Value, Wrong};
use writ_core::mcp::McpAsk;

/// What is asked for, as a value of configuration: `tools/call create_issue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked(pub(crate) McpAsk);

impl Setting for Asked {
    const EXPECTED: &'static str = "what is asked of an MCP server";
    const EXAMPLE: &'static str = "\"tools/call create_issue\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let text = value.text()?;
        let wrong =
            |what: &str| Wrong::content(format!("`{text}` is nothing to ask of an MCP server: {what}"));
        let ask = match text {
            "session" => McpAsk::Session,
            "GET" => McpAsk::Stream,
            "DELETE" => McpAsk::End,
            "response" => McpAsk::Response,
            _ => {
                let (method, name) = text.split_once(' ').map_or((text, None), |(m, n)| (m, Some(n)));
                let part = |b: u8| b.is_ascii_alphanumeric() || b"/_.-$".contains(&b);
                if method.is_empty() || !method.bytes().all(part) {
                    return Err(wrong(
                        "it is a method as `tools/call`, or `session`, `GET`, `DELETE`, `response`",
                    ));
                }
                match (McpAsk::named_by(method), name) {
                    (None, Some(_)) => return Err(wrong("the method is about nothing that has a name")),
                    (Some(_), Some("")) => return Err(wrong("its name is empty")),
                    // What a tool does is known by its name alone.
                    (Some(_), None) if method == "tools/call" => {
                        return Err(wrong("it names no tool; hint: as in `tools/call create_issue`"));
                    }
                    _ => {}
                }
                McpAsk::Method { method: method.to_owned(), name: name.map(str::to_owned) }
            }
        };
        Ok(Self(ask))
    }
}

/// The digest of a tool's definition as a value of configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) String);

impl Setting for Digest {
    const EXPECTED: &'static str = "the digest of a tool";
    const EXAMPLE: &'static str =
        "\"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let text = value.text()?;
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            Ok(Self(text.to_owned()))
        } else {
            let what =
                "is not `sha256:` and 64 lower-case hex digits; hint: `writ service import --mcp` writes it";
            Err(Wrong::content(format!("`{text}` {what}")))
        }
    }
}
