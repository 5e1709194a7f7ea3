//! What a client is shown of a server's messages: lists without what it may not ask for, and no request that no rule covers.
//!
//! Told by its shape, not by what was asked before, so that it holds on every stream: an answer, the stream of a session, and
//! that of the older transport. Invariant: a message is passed on as it came, or without some entries, or not at all.

use std::sync::Arc;

use serde_json::{Map, Value};
use writ_core::mcp::{McpAsk, McpRule};
use writ_core::service::OperationRule;
use writ_core::{Reason, Service};
use writ_gate::{May, Shown, Sight};

use super::best;
use super::tool::Tools;
use crate::json::{Json, member};

/// A list that a result may have: its name, what is asked of an entry, and which member of it that names.
const LISTS: [(&str, &str, &str); 4] = [
    ("tools", "tools/call", "name"),
    ("prompts", "prompts/get", "name"),
    ("resources", "resources/read", "uri"),
    ("resourceTemplates", "resources/read", "uriTemplate"),
];
/// Requests of the server within a result (revision 2026-07-28).
const REQUESTS: &str = "inputRequests";

/// What may be shown of a message that came of what was asked of the service.
pub(crate) fn shown(
    (service, asked): (&Service, &OperationRule),
    tools: &Tools,
    message: &[u8],
    may: May<'_>,
) -> Result<Shown, Reason> {
    let strict = Json::parse(message).map_err(|_| Reason::McpAnswer)?;
    let plain = match &strict {
        Json::Object(_) => is_plain(&strict)?,
        Json::List(all) => all.iter().map(is_plain).collect::<Result<Vec<_>, _>>()?.into_iter().all(|it| it),
        Json::Null | Json::Boolean(_) | Json::Integer(_) | Json::Number | Json::Text(_) => {
            return Err(Reason::McpAnswer);
        }
    };
    if plain {
        return Ok(Shown::Whole);
    }
    let value: Value = serde_json::from_slice(message).map_err(|_| Reason::McpAnswer)?;
    let sieve = Sieve { rules: rules(service, asked), tools, may };
    let kept = if let Value::Array(all) = &value {
        let kept = all.iter().cloned().map(|one| sieve.message(one)).collect::<Result<Vec<_>, _>>()?;
        let kept: Vec<Value> = kept.into_iter().flatten().collect();
        (!kept.is_empty()).then_some(Value::Array(kept))
    } else {
        sieve.message(value.clone())?
    };
    Ok(match kept {
        Some(kept) if kept == value => Shown::Whole,
        Some(kept) => Shown::Part(kept.to_string()),
        None => Shown::Nothing,
    })
}

/// Whether there is nothing in a message that must be looked at. Names that some client takes for one that matters are
/// refused.
fn is_plain(message: &Json) -> Result<bool, Reason> {
    let Json::Object(message) = message else { return Err(Reason::McpAnswer) };
    let one = |object, name| member(object, name).map_err(|_| Reason::McpAnswer);
    if one(message, "method")?.is_some() {
        return Ok(false);
    }
    let Some(Json::Object(result)) = one(message, "result")? else { return Ok(true) };
    let mut plain = one(result, REQUESTS)?.is_none();
    for (list, ..) in LISTS {
        plain &= one(result, list)?.is_none();
    }
    Ok(plain)
}

/// The rules that what is listed would come to: those of the path, since another path may be another server. The older
/// transport has its stream at a path of its own, where nothing is asked for.
fn rules<'s>(service: &'s Service, asked: &OperationRule) -> Vec<&'s Arc<OperationRule>> {
    let names = |rule: &OperationRule| matches!(&rule.mcp, Some(McpRule { ask: McpAsk::Method { method, .. }, .. }) if !method.starts_with("notifications/"));
    let near = |rule: &&Arc<OperationRule>| rule.path.segments == asked.path.segments;
    let here: Vec<_> = service.operations.iter().filter(near).collect();
    if here.iter().any(|rule| names(rule)) { here } else { service.operations.iter().collect() }
}

struct Sieve<'s> {
    rules: Vec<&'s Arc<OperationRule>>,
    tools: &'s Tools,
    may: May<'s>,
}

impl Sieve<'_> {
    fn message(&self, mut message: Value) -> Result<Option<Value>, Reason> {
        if let Some(method) = message.get("method") {
            let method = method.as_str().ok_or(Reason::McpAnswer)?;
            let tells = method.starts_with("notifications/") && message.get("id").is_none();
            return Ok((tells || self.asks(method)).then_some(message));
        }
        let Some(result) = message.get_mut("result").and_then(Value::as_object_mut) else {
            return Ok(Some(message));
        };
        if let Some(requests) = result.get(REQUESTS) {
            let requests = requests.as_object().ok_or(Reason::McpAnswer)?;
            let asked = |request: &Value| {
                request.get("method").and_then(Value::as_str).is_some_and(|method| self.asks(method))
            };
            if !requests.values().all(asked) {
                return Err(Reason::McpAnswer);
            }
        }
        for (list, method, key) in LISTS {
            self.list(result, (list, method, key))?;
        }
        Ok(Some(message))
    }

    /// Whether the server may ask this of the client.
    fn asks(&self, method: &str) -> bool {
        let ask = McpAsk::Method { method: method.to_owned(), name: None };
        self.rule(&ask).is_some_and(|rule| (self.may)(rule, Sight::Request))
    }

    fn list(
        &self,
        result: &mut Map<String, Value>,
        (list, method, key): (&str, &str, &str),
    ) -> Result<(), Reason> {
        let Some(list) = result.get_mut(list) else { return Ok(()) };
        let entries = list.as_array_mut().ok_or(Reason::McpAnswer)?;
        let is_tool = method == "tools/call";
        entries.retain(|entry| {
            let Some(name) = entry.get(key).and_then(Value::as_str) else { return false };
            let ask = McpAsk::Method { method: method.to_owned(), name: Some(name.to_owned()) };
            let Some(rule) = self.rule(&ask) else { return false };
            // What is listed is taken in before anything else is asked.
            let approved = !is_tool || self.tools.listed(rule, entry);
            approved && (self.may)(rule, Sight::Offer)
        });
        Ok(())
    }

    /// The rule that such a request would come to.
    fn rule(&self, ask: &McpAsk) -> Option<&Arc<OperationRule>> {
        best(self.rules.iter().copied(), ask, |rule| rule.mcp.as_ref().map(|it| &it.ask))
    }
}
