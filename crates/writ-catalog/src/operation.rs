//! The operations of a service file.

use std::collections::BTreeMap;
use std::sync::Arc;

use writ_core::argument::{ArgumentKind, ArgumentRule, ArgumentSource};
use writ_core::config::Table;
use writ_core::mcp::{McpAsk, McpRule};
use writ_core::service::{Conditions, OperationRule, PathTemplate};
use writ_core::{Effect, Label, OperationName, Protocol, ServiceName};
use writ_gate::limits::ARGUMENTS_MAX;

use crate::argument::{Condition, Declared, Field, Only};
use crate::header;
use crate::matching::connect_rule;
use crate::mcp::{Asked, Digest};
use crate::setting::Method;
use crate::template::{self, Template};

/// Reads the operations of a service.
pub(crate) fn operations(
    table: &Table<'_>,
    service: Option<&ServiceName>,
    protocol: Option<Protocol>,
) -> Vec<Arc<OperationRule>> {
    let tables = table.tables("operation");
    if matches!(protocol, Some(Protocol::Tcp | Protocol::Pass)) {
        if !tables.is_empty() {
            let hint = "the connection is its one operation, `NAME/connect`";
            table.problem("operation", "a `tcp` or `pass` service lists no operations", Some(hint));
        }
        let name = service.and_then(|name| OperationName::new(&format!("{name}/connect")).ok());
        return name.map(connect_rule).map(Arc::new).into_iter().collect();
    }
    if tables.is_empty() && protocol.is_some() {
        let hint = "add at least one `[[operation]]`";
        table.problem("operation", "without operations nothing can be done at the service", Some(hint));
    }
    let mut rules: Vec<Arc<OperationRule>> = Vec::with_capacity(tables.len());
    for entry in &tables {
        if let Some(rule) = operation(entry, service, protocol) {
            check_rule(entry, &rules, &rule);
            rules.push(Arc::new(rule));
        }
    }
    rules
}

fn operation(
    table: &Table<'_>,
    service: Option<&ServiceName>,
    protocol: Option<Protocol>,
) -> Option<OperationRule> {
    let short = table.required::<String>("name");
    let effect = table.required::<Effect>("effect");
    let mut methods: Vec<String> =
        table.list::<Method>("methods").into_iter().map(|method| method.0).collect();
    let path = path(table, protocol);
    let when = conditions(table);
    let arguments = table.map::<Declared>("arguments").into_iter().map(|(name, it)| (name, it.0)).collect();
    let graphql = table.optional::<Field>("graphql").map(|field| field.0);
    let labels = table.list::<Label>("labels").into_iter().collect();
    let mcp = mcp(table, &mut methods);
    // Named for the service even if that has no valid name, so that the operation's own name is checked.
    let (service, short) = (service.map_or("service", ServiceName::as_str), short?);
    let name = OperationName::new(&format!("{service}/{short}"))
        .map_err(|_| {
            let hint = "letters, digits, `.`, `-`, `_`; the service's name is put before it";
            table.problem("name", format!("`{short}` is not an operation's name"), Some(hint));
        })
        .ok();
    let (name, effect, path) = (name?, effect?, path?);
    let rule = OperationRule { name, effect, methods, path, when, arguments, graphql, labels, mcp };
    check_arguments(table, &rule);
    check_content(table, &rule);
    check_methods(table, &rule);
    Some(rule)
}

/// Its path. Messages to a program go nowhere else than to it.
fn path(table: &Table<'_>, protocol: Option<Protocol>) -> Option<PathTemplate> {
    if protocol != Some(Protocol::Stdio) {
        return table.required::<Template>("path").map(|path| path.0);
    }
    if table.optional::<Template>("path").is_some() {
        table.problem("path", "a `stdio` service has no paths", Some("leave it out"));
    }
    template::parse("/").ok()
}

/// What it is of an MCP server. How that is sent is no choice, so its methods are not written.
fn mcp(table: &Table<'_>, methods: &mut Vec<String>) -> Option<McpRule> {
    let ask = table.optional::<Asked>("mcp").map(|asked| asked.0);
    let digest = table.optional::<Digest>("digest").map(|digest| digest.0);
    if digest.is_some() && !matches!(&ask, Some(McpAsk::Method { method, .. }) if method == "tools/call") {
        table.problem("digest", "only a tool of an MCP server has a digest", None);
    }
    let ask = ask?;
    if methods.is_empty() {
        methods.extend(ask.methods().iter().map(|&method| method.to_owned()));
    } else {
        table.problem("methods", "an MCP operation has the methods of its protocol", Some("leave it out"));
    }
    Some(McpRule { ask, digest })
}

fn conditions(table: &Table<'_>) -> Conditions {
    let wanted = |key: &str| {
        table.map::<Condition>(key).into_iter().map(|(name, it)| (name, it.0)).collect::<BTreeMap<_, _>>()
    };
    let headers = wanted("headers");
    for name in headers.keys().filter(|name| !header::is_readable(name)) {
        let hint = "in lower case, as in `x-amz-target`";
        let what = "it is no header's name, or one of those that the relay takes away";
        table.sub_table("headers").problem(name, what, Some(hint));
    }
    let parameters = table.optional::<Only>("parameters").map(|only| only.0);
    Conditions { query: wanted("query"), parameters, headers, form: table.map("form") }
}

fn is_json(rule: &ArgumentRule) -> bool {
    matches!(rule.source, ArgumentSource::Body(_) | ArgumentSource::Keys(_))
}

/// A body is read in one way.
fn check_content(table: &Table<'_>, rule: &OperationRule) {
    let json = rule.arguments.values().any(is_json);
    let ways = [rule.graphql.is_some(), rule.mcp.is_some(), json, rule.reads_form(), rule.reads_push()];
    if ways.iter().filter(|way| **way).count() > 1 {
        let hint =
            "its arguments are all of `body` and `keys`, all of `form`, all of `graphql` or all of `push`";
        table.problem("arguments", "its body would be read in two ways", Some(hint));
    }
}

fn check_arguments(table: &Table<'_>, rule: &OperationRule) {
    let named = table.sub_table("arguments");
    if rule.arguments.len() > ARGUMENTS_MAX {
        let what = format!("{} arguments, more than {ARGUMENTS_MAX}", rule.arguments.len());
        table.problem("arguments", what, None);
    }
    let in_path = template::arguments(&rule.path);
    for (name, argument) in &rule.arguments {
        if let Err(what) = template::argument(name) {
            named.problem(name, what, None);
        }
        if in_path.contains(name.as_str()) {
            named.problem(name, "the path has an argument of this name", None);
        }
        match (&argument.source, &rule.graphql) {
            (ArgumentSource::Body(_) | ArgumentSource::Keys(_), Some(_)) => {
                let hint = "as in `graphql:/input/title string`; variables are followed";
                named.problem(name, "the arguments of a GraphQL operation are its field's", Some(hint));
            }
            (ArgumentSource::Graphql(_), None) => {
                let hint = "name its root field, as in `graphql = \"mutation createIssue\"`";
                named.problem(name, "the operation is not a GraphQL one", Some(hint));
            }
            _ => {}
        }
        let asks = rule
            .mcp
            .as_ref()
            .is_some_and(|mcp| matches!(mcp.ask, McpAsk::Method { .. }) && !mcp.ask.is_of_server());
        if matches!(argument.source, ArgumentSource::Mcp(_)) && !asks {
            let hint = "name what is asked, as in `mcp = \"tools/call create_issue\"`";
            let what = "the operation is no method of an MCP server that has arguments";
            named.problem(name, what, Some(hint));
        }
        if rule.mcp.is_some() && is_json(argument) {
            let hint = "as in `mcp:/title string`, which is read in what the tool is called with";
            named.problem(name, "the arguments of an MCP operation are those of its method", Some(hint));
        }
    }
}

/// A body is read only where a request of the method has one that means something (RFC 9110 section 9.3).
fn check_methods(table: &Table<'_>, rule: &OperationRule) {
    if rule.mcp.is_some() {
        if rule.graphql.is_some() {
            table.problem("graphql", "an operation is of MCP or of GraphQL", None);
        }
    } else if rule.graphql.is_some() && rule.methods != ["POST"] {
        let hint = "as in `methods = [\"POST\"]`; in a query string a document is not read";
        table.problem("methods", "a GraphQL operation is sent by POST alone", Some(hint));
    } else if rule.reads_form() {
        if rule.methods.is_empty() || !rule.methods.iter().all(|method| method == "GET" || method == "POST") {
            let hint = "as in `methods = [\"POST\"]`; with `GET` it is the query";
            table.problem("methods", "a form is sent by POST or GET alone", Some(hint));
        }
    } else if rule.reads_push() && rule.methods != ["POST"] {
        table.problem("methods", "a push is sent by POST alone", Some("as in `methods = [\"POST\"]`"));
    } else if rule.reads_body() && !rule.methods.iter().any(|method| method != "GET" && method != "HEAD") {
        let hint = "as in `methods = [\"POST\"]`";
        table.problem("methods", "arguments in a body need methods that have one", Some(hint));
    } else if rule.reads_body() && rule.methods.iter().any(|method| method == "GET" || method == "HEAD") {
        table.problem("methods", "`GET` and `HEAD` have no body to read arguments from", None);
    }
}

/// Compares a rule with those before it.
fn check_rule(table: &Table<'_>, before: &[Arc<OperationRule>], rule: &OperationRule) {
    if rule.effect == Effect::Connect {
        let hint = "`connect` is for connections that are not read";
        table.problem("effect", "a request has another effect than `connect`", Some(hint));
    }
    if let Some(twin) = before.iter().find(|other| other.name == rule.name) {
        if twin.effect != rule.effect {
            table.problem("effect", format!("`{}` has another effect in a rule above", rule.name), None);
        }
        if signature(twin) != signature(rule) {
            let key = if template::arguments(&twin.path) == template::arguments(&rule.path) {
                "arguments"
            } else {
                "path"
            };
            let hint = "rules that share a name are one operation and must have the same arguments";
            table.problem(key, format!("`{}` has other arguments in a rule above", rule.name), Some(hint));
        }
    }
    let methods_meet = |other: &OperationRule| {
        let any = other.methods.is_empty() || rule.methods.is_empty();
        any || other.methods.iter().any(|method| rule.methods.contains(method))
    };
    let of_mcp = |other: &OperationRule| other.mcp.is_some() || rule.mcp.is_some();
    let same_head = |other: &&Arc<OperationRule>| {
        let when = Conditions { form: rule.when.form.clone(), ..other.when.clone() };
        let same = other.path.segments == rule.path.segments && when == rule.when;
        same && (other.methods == rule.methods || of_mcp(other) && methods_meet(other))
    };
    for other in before.iter().filter(same_head) {
        match (&other.mcp, &rule.mcp) {
            (None, None) => {}
            (Some(theirs), Some(own)) if theirs.ask != own.ask => continue,
            (Some(_), Some(_)) => {
                let what = format!("asks for the same as `{}` above, so it is never reached", other.name);
                table.problem("mcp", what, None);
                return;
            }
            (Some(_), None) | (None, Some(_)) => {
                let what =
                    format!("shares its requests with `{}` above, and one of them is not of MCP", other.name);
                table.problem("path", what, None);
                return;
            }
        }
        let forms = (!other.when.form.is_empty(), !rule.when.form.is_empty());
        match (&other.graphql, &rule.graphql) {
            (Some(field), Some(own)) if field != own => {}
            (None, None) if forms == (true, true) && other.when.form != rule.when.form => {}
            (Some(_), None) | (None, Some(_)) => {
                let what = format!(
                    "shares its requests with `{}` above, and one of them is not GraphQL",
                    other.name
                );
                table.problem("path", what, None);
            }
            (None, None) | (Some(_), Some(_)) => {
                let what =
                    format!("covers the same requests as `{}` above, so it is never reached", other.name);
                table.problem("path", what, None);
                return;
            }
        }
    }
}

/// The arguments of a rule, wherever it finds them.
fn signature(rule: &OperationRule) -> BTreeMap<&str, (ArgumentKind, bool)> {
    let in_path =
        template::arguments(&rule.path).into_iter().map(|name| (name, (ArgumentKind::String, true)));
    let others = rule.arguments.iter().map(|(name, rule)| (name.as_str(), (rule.kind, rule.required)));
    in_path.chain(others).collect()
}
