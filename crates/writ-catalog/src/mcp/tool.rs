//! Which tools are what they were when they were approved.
//!
//! A rule with a `digest` covers one definition of its tool: what the model is told of it. The server can tell it otherwise
//! at any time, so a call is refused until the definition was seen as approved, and for good once it was seen otherwise.
//! Kept in memory: after a restart everything is unseen, and seen again with the next list.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::SHA256;
use serde_json::Value;
use writ_core::Reason;
use writ_core::mcp::{McpAsk, McpRule};
use writ_core::service::OperationRule;

use crate::check::Services;

/// The digest of a tool's definition, as a rule says it: `sha256:` and the hex digits of the SHA-256 of its canonical JSON.
///
/// All of the definition counts but `_meta`, which tells a client and not its model. Canonical is JSON without space, names
/// in the order of their code points, everything escaped that must be and nothing else.
pub fn digest(definition: &Value) -> String {
    let mut text = String::new();
    match definition.as_object() {
        Some(members) => object(&mut text, members.iter().filter(|(name, _)| *name != "_meta")),
        None => canonical(&mut text, definition),
    }
    let hash = aws_lc_rs::digest::digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

fn canonical(text: &mut String, value: &Value) {
    match value {
        Value::Object(members) => object(text, members.iter()),
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                text.push(if n == 0 { '[' } else { ',' });
                canonical(text, item);
            }
            text.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
    }
}

fn object<'v>(text: &mut String, members: impl Iterator<Item = (&'v String, &'v Value)>) {
    let sorted: BTreeMap<&String, &Value> = members.collect();
    for (n, (name, value)) in sorted.iter().enumerate() {
        text.push(if n == 0 { '{' } else { ',' });
        text.push_str(&Value::from(name.as_str()).to_string());
        text.push(':');
        canonical(text, value);
    }
    text.push_str(if sorted.is_empty() { "{}" } else { "}" });
}

/// What was seen of the tools whose definition is approved. As large as the services' files make it.
#[derive(Debug, Default)]
pub(crate) struct Tools(Mutex<HashMap<Approved, Seen>>);

/// A definition that is approved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Approved {
    service: String,
    tool: String,
    digest: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    AsApproved,
    Otherwise,
}

impl Approved {
    fn of(rule: &OperationRule) -> Option<Self> {
        match rule.mcp.as_ref()? {
            McpRule { ask: McpAsk::Method { name: Some(tool), .. }, digest: Some(digest) } => Some(Self {
                service: rule.name.service().to_owned(),
                tool: tool.clone(),
                digest: digest.clone(),
            }),
            McpRule { .. } => None,
        }
    }
}

impl Tools {
    /// Refuses a call of a tool that is not known to be as approved.
    pub(crate) fn check(&self, rule: &OperationRule) -> Result<(), Reason> {
        let Some(approved) = Approved::of(rule) else { return Ok(()) };
        match self.lock().get(&approved) {
            Some(Seen::AsApproved) => Ok(()),
            Some(Seen::Otherwise) => Err(Reason::ToolChanged),
            None => Err(Reason::ToolUnseen),
        }
    }

    /// Takes in what a server says of the rule's tool. Whether it is as approved, now and whenever it was seen.
    pub(crate) fn listed(&self, rule: &OperationRule, definition: &Value) -> bool {
        let Some(approved) = Approved::of(rule) else { return true };
        let now = if digest(definition) == approved.digest { Seen::AsApproved } else { Seen::Otherwise };
        let mut all = self.lock();
        let seen = all.entry(approved).or_insert(now);
        if now == Seen::Otherwise {
            *seen = now;
        }
        *seen == Seen::AsApproved
    }

    /// Forgets what no rule of these services approves any more.
    pub(crate) fn retain(&self, services: &Services) {
        let mut rules = services.iter().flat_map(|service| &service.operations);
        let mut all = self.lock();
        let known: Vec<Approved> = rules.by_ref().filter_map(|rule| Approved::of(rule)).collect();
        all.retain(|approved, _| known.contains(approved));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Approved, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_digest_is_of_the_definition_however_it_is_written() {
        let one = r#"{"name":"a","description":"\u00e9\n","inputSchema":{"type":"object","properties":{},"required":[]}}"#;
        let other = r#"{ "_meta": {"x": 1}, "inputSchema": {"required": [], "properties": {}, "type": "object"},
            "description": "é\n", "name": "a" }"#;
        let [one, other] = [one, other].map(|text| digest(&serde_json::from_str(text).unwrap()));
        // `printf '{"description":"é\n","inputSchema":{"properties":{},"required":[],"type":"object"},"name":"a"}' | sha256sum`
        assert_eq!(one, "sha256:54450851b906e9a4bca36c6411f88019bb9a91110e1c0dc27c33c90ba9b62a9b");
        assert_eq!(one, other);
        for changed in
            [json!({"name": "a"}), json!({"name": "a", "description": ""}), json!({"name": "A"}), json!([])]
        {
            assert_ne!(digest(&changed), one);
            assert_ne!(digest(&changed), digest(&json!({"name": "a", "title": ""})));
        }
    }
}
