//! Which operation a request is: the first rule that fits.

use std::collections::BTreeMap;
use std::sync::Arc;

use writ_core::service::{OperationRule, PathTemplate, RequestHead};
use writ_core::{Effect, HostName, Operation, OperationName, Protocol, Reason, Service};

use crate::path::{Path, parameter};
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

/// The operation of a request at a service.
pub(crate) fn operation(
    service: &Service,
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
            http_operation(service, request)
        }
    }
}

fn http_operation(service: &Service, request: &RequestHead<'_>) -> Result<Operation, Reason> {
    let path = Path::parse(request.path)?;
    for rule in &service.operations {
        if covers(rule, &path, request)? {
            let arguments = template::values(&rule.path, &path);
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
