//! Which operation a request is: the first rule that fits its head, with the arguments that its head and body carry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use writ_core::argument::{ArgumentKind, ArgumentRule, ArgumentSource};
use writ_core::service::{
    Conditions, HostPattern, OperationRule, PathTemplate, RequestHead, Root, Selection, Wanted,
};
use writ_core::{Argument, Arguments, Effect, HostName, Operation, OperationName, Protocol, Reason, Service};

use crate::argument::Content;
use crate::graphql::{self, Executed};
use crate::path::Path;
use crate::push::Push;
use crate::query::{pairs, parameter};
use crate::rules::Rules;
use crate::{argument, content, form, header, mcp, method, template};

/// The one rule of a service whose connection is one action.
pub(crate) fn connect_rule(name: OperationName) -> OperationRule {
    OperationRule {
        name,
        effect: Effect::Connect,
        methods: Vec::new(),
        path: PathTemplate { text: String::new(), segments: Vec::new() },
        when: Conditions::default(),
        arguments: BTreeMap::new(),
        graphql: None,
        labels: BTreeSet::new(),
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
            let mut path = Path::parse(request.path)?;
            if service.virtual_hosts {
                path = path.beginning_with(label(service, host));
            }
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

/// The label that a pattern of the service stands for in this host; `None` if the host is listed itself.
fn label<'h>(service: &Service, host: &'h HostName) -> Option<&'h str> {
    let listed =
        service.hosts.iter().any(|pattern| matches!(pattern, HostPattern::Exact(name) if name == host));
    host.as_str().split_once('.').map(|(label, _)| label).filter(|_| !listed)
}

/// Where in a request it stands which of the operations of one path it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Head,
    Graphql,
    Mcp,
    Form,
}

impl Told {
    fn of(rule: &OperationRule) -> Self {
        match rule {
            OperationRule { graphql: Some(_), .. } => Self::Graphql,
            OperationRule { mcp: Some(_), .. } => Self::Mcp,
            OperationRule { when: Conditions { form, .. }, .. } if !form.is_empty() => Self::Form,
            OperationRule { .. } => Self::Head,
        }
    }
}

/// The first of the rules that covers the request's head. If that is told by its body, all the others that are told so with it:
/// what comes to such a path is one of them, or nothing.
fn first<'r>(
    rules: impl Iterator<Item = &'r Arc<OperationRule>>,
    path: &Path<'_>,
    request: &RequestHead<'_>,
) -> Result<Selection, Reason> {
    let mut candidates: Vec<Operation> = Vec::new();
    for rule in rules {
        let told = Told::of(rule);
        let wanted = candidates.first().is_none_or(|first| Told::of(&first.rule) == told);
        if wanted && covers(rule, path, request)? {
            candidates
                .push(Operation { rule: Arc::clone(rule), arguments: template::values(&rule.path, path) });
            if told == Told::Head {
                break;
            }
        }
    }
    let Some(found) = candidates.first() else {
        // An encoded slash that no rule asks for is a slash to some servers and a letter to others.
        let encoded = path.has_encoded_slash();
        return Err(if encoded { Reason::AmbiguousRequest } else { Reason::NoOperation });
    };
    // With `GET` a form is the query, and an MCP server is asked for nothing.
    let may_lack = found.rule.reads_form() || found.rule.mcp.is_some();
    let has_body = !may_lack || request.method == "POST";
    let reads_body = found.rule.reads_body() && has_body || method::may_be_form(request);
    Ok(Selection { candidates, reads_body })
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
    let rule = Arc::clone(&candidates.first().ok_or(Reason::NoOperation)?.rule);
    if reads_body && method::may_be_form(request) && !rule.reads_push() {
        content::plain(request, body)?;
        method::in_form(body, request.method)?;
    }
    let content = match Told::of(&rule) {
        Told::Graphql => {
            graphql::in_body_only(request)?;
            let document = content::json(request, body)?.ok_or(Reason::BodyRefused)?;
            return executes(candidates.into_iter(), request, &Executed::read(&document)?);
        }
        Told::Mcp => {
            let document = if reads_body { content::json(request, body)? } else { None };
            return mcp::operation(candidates, request, document.as_ref());
        }
        Told::Form => Content::Form(form::of(request, body)?),
        Told::Head if rule.reads_form() => Content::Form(form::of(request, body)?),
        Told::Head if rule.reads_push() => Content::Push(Push::read(request, body)?),
        Told::Head if rule.reads_body() => Content::Json(content::json(request, body)?),
        Told::Head => Content::Unread,
    };
    let found = fitting(candidates, &content)?;
    let read = argument::read(&found.rule, request, &content, |_| Ok(None))?;
    Ok(with(found, read))
}

/// The first whose fields the form has; the only one, where nothing but the head tells.
fn fitting(candidates: Vec<Operation>, content: &Content<'_>) -> Result<Operation, Reason> {
    for candidate in candidates {
        let fits = match content {
            Content::Form(form) => form::fits(&candidate.rule, form)?,
            Content::Unread | Content::Json(_) | Content::Push(_) => true,
        };
        if fits {
            return Ok(candidate);
        }
    }
    Err(Reason::NoOperation)
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
        let read = argument::read(&found.rule, request, &Content::Unread, in_field)?;
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
    for (name, wanted) in &rule.when.headers {
        if !is_met(wanted, header::value(request, name)?) {
            return Ok(false);
        }
    }
    for (name, wanted) in &rule.when.query {
        if !is_met(wanted, parameter(request.query, name)?.as_deref()) {
            return Ok(false);
        }
    }
    Ok(rule.when.parameters.as_ref().is_none_or(|only| has_only(rule, request.query, only)))
}

fn is_met(wanted: &Wanted, found: Option<&str>) -> bool {
    match wanted {
        Wanted::Value(value) => found == Some(value),
        Wanted::Present => found.is_some(),
        Wanted::Absent => found.is_none(),
    }
}

/// Whether a query has no other parameters than these, those that the rule wants and its arguments.
fn has_only(rule: &OperationRule, query: Option<&str>, only: &BTreeSet<String>) -> bool {
    let read = |name: &str| {
        let is = |rule: &ArgumentRule| matches!(&rule.source, ArgumentSource::Query(parameter) if parameter == name);
        rule.when.query.contains_key(name) || rule.arguments.values().any(is)
    };
    let known = |(name, value): (String, String)| {
        only.contains(&name) || read(&name) || name.is_empty() && value.is_empty()
    };
    pairs(query.unwrap_or_default().as_bytes()).all(known)
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
            { name = "o", effect = "read", path = "/b", methods = ["PUT"], query = { q = false }, parameters = [] },
            { name = "p", effect = "read", path = "/b", methods = ["PUT"], query = { q = true }, parameters = [] },
            { name = "q", effect = "read", path = "/c", methods = ["GET", "POST"], form = { A = "q" } },
            { name = "r", effect = "read", path = "/c", methods = ["GET", "POST"], form = { A = "r" } },
        ]
    "#;

    proptest! {
        #[test]
        fn the_index_finds_what_trying_each_rule_finds(
            method in "GET|PUT|POST|DELETE",
            path in "(/(a|b|c|a\\.b|%61|c%2fd|%2F|\\.\\.|)){1,4}",
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
