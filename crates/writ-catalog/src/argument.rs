//! Where an operation finds its arguments, as a service file says it, and what a request has there.

use std::collections::BTreeSet;

use writ_core::argument::{ArgumentKind, ArgumentRule, ArgumentSource, Pushed};
use writ_core::config::{Setting, Value, Wrong};
use writ_core::service::{OperationRule, RequestHead, Root, RootField, Wanted};
use writ_core::{Argument, Arguments, Reason};
use writ_gate::limits::ARGUMENT_STRINGS_MAX;

use crate::json::Json;
use crate::push::Push;
use crate::{form, header, query};

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
        let source = source(part, within, &wrong)?;
        if let Some(what) = misfit(&source, kind) {
            return Err(wrong(what));
        }
        Ok(Self(ArgumentRule { source, kind, required }))
    }
}

fn source(part: &str, within: &str, wrong: &impl Fn(&str) -> Wrong) -> Result<ArgumentSource, Wrong> {
    let pointer = || within.parse().map_err(Wrong::content);
    let header = || {
        let named = header::is_readable(within).then(|| within.to_owned());
        named.ok_or_else(|| {
            wrong("its header is not written in lower case, or is one that the relay takes away")
        })
    };
    Ok(match part {
        "query" | "form" if within.is_empty() => {
            return Err(wrong("it names no parameter; hint: as in `query:page integer?`"));
        }
        "query" => ArgumentSource::Query(within.to_owned()),
        "form" => ArgumentSource::Form(within.to_owned()),
        "header" => ArgumentSource::Header(header()?),
        "header-path" => ArgumentSource::HeaderPath(header()?),
        "body" => ArgumentSource::Body(pointer()?),
        "keys" => ArgumentSource::Keys(pointer()?),
        "graphql" => ArgumentSource::Graphql(pointer()?),
        "mcp" => ArgumentSource::Mcp(pointer()?),
        "push" => {
            let part = Pushed::ALL.into_iter().find(|part| part.as_str() == within);
            ArgumentSource::Push(part.ok_or_else(|| wrong("a push has `refs`, `creates` and `deletes`"))?)
        }
        _ => {
            return Err(wrong(
                "its place is none of `query:NAME`, `header:NAME`, `header-path:NAME`, `body:POINTER`, `keys:POINTER`, \
                 `form:NAME`, `graphql:POINTER`, `mcp:POINTER`, `push:refs`",
            ));
        }
    })
}

/// Why nothing of this type is found there.
fn misfit(source: &ArgumentSource, kind: ArgumentKind) -> Option<&'static str> {
    match (source, kind) {
        (ArgumentSource::Query(_), ArgumentKind::Strings) => {
            Some("a query parameter has one value; hint: sets are read from bodies")
        }
        (ArgumentSource::Header(_), ArgumentKind::Strings) => Some("a header has one value"),
        (
            ArgumentSource::HeaderPath(_),
            ArgumentKind::Integer | ArgumentKind::Boolean | ArgumentKind::Strings,
        ) => Some("a path is a `string`"),
        (
            ArgumentSource::Keys(_) | ArgumentSource::Push(_),
            ArgumentKind::String | ArgumentKind::Integer | ArgumentKind::Boolean,
        ) => Some("there are several, so its type is `strings`"),
        _ => None,
    }
}

/// What an operation wants of a part of a request, as a value of configuration: text, `true` or `false`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition(pub(crate) Wanted);

impl Setting for Condition {
    const EXPECTED: &'static str = "text, `true` or `false`";
    const EXAMPLE: &'static str = "\"text\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        match (bool::read(value), value.text()) {
            (Ok(true), _) => Ok(Self(Wanted::Present)),
            (Ok(false), _) => Ok(Self(Wanted::Absent)),
            (Err(_), text) => Ok(Self(Wanted::Value(text?.to_owned()))),
        }
    }
}

/// The only parameters that a query may have, as a value of configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Only(pub(crate) BTreeSet<String>);

impl Setting for Only {
    const EXPECTED: &'static str = "a list of names of query parameters";
    const EXAMPLE: &'static str = "[\"page\"]";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let items =
            value.items().ok_or_else(|| Wrong::content("it is no list of names; hint: `[]` for none"))?;
        items.into_iter().map(|item| item.text().map(str::to_owned)).collect::<Result<_, _>>().map(Self)
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

/// What the body of a request was read as: what its rule needs.
pub(crate) enum Content<'b> {
    /// Not looked at.
    Unread,
    /// A document; `None` if there is no body.
    Json(Option<Json>),
    /// The fields of a form.
    Form(&'b str),
    /// The commands of a push.
    Push(Push),
}

/// The arguments of a rule that its path does not have. `field` finds those of a GraphQL field or of what is asked of an MCP
/// server.
pub(crate) fn read(
    rule: &OperationRule,
    request: &RequestHead<'_>,
    content: &Content<'_>,
    field: impl Fn(&ArgumentRule) -> Result<Option<Argument>, Reason>,
) -> Result<Arguments, Reason> {
    let mut arguments = Arguments::new();
    for (name, wanted) in &rule.arguments {
        let found = match (&wanted.source, content) {
            (ArgumentSource::Query(parameter), _) => query::argument(request.query, parameter, wanted.kind)?,
            (ArgumentSource::Header(name), _) => in_header(request, name, wanted.kind)?,
            (ArgumentSource::HeaderPath(name), _) => header::path(request, name)?.map(Argument::from),
            (ArgumentSource::Body(pointer), Content::Json(body)) => in_body(body.as_ref(), pointer.tokens())?,
            (ArgumentSource::Keys(pointer), Content::Json(body)) => keys(body.as_ref(), pointer.tokens())?,
            (ArgumentSource::Form(name), Content::Form(form)) => form::argument(form, name, wanted.kind)?,
            (ArgumentSource::Push(part), Content::Push(push)) => Some(push.part(*part)),
            (ArgumentSource::Graphql(_) | ArgumentSource::Mcp(_), _) => field(wanted)?,
            // A rule reads one kind of body, which is checked when its file is.
            _ => return Err(Reason::BodyRefused),
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

/// The names of the members of an object.
fn keys(body: Option<&Json>, tokens: &[String]) -> Result<Option<Argument>, Reason> {
    match body.map_or(Ok(None), |body| body.at(tokens))? {
        Some(Json::Object(object)) => Ok(Some(Argument::Strings(object.keys().cloned().collect()))),
        Some(_) => Err(Reason::ArgumentRefused),
        None => Ok(None),
    }
}

fn in_header(request: &RequestHead<'_>, name: &str, kind: ArgumentKind) -> Result<Option<Argument>, Reason> {
    let Some(value) = header::value(request, name)? else { return Ok(None) };
    query::typed(value.into(), kind).map(Some).ok_or(Reason::ArgumentRefused)
}

fn too_many(argument: &Argument) -> bool {
    matches!(argument, Argument::Strings(texts) if texts.len() > ARGUMENT_STRINGS_MAX)
}
