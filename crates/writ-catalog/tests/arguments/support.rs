//! A forge with arguments of every type, and a GraphQL path.

use writ_catalog::{CatalogStore, Services};
use writ_core::config::Problems;
use writ_core::service::{Headers, RequestHead};
use writ_core::{HostName, Operation, Reason};
use writ_gate::{Catalog as _, Destination};

const FORGE: &str = r#"
name = "forge"
hosts = ["forge.test"]
ports = [443]
[[operation]]
name = "issues.list"
effect = "read"
methods = ["GET"]
path = "/repos/{owner}/issues"
arguments = { page = "query:page integer?", closed = "query:closed boolean?" }
[[operation]]
name = "issues.create"
effect = "write"
methods = ["POST"]
path = "/repos/{owner}/issues"
[operation.arguments]
title = "body:/title string"
draft = "body:/draft boolean?"
labels = "body:/labels strings?"
milestone = "body:/milestone/number integer?"
notify = "query:notify boolean?"
[[operation]]
name = "issues.delete"
effect = "delete"
methods = ["DELETE"]
path = "/repos/{owner}/issues"
[[operation]]
name = "form"
effect = "write"
methods = ["POST"]
path = "/form"
[[operation]]
name = "raw"
effect = "write"
methods = ["PUT"]
path = "/raw"
[[operation]]
name = "graph.read"
effect = "read"
methods = ["POST"]
path = "/graphql"
graphql = "query viewer"
[[operation]]
name = "graph.read"
effect = "read"
methods = ["POST"]
path = "/graphql"
graphql = "query repository"
[[operation]]
name = "graph.search"
effect = "read"
methods = ["POST"]
path = "/graphql"
graphql = "query search"
arguments = { text = "graphql:/query string", kind = "graphql:/type string?", first = "graphql:/first integer?" }
[[operation]]
name = "graph.create"
effect = "write"
methods = ["POST"]
path = "/graphql"
graphql = "mutation createIssue"
[operation.arguments]
title = "graphql:/input/title string"
draft = "graphql:/input/draft boolean?"
labels = "graphql:/input/labelIds strings?"
[[operation]]
name = "graph.delete"
effect = "delete"
methods = ["POST"]
path = "/graphql"
graphql = "mutation deleteRef"
"#;

pub(crate) const JSON: (&str, &[u8]) = ("content-type", b"application/json");

/// The operation that a request is, by the catalog alone.
pub(crate) fn ask_with(
    method: &str,
    target: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
) -> Result<Operation, Reason> {
    let mut problems = Problems::default();
    let services =
        Services::read([("forge.toml", FORGE)], &mut problems).unwrap_or_else(|| panic!("{problems}"));
    let catalog = CatalogStore::new(services);
    let host = HostName::new("forge.test").unwrap();
    let destination = Destination { address: ([198, 18, 0, 1], 443).into(), name: Some(host.clone()) };
    let service = catalog.service(&destination)?;
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let head = RequestHead { method, path, query, headers: Headers(headers) };
    let selected = catalog.select(&service, &host, &head)?;
    let body = selected.reads_body.then_some(body);
    catalog.operation(selected, &head, body)
}

/// Its name, and its arguments as JSON.
pub(crate) fn shown(operation: &Operation) -> String {
    let arguments: Vec<String> =
        operation.arguments.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    format!("{}{}", operation.rule.name, arguments.concat())
}
