//! Which operation a request is: the first rule that fits.

use std::collections::BTreeMap;
use std::sync::Arc;

use writ_core::service::{OperationRule, PathTemplate, RequestHead};
use writ_core::{Effect, HostName, Operation, OperationName, Protocol, Reason, Service};

use crate::path::{Path, parameter};
use crate::rules::Rules;
use crate::template;

/// The one rule of a service whose connection is one action.
pub(crate) fn connect_rule(name: OperationName) -> OperationRule {
    OperationRule {
        name,
        effect: Effect::Connect,
        methods: Vec::new(),
        path: PathTemplate { text: String::new(), segments: Vec::new() },
        query: BTreeMap::new(),
    }
}

/// The operation of a request at a service. `rules` is the service's index; without one, each rule is tried in turn.
pub(crate) fn operation(
    service: &Service,
    rules: Option<&Rules>,
    host: &HostName,
    request: &RequestHead<'_>,
) -> Result<Operation, Reason> {
    match service.protocol {
        Protocol::Tcp | Protocol::Pass => {
            let rule = service.operations.first().ok_or(Reason::NoOperation)?;
            Ok(Operation { rule: Arc::clone(rule), arguments: BTreeMap::new() })
        }
        Protocol::Https | Protocol::Http => {
            // Agreed upon by all names of the request, and yet it must be one of this service.
            if !service.hosts.iter().any(|pattern| pattern.matches(host)) {
                return Err(Reason::NameMismatch);
            }
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

/// The first of the rules that covers the request.
fn first<'r>(
    rules: impl Iterator<Item = &'r Arc<OperationRule>>,
    path: &Path<'_>,
    request: &RequestHead<'_>,
) -> Result<Operation, Reason> {
    for rule in rules {
        if covers(rule, path, request)? {
            let arguments = template::values(&rule.path, path);
            return Ok(Operation { rule: Arc::clone(rule), arguments });
        }
    }
    // An encoded slash that no rule asks for is a slash to some servers and a letter to others.
    Err(if path.has_encoded_slash() { Reason::AmbiguousRequest } else { Reason::NoOperation })
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
            let head = RequestHead { method: &method, path: &path, query: Some(&query) };
            let indexed = operation(service, Some(&Rules::new(service)), &host, &head);
            prop_assert_eq!(indexed, operation(service, None, &host, &head));
        }
    }
}
