//! A service file from what an MCP server says of its tools: operations with effects, typed arguments and digests, as text for
//! somebody to read.
//!
//! The server is not trusted: effects are its own hints, which it may give as it likes, and so are names and descriptions.
//! What is certain is the digest: a tool that is told otherwise later is refused. What a schema has that a service file cannot
//! say is left out and named in a comment.

mod ask;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use writ_core::{OperationName, ServiceName};
use writ_gate::limits::ARGUMENTS_MAX;

pub(crate) use ask::Server;

use crate::drafted::Operation;
use crate::openapi::{Unusable, checked, is_secret, kind, line, put, quoted, unusable, word};

/// The text of `services/NAME.toml`.
pub(crate) fn service_file(server: &Server, name: Option<ServiceName>) -> Result<String, Unusable> {
    let name = match name {
        Some(name) => name,
        None => match ServiceName::new(&word(&server.name, '-')) {
            Ok(name) => name,
            Err(_) => {
                return unusable("the server has no name that a service can have", "name it: `--name NAME`");
            }
        },
    };
    let name = name.as_str();
    let mut text = format!(
        "# {}: made from what its MCP server says of itself. Read it before you use it: effects are the server's own hints, and\n\
         # nobody checks them. A tool that the server defines otherwise than now is refused (`digest`).\n",
        line(&server.name)
    );
    put(&mut text, &format!("name = {}", quoted(name)));
    put(&mut text, &format!("hosts = [{}]", quoted(&server.place.host)));
    put(&mut text, &format!("ports = [{}]", server.place.port));
    put(&mut text, &format!("protocol = {}", quoted(if server.place.tls { "https" } else { "http" })));
    if server.with_token && server.place.tls {
        put(
            &mut text,
            &format!("\n[credential]\nsecret = {}\nplace = \"bearer\"", quoted(&format!("{name}-token"))),
        );
    } else if server.with_token {
        put(
            &mut text,
            "# It wants a token, which nothing would encrypt: add a `[credential]` if that is meant.",
        );
    }
    put(&mut text, "\n# What is not yet for anything: opening, notifications, streams.");
    let mut taken = BTreeSet::new();
    let plain = |ask: &str| Operation {
        path: server.place.path.clone(),
        effect: "read",
        mcp: Some(ask.to_owned()),
        ..Operation::default()
    };
    let mut all = vec![Operation { name: "session".to_owned(), ..plain("session") }];
    all.extend(server.lists().map(|ask| Operation { name: word(ask, '-'), ..plain(ask) }));
    if server.offers("resources") {
        let arguments = [("uri".to_owned(), "mcp:/uri string".to_owned())].into();
        all.push(Operation { name: "resources-read".to_owned(), arguments, ..plain("resources/read") });
    }
    if server.offers("prompts") {
        all.push(Operation { name: "prompts-get".to_owned(), ..plain("prompts/get") });
    }
    taken.extend(all.iter().map(|operation| operation.name.clone()));
    let mut left_out = Vec::new();
    all.extend(
        server
            .tools
            .iter()
            .filter_map(|tool| of_tool(name, tool, &mut taken, &mut left_out))
            .map(|operation| Operation { path: server.place.path.clone(), ..operation }),
    );
    for (n, operation) in all.iter().enumerate() {
        if n > 0 {
            text.push('\n');
        }
        operation.write(&mut text);
    }
    if !left_out.is_empty() {
        put(&mut text, "\n# Left out, because a service file cannot say it:");
        for what in &left_out {
            put(&mut text, &format!("# {}", line(what)));
        }
    }
    checked(name, text)
}

fn of_tool(
    service: &str,
    tool: &Value,
    taken: &mut BTreeSet<String>,
    left_out: &mut Vec<String>,
) -> Option<Operation> {
    let Some(own) = tool.get("name").and_then(Value::as_str).filter(|own| !own.is_empty()) else {
        left_out.push("a tool without a name".to_owned());
        return None;
    };
    let what = word(own, '-');
    let numbered = (2..1_000).map(|n: u32| format!("{what}-{n}"));
    let free =
        |name: &String| !taken.contains(name) && OperationName::new(&format!("{service}/{name}")).is_ok();
    let Some(name) = std::iter::once(what.clone()).chain(numbered).find(free) else {
        left_out.push(format!("{own}: its name"));
        return None;
    };
    taken.insert(name.clone());
    let summary = tool.get("description").and_then(Value::as_str).map(line).unwrap_or_default();
    Some(Operation {
        summary,
        name,
        effect: effect(tool),
        mcp: Some(format!("tools/call {own}")),
        digest: Some(writ_catalog::digest(tool)),
        arguments: arguments(own, tool, left_out),
        ..Operation::default()
    })
}

/// What the tool says that it does.
fn effect(tool: &Value) -> &'static str {
    let hint = |name: &str| tool.get("annotations").and_then(|all| all.get(name)?.as_bool()) == Some(true);
    match (hint("readOnlyHint"), hint("destructiveHint")) {
        (_, true) => "delete",
        (true, false) => "read",
        (false, false) => "write",
    }
}

fn arguments(tool_name: &str, tool: &Value, left_out: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut arguments = BTreeMap::new();
    let Some(schema) = tool.get("inputSchema") else { return arguments };
    let required = schema.get("required").and_then(Value::as_array);
    let is_required =
        |name: &str| required.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(name)));
    let properties = schema.get("properties").and_then(Value::as_object);
    let sorted: BTreeMap<&String, &Value> = properties.into_iter().flatten().collect();
    for (name, property) in sorted {
        let mut leave = |why: &str| left_out.push(format!("{tool_name}: the argument {name}, {why}"));
        let (Some(kind), own) = (kind(schema, property), word(name, '_')) else {
            leave("for its type");
            continue;
        };
        if is_secret(name) {
            leave("which may be secret");
        } else if own.is_empty() || arguments.contains_key(&own) || arguments.len() == ARGUMENTS_MAX {
            leave("for its name, or because there are many");
        } else {
            let mark = if is_required(name) { "" } else { "?" };
            let token = name.replace('~', "~0").replace('/', "~1");
            arguments.insert(own, format!("mcp:/{token} {kind}{mark}"));
        }
    }
    arguments
}

#[cfg(test)]
mod tests;
