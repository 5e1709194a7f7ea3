//! MCP over HTTP: what a request asks of a server, and with what arguments (revisions 2024-11-05 to 2026-07-28, "Transports").
//!
//! One path carries everything, so the JSON-RPC message in the body is read. It decides; headers that repeat parts of it
//! must agree with it, since a server or what stands before it may go by them. Nothing is kept of a session: each request is
//! what it says. A batch is refused, because its entries would be several actions.

mod head;
mod rule;
mod shown;
mod tool;

use writ_core::argument::{ArgumentRule, ArgumentSource};
use writ_core::mcp::McpAsk;
use writ_core::service::RequestHead;
use writ_core::{Argument, Operation, Reason};

pub(crate) use rule::{Asked, Digest};
pub(crate) use shown::shown;
pub(crate) use tool::Tools;
pub use tool::digest;

use crate::argument::{self, Content};
use crate::json::{Json, Object, member};

/// What a JSON-RPC message of a client may hold.
const REQUEST: [&str; 4] = ["jsonrpc", "id", "method", "params"];
const RESPONSE: [&str; 4] = ["jsonrpc", "id", "result", "error"];

/// What a request asks for.
struct Message<'j> {
    ask: McpAsk,
    params: Option<&'j Object>,
}

/// The one operation, of those that share its path, that a request is. What names the tool or URI goes before what does
/// not, and both before `session`.
pub(crate) fn operation(
    candidates: Vec<Operation>,
    request: &RequestHead<'_>,
    document: Option<&Json>,
) -> Result<Operation, Reason> {
    let message = match (request.method, document) {
        ("POST", Some(document)) => Message::read(document)?,
        ("POST", None) => return Err(Reason::BodyRefused),
        ("GET", _) => Message { ask: McpAsk::Stream, params: None },
        ("DELETE", _) => Message { ask: McpAsk::End, params: None },
        _ => return Err(Reason::NoOperation),
    };
    head::agrees(request, &message)?;
    let mut found = best(candidates, &message.ask, |operation| operation.rule.mcp.as_ref().map(|it| &it.ask))
        .ok_or(Reason::NoOperation)?;
    let read = argument::read(&found.rule, request, &Content::Unread, |wanted| message.argument(wanted))?;
    found.arguments.extend(read);
    Ok(found)
}

/// Of these, the one that covers what is asked most closely; of equals the first.
fn best<T>(all: impl IntoIterator<Item = T>, ask: &McpAsk, of: impl Fn(&T) -> Option<&McpAsk>) -> Option<T> {
    let near = |it: &T| of(it).and_then(|wanted| closeness(wanted, ask));
    let ranked = all.into_iter().filter_map(|it| near(&it).map(|rank| (rank, it)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, it)| it)
}

/// How closely a rule covers what is asked, nearest first; `None` if it does not.
fn closeness(wanted: &McpAsk, ask: &McpAsk) -> Option<u8> {
    match (wanted, ask) {
        (wanted, ask) if wanted == ask => Some(0),
        (McpAsk::Method { method, name: None }, McpAsk::Method { method: asked, .. }) if method == asked => {
            Some(1)
        }
        (McpAsk::Session, ask) if ask.is_of_session() => Some(2),
        _ => None,
    }
}

impl<'j> Message<'j> {
    fn read(document: &'j Json) -> Result<Self, Reason> {
        let message = match document {
            Json::Object(message) => message,
            Json::List(_) => return Err(Reason::SeveralOperations),
            Json::Null | Json::Boolean(_) | Json::Integer(_) | Json::Number | Json::Text(_) => {
                return Err(Reason::BodyRefused);
            }
        };
        let holds_only = |names: &[&str]| message.keys().all(|key| names.contains(&key.as_str()));
        let id = match message.get("id") {
            None => false,
            Some(Json::Text(_) | Json::Integer(_)) => true,
            Some(_) => return Err(Reason::BodyRefused),
        };
        if !matches!(message.get("jsonrpc"), Some(Json::Text(version)) if version == "2.0") {
            return Err(Reason::BodyRefused);
        }
        let Some(method) = message.get("method") else {
            let one = message.contains_key("result") != message.contains_key("error");
            let whole = one && id && holds_only(&RESPONSE);
            return if whole {
                Ok(Self { ask: McpAsk::Response, params: None })
            } else {
                Err(Reason::BodyRefused)
            };
        };
        let (Json::Text(method), true) = (method, holds_only(&REQUEST)) else {
            return Err(Reason::BodyRefused);
        };
        // A request without an id would be done without an answer, a notification with one is none.
        if id == method.starts_with("notifications/") {
            return Err(Reason::BodyRefused);
        }
        let params = match message.get("params") {
            None => None,
            Some(Json::Object(params)) => Some(params),
            Some(_) => return Err(Reason::BodyRefused),
        };
        let name = match (McpAsk::named_by(method), params) {
            (None, _) => None,
            (Some(key), Some(params)) => match member(params, key)? {
                Some(Json::Text(name)) => Some(name.clone()),
                Some(_) | None => return Err(Reason::BodyRefused),
            },
            (Some(_), None) => return Err(Reason::BodyRefused),
        };
        Ok(Self { ask: McpAsk::Method { method: method.clone(), name }, params })
    }

    /// What a tool or prompt is called with; of other methods, their parameters.
    fn arguments(&self) -> Result<Option<&'j Json>, Reason> {
        match self.params {
            Some(params) if self.has_arguments() => match member(params, "arguments")? {
                Some(Json::Null) | None => Ok(None),
                Some(arguments @ Json::Object(_)) => Ok(Some(arguments)),
                Some(_) => Err(Reason::BodyRefused),
            },
            Some(_) | None => Ok(None),
        }
    }

    fn has_arguments(&self) -> bool {
        matches!(&self.ask, McpAsk::Method { method, .. } if method == "tools/call" || method == "prompts/get")
    }

    fn argument(&self, wanted: &ArgumentRule) -> Result<Option<Argument>, Reason> {
        let ArgumentSource::Mcp(pointer) = &wanted.source else { return Ok(None) };
        let found = match (self.has_arguments(), self.params, pointer.tokens().split_first()) {
            (true, ..) => match self.arguments()? {
                Some(arguments) => arguments.at(pointer.tokens())?,
                None => None,
            },
            (false, Some(params), Some((first, rest))) => match member(params, first)? {
                Some(value) => value.at(rest)?,
                None => None,
            },
            (false, ..) => None,
        };
        match found {
            Some(value) => value.argument().map(Some).ok_or(Reason::ArgumentRefused),
            None => Ok(None),
        }
    }

    /// Every single value among the arguments, as a header would write it.
    fn scalars(&self) -> Result<Vec<String>, Reason> {
        let mut found = Vec::new();
        let mut left: Vec<&Json> = self.arguments()?.into_iter().collect();
        while let Some(value) = left.pop() {
            match value {
                Json::Object(members) => left.extend(members.values()),
                Json::Text(text) => found.push(text.clone()),
                Json::Integer(number) => found.push(number.to_string()),
                Json::Boolean(value) => found.push(value.to_string()),
                // Of no list or number with a fraction is there a header.
                Json::List(_) | Json::Number | Json::Null => {}
            }
        }
        Ok(found)
    }
}

/// What the request of a client says of itself beside what it asks for.
fn meta<'j>(message: &Message<'j>, key: &str) -> Result<Option<&'j str>, Reason> {
    let meta = match message.params.map(|params| member(params, "_meta")).transpose()?.flatten() {
        Some(Json::Object(meta)) => Some(meta),
        None => None,
        Some(_) => return Err(Reason::BodyRefused),
    };
    match meta.and_then(|meta| meta.get(key)) {
        None => Ok(None),
        Some(Json::Text(text)) => Ok(Some(text)),
        Some(_) => Err(Reason::BodyRefused),
    }
}
