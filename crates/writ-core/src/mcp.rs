//! What can be asked of a server of the Model Context Protocol (MCP), as data. Reading a request is `writ-catalog`'s.
//!
//! Source: MCP revisions 2024-11-05, 2025-03-26, 2025-06-18, 2025-11-25 and 2026-07-28.

use std::fmt;

/// What an operation of an MCP server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpRule {
    /// What is asked for.
    pub ask: McpAsk,
    /// The definition of the tool that was approved, `sha256:` and 64 hex digits; `None` for whatever it is.
    pub digest: Option<String>,
}

/// What a request to an MCP server asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum McpAsk {
    /// All that a session needs beside what it is for ([`McpAsk::is_of_session`]).
    Session,
    /// The stream of what the server sends by itself: `GET`.
    Stream,
    /// The end of a session: `DELETE`.
    End,
    /// The client's answer to something that the server asked of it.
    Response,
    /// A JSON-RPC request or notification.
    Method {
        /// Its method.
        method: String,
        /// The tool, prompt or URI that it is about; `None` for any.
        name: Option<String>,
    },
}

/// Requests and notifications of a client that do nothing but keep a session going.
const OF_SESSION: [&str; 9] = [
    "initialize",
    "logging/setLevel",
    "notifications/cancelled",
    "notifications/initialized",
    "notifications/progress",
    "notifications/roots/list_changed",
    "ping",
    "server/discover",
    "subscriptions/listen",
];

impl McpAsk {
    /// The member of `params` that says what a request of this method is about.
    pub fn named_by(method: &str) -> Option<&'static str> {
        match method {
            "tools/call" | "prompts/get" => Some("name"),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => Some("uri"),
            _ => None,
        }
    }

    /// Whether the server asks it of its client, and not the other way round.
    pub fn is_of_server(&self) -> bool {
        let of_server = ["sampling/createMessage", "elicitation/create", "roots/list"];
        matches!(self, Self::Method { method, .. } if of_server.contains(&method.as_str()))
    }

    /// Whether `session` covers it.
    pub fn is_of_session(&self) -> bool {
        match self {
            Self::Session | Self::Stream | Self::End | Self::Response => true,
            Self::Method { method, .. } => OF_SESSION.contains(&method.as_str()),
        }
    }

    /// The HTTP methods that it is sent by.
    pub const fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Session => &["POST", "GET", "DELETE"],
            Self::Stream => &["GET"],
            Self::End => &["DELETE"],
            Self::Response | Self::Method { .. } => &["POST"],
        }
    }
}

/// As it is written in a service file.
impl fmt::Display for McpAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session => f.write_str("session"),
            Self::Stream => f.write_str("GET"),
            Self::End => f.write_str("DELETE"),
            Self::Response => f.write_str("response"),
            Self::Method { method, name: None } => f.write_str(method),
            Self::Method { method, name: Some(name) } => write!(f, "{method} {name}"),
        }
    }
}

impl fmt::Display for McpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ask.fmt(f)
    }
}
