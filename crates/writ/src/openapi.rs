//! A service file from an `OpenAPI` 3 document: operations with their effects and typed arguments, as text for somebody
//! to read. Pure.
//!
//! What the document says is a beginning, not a proof: effects are those of HTTP's methods, and what a template, a schema or a
//! media type has that a service file cannot say is left out and named in a comment. Source: `OpenAPI` Specification 3.0.4 and
//! 3.1.1.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;
use writ_catalog::Services;
use writ_core::config::Problems;
use writ_core::{OperationName, ServiceName};
use writ_gate::limits::ARGUMENTS_MAX;

use crate::drafted::Operation;

/// The methods that an operation may have, and what they do (RFC 9110 section 9.3).
const METHODS: [(&str, &str); 6] = [
    ("get", "read"),
    ("head", "read"),
    ("post", "write"),
    ("put", "write"),
    ("patch", "write"),
    ("delete", "delete"),
];
/// Depth to which references are followed.
const REFERENCES_MAX: usize = 16;
/// A value of these is never recorded.
const SECRETS: [&str; 5] = ["password", "secret", "token", "credential", "api_key"];

/// What the text is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: ServiceName,
    /// Instead of the document's own server.
    pub(crate) host: Option<String>,
}

/// Why there is no file: what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; hint: {hint}")]
pub(crate) struct Unusable {
    what: String,
    hint: &'static str,
}

pub(crate) fn unusable<T>(what: impl Into<String>, hint: &'static str) -> Result<T, Unusable> {
    Err(Unusable { what: what.into(), hint })
}

/// The text of `services/NAME.toml`.
pub(crate) fn service_file(document: &Value, wanted: &Wanted) -> Result<String, Unusable> {
    let version = document.get("openapi").and_then(Value::as_str).unwrap_or_default();
    if !version.starts_with("3.") {
        return unusable("it is no OpenAPI 3 document", "convert an older one first");
    }
    let server = Server::of(document, wanted.host.as_deref())?;
    let name = wanted.name.as_str();
    let title = document.pointer("/info/title").and_then(Value::as_str).unwrap_or(name);
    let mut text = format!(
        "# {}: made from its OpenAPI document. Read it before you use it: effects are those of HTTP's methods.\n",
        line(title)
    );
    put(&mut text, &format!("name = {}", quoted(name)));
    put(&mut text, &format!("hosts = [{}]", quoted(&server.host)));
    put(&mut text, &format!("ports = [{}]", server.port));
    put(&mut text, &format!("protocol = {}", quoted(server.protocol)));
    if let Some(place) = credential(document) {
        put(
            &mut text,
            &format!("\n[credential]\nsecret = {}\nplace = {place}", quoted(&format!("{name}-key"))),
        );
    }
    let mut left_out = Vec::new();
    for operation in operations(document, name, &server.base, &mut left_out) {
        text.push('\n');
        operation.write(&mut text);
    }
    if !left_out.is_empty() {
        put(&mut text, "\n# Left out, because a service file cannot say it:");
        for what in &left_out {
            put(&mut text, &format!("# {what}"));
        }
    }
    checked(name, text)
}

/// The text, if it is a service file.
pub(crate) fn checked(name: &str, text: String) -> Result<String, Unusable> {
    let mut problems = Problems::default();
    let file = format!("{name}.toml");
    if Services::read([(file.as_str(), text.as_str())], &mut problems).is_none() {
        return unusable(format!("what came of it is no service file: {problems}"), "report it");
    }
    Ok(text)
}

pub(crate) fn put(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    writeln!(text, "{line}").unwrap_or_default();
}

pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// One line of plain text, for a comment.
pub(crate) fn line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(100)
        .collect()
}

/// Where the service is.
struct Server {
    host: String,
    port: u16,
    protocol: &'static str,
    /// What each path begins with.
    base: String,
}

impl Server {
    fn of(document: &Value, host: Option<&str>) -> Result<Self, Unusable> {
        let url = document.pointer("/servers/0/url").and_then(Value::as_str).unwrap_or("/");
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        let (authority, path) = match rest.split_once('/') {
            _ if rest.starts_with('/') => ("", rest),
            Some((authority, path)) => (authority, path),
            None => (rest, ""),
        };
        let authority = host.unwrap_or(authority);
        let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
        let protocol = if scheme == "http" { "http" } else { "https" };
        let standard = if protocol == "http" { 80 } else { 443 };
        let port = if port.is_empty() { Ok(standard) } else { port.parse() };
        let (Ok(port), false) = (port, name.is_empty() || authority.contains('{')) else {
            return unusable(
                "it does not say at which host the service is",
                "name it: `--host api.example.com`",
            );
        };
        let base = path.trim_matches('/');
        let base = if base.is_empty() { String::new() } else { format!("/{base}") };
        Ok(Self { host: name.to_owned(), port, protocol, base })
    }
}

/// Where the credential goes: the first way that the document names.
fn credential(document: &Value) -> Option<String> {
    let schemes = document.pointer("/components/securitySchemes")?.as_object()?;
    schemes.values().find_map(|scheme| {
        let word = |key: &str| scheme.get(key).and_then(Value::as_str).unwrap_or_default();
        match (word("type"), word("scheme").to_ascii_lowercase().as_str(), word("in")) {
            ("http", "bearer", _) | ("oauth2" | "openIdConnect", ..) => Some("\"bearer\"".to_owned()),
            ("http", "basic", _) => Some("{ basic = \"user\" }".to_owned()),
            ("apiKey", _, "header") => Some(format!("{{ header = {} }}", quoted(word("name")))),
            ("apiKey", _, "query") => Some(format!("{{ query = {} }}", quoted(word("name")))),
            _ => None,
        }
    })
}

/// All operations, literal paths before templates: the first rule that fits a request is the one.
fn operations(document: &Value, service: &str, base: &str, left_out: &mut Vec<String>) -> Vec<Operation> {
    let paths = document.get("paths").and_then(Value::as_object);
    let mut paths: Vec<_> = paths.into_iter().flatten().collect();
    let is_template = |path: &str| path.split('/').map(|part| part.contains('{')).collect::<Vec<_>>();
    paths.sort_by_key(|(path, _)| (is_template(path), (*path).clone()));
    let (mut all, mut names) = (Vec::new(), BTreeSet::new());
    for (path, item) in paths {
        let Some(template) = template(&format!("{base}{path}")) else {
            left_out.push(format!("{path}: its path"));
            continue;
        };
        for (method, effect) in METHODS {
            let Some(operation) = item.get(method) else { continue };
            let name = name(service, operation, (method, path), &mut names);
            let mut arguments = in_query(document, item, operation);
            arguments.extend(in_body(document, operation, &format!("{method} {path}"), left_out));
            let taken = arguments_of(&template);
            arguments.retain(|name, _| !taken.contains(name));
            let summary = operation.get("summary").and_then(Value::as_str).map(line).unwrap_or_default();
            let arguments = arguments.into_iter().take(ARGUMENTS_MAX).collect();
            let (method, path) = (method.to_ascii_uppercase(), template.clone());
            all.push(Operation {
                summary,
                name,
                effect,
                method: Some(method),
                path,
                arguments,
                ..Operation::default()
            });
        }
    }
    all
}

/// The path with its arguments named as a service file names them. `None` where one is not a whole segment.
fn template(path: &str) -> Option<String> {
    let segment = |part: &str| match part.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        Some((name, suffix)) => {
            let whole = !suffix.contains(['{', '}']);
            whole.then(|| format!("{{{}}}{suffix}", word(name, '_')))
        }
        None => (!part.contains(['{', '}'])).then(|| part.to_owned()),
    };
    let parts: Option<Vec<String>> = path.split('/').map(segment).collect();
    parts.map(|parts| parts.join("/"))
}

fn arguments_of(template: &str) -> BTreeSet<String> {
    let names = template.split('/').filter_map(|part| part.strip_prefix('{')?.split_once('}'));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// Its own name in words of a-z and 0-9, or what it does; never one that is taken.
fn name(
    service: &str,
    operation: &Value,
    (method, path): (&str, &str),
    taken: &mut BTreeSet<String>,
) -> String {
    let own = operation.get("operationId").and_then(Value::as_str).map(|id| word(id, '-'));
    let what = own.filter(|own| !own.is_empty()).unwrap_or_else(|| word(&format!("{method} {path}"), '-'));
    let numbered = (2..).map(|n: u32| format!("{what}-{n}"));
    let free =
        |name: &String| !taken.contains(name) && OperationName::new(&format!("{service}/{name}")).is_ok();
    let name = std::iter::once(what.clone()).chain(numbered.take(1_000)).find(free).unwrap_or(what);
    taken.insert(name.clone());
    name
}

/// `listPets` as `list-pets`, with this between words.
pub(crate) fn word(text: &str, between: char) -> String {
    let (mut out, mut lower) = (String::new(), false);
    for c in text.chars() {
        if c.is_ascii_uppercase() && lower {
            out.push(between);
        }
        lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.ends_with(between) && !out.is_empty() {
            out.push(between);
        }
    }
    out.trim_end_matches(between).to_owned()
}

/// What a reference leads to within the document.
fn resolved<'d>(document: &'d Value, mut value: &'d Value) -> Option<&'d Value> {
    for _ in 0..REFERENCES_MAX {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => value = document.pointer(reference.strip_prefix('#')?)?,
            None => return Some(value),
        }
    }
    None
}

/// The type of an argument for this schema, where it has exactly one.
pub(crate) fn kind(document: &Value, schema: &Value) -> Option<&'static str> {
    let schema = resolved(document, schema)?;
    let word = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    if schema.get("nullable").and_then(Value::as_bool) == Some(true)
        || ["binary", "byte", "password"].contains(&word("format"))
    {
        return None;
    }
    match word("type") {
        "string" => Some("string"),
        "integer" => Some("integer"),
        "boolean" => Some("boolean"),
        "array" => (kind(document, schema.get("items")?)? == "string").then_some("strings"),
        _ => None,
    }
}

pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRETS.iter().any(|secret| name.contains(secret))
}

fn in_query(document: &Value, item: &Value, operation: &Value) -> BTreeMap<String, String> {
    let lists = [item, operation].map(|of| of.get("parameters").and_then(Value::as_array));
    let parameters = lists.into_iter().flatten().flatten().filter_map(|one| resolved(document, one));
    let argument = |parameter: &Value| {
        let name = parameter.get("name")?.as_str()?;
        let is_query = parameter.get("in")?.as_str()? == "query" && !is_secret(name);
        let kind = kind(document, parameter.get("schema")?).filter(|kind| *kind != "strings")?;
        let mark = if parameter.get("required").and_then(Value::as_bool) == Some(true) { "" } else { "?" };
        is_query.then(|| (word(name, '_'), format!("query:{name} {kind}{mark}")))
    };
    parameters.filter_map(argument).collect()
}

/// The fields of a JSON body, if that is the only kind of body there is: others could not be read.
fn in_body(
    document: &Value,
    operation: &Value,
    what: &str,
    left_out: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let body = operation.get("requestBody").and_then(|body| resolved(document, body));
    let Some(content) = body.and_then(|body| body.get("content")?.as_object()) else {
        return BTreeMap::new();
    };
    let schema = content.get("application/json").and_then(|json| resolved(document, json.get("schema")?));
    let Some(schema) = schema.filter(|_| content.len() == 1) else {
        left_out.push(format!("{what}: arguments of its body, which need not be JSON"));
        return BTreeMap::new();
    };
    let must = body.and_then(|body| body.get("required")).and_then(Value::as_bool) == Some(true);
    let required = schema.get("required").and_then(Value::as_array);
    let is_required =
        |name: &str| must && required.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(name)));
    let argument = |(name, schema): (&String, &Value)| {
        let kind = kind(document, schema).filter(|_| !is_secret(name))?;
        let mark = if is_required(name) { "" } else { "?" };
        let token = name.replace('~', "~0").replace('/', "~1");
        Some((word(name, '_'), format!("body:/{token} {kind}{mark}")))
    };
    schema.get("properties").and_then(Value::as_object).into_iter().flatten().filter_map(argument).collect()
}

#[cfg(test)]
mod tests;
