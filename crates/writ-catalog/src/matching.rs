//! Which operation a request is: the first rule that fits its head, with the arguments that its head and body carry.

use std::collections::BTreeMap;
use std::sync::Arc;

use writ_core::argument::{ArgumentKind, ArgumentRule, ArgumentSource};
use writ_core::service::{OperationRule, PathTemplate, RequestHead, Root, Selection};
use writ_core::{Argument, Arguments, Effect, HostName, Operation, OperationName, Protocol, Reason, Service};

use crate::graphql::{self, Executed};
use crate::path::Path;
use crate::query::parameter;
use crate::rules::Rules;
use crate::{argument, content, mcp, method, template};

/// The one rule of a service whose connection is one action.
pub(crate) fn connect_rule(name: OperationName) -> OperationRule {
    OperationRule {
        name,
        effect: Effect::Connect,
        methods: Vec::new(),
        path: PathTemplate { text: String::new(), segments: Vec::new() },
        query: BTreeMap::new(),
        arguments: BTreeMap::new(),
        graphql: None,
        labels: std::collections::BTreeSet::new(),
        mcp: None,
    }
}

/// The rules that a request's head leads to. `rules` is the service's index; without one, each rule is tried in turn.
pub(crate) fn select(
    service: &Service,
    rules: Option<&Rules>,
    host: &HostName,
    request: &RequestHead<'_>,
) -> Result<Selection, Reason> {
    match service.protocol {
        Protocol::Tcp | Protocol::Pass => {
            let rule = service.operations.first().ok_or(Reason::NoOperation)?;
            Ok(Operation { rule: Arc::clone(rule), arguments: BTreeMap::new() }.into())
        }
        Protocol::Https | Protocol::Http | Protocol::Stdio => {
            // Agreed upon by all names of the request, and yet it must be one of this service.
            if !service.hosts.iter().any(|pattern| pattern.matches(host)) {
                return Err(Reason::NameMismatch);
            }
            method::said_once(request)?;
            let path = Path::parse(request.path)?;
            match rules {
                Some(rules) => {
                    let places = rules.candidates(&path);
                    first(places.iter().filter_map(|n| service.operations.get(*n)), &path, request)
                }
                None => first(service.operations.iter(), &path, request),
            }
        }
    }
}

/// The first of the rules that covers the request's head. If that is a GraphQL field or something of an MCP server, all the
/// others of the kind with it: what comes to such a path is one of them, or nothing.
fn first<'r>(
    rules: impl Iterator<Item = &'r Arc<OperationRule>>,
    path: &Path<'_>,
    request: &RequestHead<'_>,
) -> Result<Selection, Reason> {
    let mut candidates: Vec<Operation> = Vec::new();
    for rule in rules {
        let wanted = candidates.first().is_none_or(|first| share(&first.rule, rule));
        if wanted && covers(rule, path, request)? {
            candidates
                .push(Operation { rule: Arc::clone(rule), arguments: template::values(&rule.path, path) });
            if !share(rule, rule) {
                break;
            }
        }
    }
    let Some(found) = candidates.first() else {
        // An encoded slash that no rule asks for is a slash to some servers and a letter to others.
        let encoded = path.has_encoded_slash();
        return Err(if encoded { Reason::AmbiguousRequest } else { Reason::NoOperation });
    };
    let has_body = found.rule.mcp.is_none() || request.method == "POST";
    let reads_body = found.rule.reads_body() && has_body || method::may_be_form(request);
    Ok(Selection { candidates, reads_body })
}

/// Whether the body tells which of two rules a request is.
fn share(one: &OperationRule, other: &OperationRule) -> bool {
    one.graphql.is_some() && other.graphql.is_some() || one.mcp.is_some() && other.mcp.is_some()
}

/// The operation, of those selected, that the request is.
pub(crate) fn operation(
    selected: Selection,
    request: &RequestHead<'_>,
    body: Option<&[u8]>,
) -> Result<Operation, Reason> {
    let Selection { candidates, reads_body } = selected;
    let body = match (reads_body, body) {
        (true, Some(body)) => body,
        (true, None) => return Err(Reason::BodyRefused),
        (false, _) => &[],
    };
    if reads_body && method::may_be_form(request) {
        content::plain(request, body)?;
        method::in_form(body, request.method)?;
    }
    if candidates.first().is_some_and(|first| first.rule.mcp.is_some()) {
        let document = if reads_body { content::json(request, body)? } else { None };
        return mcp::operation(candidates, request, document.as_ref());
    }
    let mut candidates = candidates.into_iter();
    let found = candidates.next().ok_or(Reason::NoOperation)?;
    let document = if found.rule.reads_body() { content::json(request, body)? } else { None };
    if found.rule.graphql.is_some() {
        graphql::in_body_only(request)?;
        let document = document.ok_or(Reason::BodyRefused)?;
        let executed = Executed::read(&document)?;
        return executes(std::iter::once(found).chain(candidates), request, &executed);
    }
    let read = argument::read(&found.rule, request, document.as_ref(), |_| Ok(None))?;
    Ok(with(found, read))
}

/// The one operation that a GraphQL request executes. Several fields are one operation only if all of them are it, with the
/// same arguments, and nothing is done by them more than once.
fn executes(
    candidates: impl Iterator<Item = Operation>,
    request: &RequestHead<'_>,
    executed: &Executed<'_>,
) -> Result<Operation, Reason> {
    if executed.root == Root::Mutation && executed.fields.len() > 1 {
        return Err(Reason::SeveralOperations);
    }
    let candidates: Vec<Operation> = candidates.collect();
    let mut only: Option<Operation> = None;
    for field in &executed.fields {
        let is = |rule: &OperationRule| {
            rule.graphql
                .as_ref()
                .is_some_and(|wanted| wanted.root == executed.root && wanted.name == field.name)
        };
        let found = candidates.iter().find(|operation| is(&operation.rule)).ok_or(Reason::NoOperation)?;
        let in_field = |wanted: &ArgumentRule| {
            let ArgumentSource::Graphql(pointer) = &wanted.source else { return Ok(None) };
            executed.argument(field, pointer).map(|found| found.map(|found| coerced(found, wanted.kind)))
        };
        let read = argument::read(&found.rule, request, None, in_field)?;
        let found = with(found.clone(), read);
        match &only {
            Some(known) if known.rule.name != found.rule.name || known.arguments != found.arguments => {
                return Err(Reason::SeveralOperations);
            }
            Some(_) => {}
            None => only = Some(found),
        }
    }
    only.ok_or(Reason::NoOperation)
}

/// One text where a list is wanted is a list of it (GraphQL specification, section 3.11).
fn coerced(argument: Argument, kind: ArgumentKind) -> Argument {
    match (argument, kind) {
        (Argument::String(text), ArgumentKind::Strings) => Argument::Strings([text].into()),
        (argument, _) => argument,
    }
}

fn with(mut operation: Operation, more: Arguments) -> Operation {
    operation.arguments.extend(more);
    operation
}

fn covers(rule: &OperationRule, path: &Path<'_>, request: &RequestHead<'_>) -> Result<bool, Reason> {
    let method = rule.methods.is_empty() || rule.methods.iter().any(|method| method == request.method);
    if !method || !template::fits(&rule.path, path) {
        return Ok(false);
    }
    for (name, value) in &rule.query {
        if parameter(request.query, name)?.as_deref() != Some(value) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use writ_core::config::Problems;
    use writ_core::service::Headers;

    use super::*;
    use crate::check::Services;

    /// Every shape of template, with rules that overlap.
    const FILE: &str = r#"
        name = "s"
        hosts = ["s.test"]
        ports = [443]
        operation = [
            { name = "a", effect = "read", path = "/", methods = ["GET"] },
            { name = "b", effect = "read", path = "/a/{x}", methods = ["GET"], query = { q = "1" } },
            { name = "c", effect = "read", path = "/a/{x}", methods = ["GET", "PUT"] },
            { name = "d", effect = "read", path = "/a/b", methods = ["PUT", "POST"] },
            { name = "e", effect = "read", path = "/{x}/b", methods = ["POST"] },
            { name = "f", effect = "read", path = "/{x}.b/b" },
            { name = "g", effect = "read", path = "/a/b/{x...}", methods = ["GET"] },
            { name = "h", effect = "read", path = "/a/{x}/b" },
            { name = "i", effect = "read", path = "/a/b/" },
            { name = "j", effect = "read", path = "/{x}%2F{y}" },
            { name = "k", effect = "read", path = "/{x}%2F{y}/b" },
            { name = "l", effect = "read", path = "/{x...}", methods = ["DELETE"] },
            { name = "m", effect = "read", path = "/b", methods = ["POST"], graphql = "query m" },
            { name = "n", effect = "write", path = "/b", methods = ["POST"], graphql = "mutation n" },
        ]
    "#;

    proptest! {
        #[test]
        fn the_index_finds_what_trying_each_rule_finds(
            method in "GET|PUT|POST|DELETE",
            path in "(/(a|b|a\\.b|%61|c%2fd|%2F|\\.\\.|)){1,4}",
            query in "(q=[12]|&){0,3}",
        ) {
            let mut problems = Problems::default();
            let services = Services::read([("s.toml", FILE)], &mut problems).unwrap();
            let service = services.iter().next().unwrap();
            let host = HostName::new("s.test").unwrap();
            let headers = Headers::default();
            let head = RequestHead { method: &method, path: &path, query: Some(&query), headers };
            let indexed = select(service, Some(&Rules::new(service)), &host, &head);
            prop_assert_eq!(indexed, select(service, None, &host, &head));
        }
    }
}
