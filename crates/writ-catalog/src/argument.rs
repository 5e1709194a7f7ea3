//! Where an operation finds its arguments, as a service file says it, and what a request has there.

use writ_core::argument::{ArgumentKind, ArgumentRule, ArgumentSource};
use writ_core::config::{Setting, Value, Wrong};
use writ_core::service::{OperationRule, RequestHead, Root, RootField};
use writ_core::{Argument, Arguments, Reason};
use writ_gate::limits::ARGUMENT_STRINGS_MAX;

use crate::json::Json;
use crate::query;

/// An argument as a value of configuration: `body:/title string`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared(pub(crate) ArgumentRule);

impl Setting for Declared {
    const EXPECTED: &'static str = "an argument";
    const EXAMPLE: &'static str = "\"body:/title string\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let text = value.text()?;
        let wrong = |what: &str| Wrong::content(format!("`{text}` is not an argument: {what}"));
        let (place, kind) =
            text.rsplit_once(' ').ok_or_else(|| wrong("it is a place, a space and a type"))?;
        let (word, required) = kind.strip_suffix('?').map_or((kind, true), |word| (word, false));
        let kind = ArgumentKind::ALL.into_iter().find(|kind| kind.as_str() == word);
        let kind = kind.ok_or_else(|| {
            wrong("its type is none of `string`, `integer`, `boolean`, `strings`; hint: with `?` after it if it may be absent")
        })?;
        let (part, within) = place.split_once(':').unwrap_or((place, ""));
        let source = match part {
            "query" if within.is_empty() => {
                return Err(wrong("it names no parameter; hint: as in `query:page integer?`"));
            }
            "query" => ArgumentSource::Query(within.to_owned()),
            "body" => ArgumentSource::Body(within.parse().map_err(Wrong::content)?),
            "graphql" => ArgumentSource::Graphql(within.parse().map_err(Wrong::content)?),
            "mcp" => ArgumentSource::Mcp(within.parse().map_err(Wrong::content)?),
            _ => {
                return Err(wrong(
                    "its place is none of `query:NAME`, `body:POINTER`, `graphql:POINTER`, `mcp:POINTER`",
                ));
            }
        };
        if kind == ArgumentKind::Strings && matches!(source, ArgumentSource::Query(_)) {
            return Err(wrong("a query parameter has one value; hint: sets are read from bodies"));
        }
        Ok(Self(ArgumentRule { source, kind, required }))
    }
}

/// A root field as a value of configuration: `mutation createIssue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field(pub(crate) RootField);

impl Setting for Field {
    const EXPECTED: &'static str = "a GraphQL root field";
    const EXAMPLE: &'static str = "\"mutation createIssue\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let text = value.text()?;
        let wrong =
            || Wrong::content(format!("`{text}` is not `query` or `mutation` and the name of a field"));
        let (root, name) = text.split_once(' ').ok_or_else(wrong)?;
        let root = [Root::Query, Root::Mutation].into_iter().find(|known| known.as_str() == root);
        let start = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !start || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(wrong());
        }
        Ok(Self(RootField { root: root.ok_or_else(wrong)?, name: name.to_owned() }))
    }
}

/// The arguments of a rule that its path does not have. `body` is the document, where the rule reads one; `field` finds
/// those of a GraphQL field or of what is asked of an MCP server.
pub(crate) fn read(
    rule: &OperationRule,
    request: &RequestHead<'_>,
    body: Option<&Json>,
    field: impl Fn(&ArgumentRule) -> Result<Option<Argument>, Reason>,
) -> Result<Arguments, Reason> {
    let mut arguments = Arguments::new();
    for (name, wanted) in &rule.arguments {
        let found = match &wanted.source {
            ArgumentSource::Query(parameter) => query::argument(request.query, parameter, wanted.kind)?,
            ArgumentSource::Body(pointer) => in_body(body, pointer.tokens())?,
            ArgumentSource::Graphql(_) | ArgumentSource::Mcp(_) => field(wanted)?,
        };
        match found {
            Some(argument) if argument.kind() == wanted.kind && !too_many(&argument) => {
                arguments.insert(name.clone(), argument);
            }
            None if !wanted.required => {}
            Some(_) | None => return Err(Reason::ArgumentRefused),
        }
    }
    Ok(arguments)
}

fn in_body(body: Option<&Json>, tokens: &[String]) -> Result<Option<Argument>, Reason> {
    match body.map_or(Ok(None), |body| body.at(tokens))? {
        Some(value) => value.argument().map(Some).ok_or(Reason::ArgumentRefused),
        None => Ok(None),
    }
}

fn too_many(argument: &Argument) -> bool {
    matches!(argument, Argument::Strings(texts) if texts.len() > ARGUMENT_STRINGS_MAX)
}
