//! GraphQL over HTTP: which root fields a request asks for, and with what arguments (GraphQL specification, sections 2, 6.1
//! and 6.4; GraphQL over HTTP, section 5).
//!
//! A path carries every operation of such a service, so the document itself must be read. Whatever executes it decides by
//! field names: aliases are passed over, fragments are followed, and a field that a directive may leave out counts as
//! there. A document that is not known here (a persisted one), a batch, and anything that a server could select
//! differently is refused.

use std::collections::{HashMap, HashSet};

use apollo_parser::cst::{self, CstNode};
use apollo_parser::{Parser, SyntaxTree};
use writ_core::argument::Pointer;
use writ_core::service::{RequestHead, Root};
use writ_core::{Argument, Reason};
use writ_gate::limits::{GRAPHQL_DEPTH_MAX, GRAPHQL_TOKENS_MAX};

use crate::json::{Json, Object, index};
use crate::query::{alike, pairs};

/// What a request may hold; each is also a parameter that some servers read from the query instead.
const PARAMETERS: [&str; 4] = ["query", "operationName", "variables", "extensions"];

/// The operation that a request has executed.
pub(crate) struct Executed<'j> {
    pub(crate) root: Root,
    /// Each time that a field of the root is asked for.
    pub(crate) fields: Vec<Field>,
    variables: Variables<'j>,
}

/// A field of the root, asked for.
pub(crate) struct Field {
    pub(crate) name: String,
    arguments: HashMap<String, cst::Value>,
}

struct Variables<'j> {
    given: Option<&'j Object>,
    /// Of each that is declared, the value that it has when none is given.
    declared: HashMap<String, Option<cst::Value>>,
}

/// Refuses a head with parameters that some servers read before those of the body.
pub(crate) fn in_body_only(request: &RequestHead<'_>) -> Result<(), Reason> {
    let named = |(key, _): (String, String)| PARAMETERS.iter().any(|parameter| alike(&key, parameter));
    let query = request.query.unwrap_or_default();
    if pairs(query.as_bytes()).any(named) { Err(Reason::AmbiguousRequest) } else { Ok(()) }
}

impl<'j> Executed<'j> {
    /// Reads the body of a request.
    pub(crate) fn read(body: &'j Json) -> Result<Self, Reason> {
        let request = match body {
            Json::Object(request) => request,
            Json::List(_) => return Err(Reason::SeveralOperations),
            Json::Null | Json::Boolean(_) | Json::Integer(_) | Json::Number | Json::Text(_) => {
                return Err(Reason::BodyRefused);
            }
        };
        if request.keys().any(|key| !PARAMETERS.contains(&key.as_str())) {
            return Err(Reason::BodyRefused);
        }
        let Some(Json::Text(text)) = request.get("query") else { return Err(Reason::BodyRefused) };
        let name = match request.get("operationName") {
            None | Some(Json::Null) => None,
            Some(Json::Text(name)) if !name.is_empty() => Some(name.as_str()),
            Some(_) => return Err(Reason::BodyRefused),
        };
        if object(request.get("extensions"))?
            .is_some_and(|it| it.keys().any(|key| alike(key, "persistedQuery")))
        {
            return Err(Reason::BodyRefused);
        }
        let given = object(request.get("variables"))?;
        let document = Document::read(text)?;
        let operation = document.select(name)?;
        let root = root(operation)?;
        let variables = Variables { given, declared: declared(operation)? };
        Ok(Self { root, fields: document.root_fields(operation)?, variables })
    }

    /// An argument of a field; the first token of the pointer is its name.
    pub(crate) fn argument(&self, field: &Field, pointer: &Pointer) -> Result<Option<Argument>, Reason> {
        let Some((name, tokens)) = pointer.tokens().split_first() else { return Ok(None) };
        match field.arguments.get(name) {
            Some(value) => self.variables.at(value, tokens),
            None => Ok(None),
        }
    }
}

/// An object that may be left out.
fn object(value: Option<&Json>) -> Result<Option<&Object>, Reason> {
    match value {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Object(object)) => Ok(Some(object)),
        Some(_) => Err(Reason::BodyRefused),
    }
}

/// A parsed document: its operations, and its fragments by name.
struct Document {
    operations: Vec<cst::OperationDefinition>,
    fragments: HashMap<String, cst::FragmentDefinition>,
}

impl Document {
    fn read(text: &str) -> Result<Self, Reason> {
        let parser = Parser::new(text).recursion_limit(GRAPHQL_DEPTH_MAX).token_limit(GRAPHQL_TOKENS_MAX);
        let tree: SyntaxTree = parser.parse();
        if tree.errors().len() > 0 {
            return Err(Reason::BodyRefused);
        }
        let (mut operations, mut fragments) = (Vec::new(), HashMap::new());
        for definition in tree.document().definitions() {
            if let cst::Definition::OperationDefinition(operation) = definition {
                operations.push(operation);
            } else if let cst::Definition::FragmentDefinition(fragment) = definition {
                let name = fragment.fragment_name().and_then(|name| text_of(name.name()));
                if fragments.insert(name.ok_or(Reason::BodyRefused)?, fragment).is_some() {
                    return Err(Reason::AmbiguousRequest);
                }
            } else {
                return Err(Reason::BodyRefused);
            }
        }
        Ok(Self { operations, fragments })
    }

    /// The operation that is executed (`GetOperation`, section 6.1). Names must tell them apart.
    fn select(&self, name: Option<&str>) -> Result<&cst::OperationDefinition, Reason> {
        let mut seen = HashSet::new();
        let all_told_apart = self.operations.iter().all(|operation| seen.insert(text_of(operation.name())));
        if !all_told_apart || self.operations.len() > 1 && seen.contains(&None) {
            return Err(Reason::AmbiguousRequest);
        }
        match (name, &*self.operations) {
            (None, [only]) => Ok(only),
            (None, []) => Err(Reason::BodyRefused),
            (None, _) => Err(Reason::AmbiguousRequest),
            (Some(name), all) => all
                .iter()
                .find(|operation| text_of(operation.name()).as_deref() == Some(name))
                .ok_or(Reason::BodyRefused),
        }
    }

    /// Every field of the root that the operation names, itself or through fragments; but for `__typename`, which is told
    /// by the schema alone.
    fn root_fields(&self, operation: &cst::OperationDefinition) -> Result<Vec<Field>, Reason> {
        let (mut fields, mut followed) = (Vec::new(), HashSet::new());
        let mut sets = vec![operation.selection_set()];
        while let Some(set) = sets.pop() {
            for selection in set.ok_or(Reason::BodyRefused)?.selections() {
                match selection {
                    cst::Selection::Field(field) => {
                        let name = text_of(field.name()).ok_or(Reason::BodyRefused)?;
                        if name != "__typename" {
                            fields.push(Field { name, arguments: arguments(&field)? });
                        }
                    }
                    cst::Selection::InlineFragment(fragment) => sets.push(fragment.selection_set()),
                    cst::Selection::FragmentSpread(spread) => {
                        let name = spread.fragment_name().and_then(|name| text_of(name.name()));
                        let name = name.ok_or(Reason::BodyRefused)?;
                        let fragment = self.fragments.get(&name).ok_or(Reason::BodyRefused)?;
                        // Spread twice, or within itself, it names nothing more.
                        if followed.insert(name) {
                            sets.push(fragment.selection_set());
                        }
                    }
                }
            }
        }
        Ok(fields)
    }
}

/// The root that an operation asks; a document without the word is a query.
fn root(operation: &cst::OperationDefinition) -> Result<Root, Reason> {
    match operation.operation_type() {
        None => Ok(Root::Query),
        Some(kind) if kind.query_token().is_some() => Ok(Root::Query),
        Some(kind) if kind.mutation_token().is_some() => Ok(Root::Mutation),
        Some(_) => Err(Reason::NoOperation),
    }
}

fn declared(operation: &cst::OperationDefinition) -> Result<HashMap<String, Option<cst::Value>>, Reason> {
    let mut declared = HashMap::new();
    let definitions = operation.variable_definitions();
    for definition in definitions.iter().flat_map(cst::VariableDefinitions::variable_definitions) {
        let name = definition.variable().and_then(|variable| text_of(variable.name()));
        let default = definition.default_value().and_then(|default| default.value());
        if declared.insert(name.ok_or(Reason::BodyRefused)?, default).is_some() {
            return Err(Reason::AmbiguousRequest);
        }
    }
    Ok(declared)
}

fn arguments(field: &cst::Field) -> Result<HashMap<String, cst::Value>, Reason> {
    let mut arguments = HashMap::new();
    for argument in field.arguments().iter().flat_map(cst::Arguments::arguments) {
        let (name, value) = text_of(argument.name()).zip(argument.value()).ok_or(Reason::BodyRefused)?;
        if arguments.insert(name, value).is_some() {
            return Err(Reason::AmbiguousRequest);
        }
    }
    Ok(arguments)
}

fn text_of(name: Option<cst::Name>) -> Option<String> {
    name.map(|name| name.text().to_string())
}

impl Variables<'_> {
    /// The argument that the tokens lead to from a value of the document.
    fn at(&self, value: &cst::Value, tokens: &[String]) -> Result<Option<Argument>, Reason> {
        if let cst::Value::Variable(variable) = value {
            return match self.variable(variable)? {
                Given::Json(json) => match json.at(tokens)? {
                    Some(found) => found.argument().map(Some).ok_or(Reason::ArgumentRefused),
                    None => Ok(None),
                },
                // What a variable has by default holds no variables.
                Given::Default(value) => self.at(value, tokens),
                Given::Nothing => Ok(None),
            };
        }
        let Some((token, rest)) = tokens.split_first() else { return self.literal(value).map(Some) };
        let next = match value {
            cst::Value::ObjectValue(object) => member(object, token)?,
            cst::Value::ListValue(list) => index(token).and_then(|n| list.values().nth(n)),
            cst::Value::Variable(_)
            | cst::Value::StringValue(_)
            | cst::Value::FloatValue(_)
            | cst::Value::IntValue(_)
            | cst::Value::BooleanValue(_)
            | cst::Value::NullValue(_)
            | cst::Value::EnumValue(_) => return Err(Reason::ArgumentRefused),
        };
        next.map_or(Ok(None), |next| self.at(&next, rest))
    }

    fn literal(&self, value: &cst::Value) -> Result<Argument, Reason> {
        let argument = match value {
            cst::Value::StringValue(text) => Some(String::from(text).into()),
            cst::Value::EnumValue(word) => text_of(word.name()).map(Argument::from),
            cst::Value::BooleanValue(value) => Some(Argument::Boolean(value.true_token().is_some())),
            cst::Value::IntValue(number) => {
                number.source_string().trim().parse().ok().and_then(Argument::integer)
            }
            cst::Value::ListValue(list) => return self.texts(list),
            cst::Value::Variable(_)
            | cst::Value::FloatValue(_)
            | cst::Value::NullValue(_)
            | cst::Value::ObjectValue(_) => None,
        };
        let whole = |argument: &Argument| argument.as_str().is_none_or(|text| !text.contains('\0'));
        argument.filter(whole).ok_or(Reason::ArgumentRefused)
    }

    fn texts(&self, list: &cst::ListValue) -> Result<Argument, Reason> {
        let text = |value: cst::Value| match self.at(&value, &[])? {
            Some(Argument::String(text)) => Ok(text),
            Some(Argument::Integer(_) | Argument::Boolean(_) | Argument::Strings(_)) | None => {
                Err(Reason::ArgumentRefused)
            }
        };
        list.values().map(text).collect::<Result<_, _>>().map(Argument::Strings)
    }

    fn variable(&self, variable: &cst::Variable) -> Result<Given<'_>, Reason> {
        let name = text_of(variable.name()).ok_or(Reason::BodyRefused)?;
        let default = self.declared.get(&name).ok_or(Reason::BodyRefused)?;
        match (self.given.and_then(|given| given.get(&name)), default) {
            (Some(json), _) => Ok(Given::Json(json)),
            (None, Some(default)) => Ok(Given::Default(default)),
            (None, None) => Ok(Given::Nothing),
        }
    }
}

/// What a variable stands for.
enum Given<'v> {
    Json(&'v Json),
    Default(&'v cst::Value),
    Nothing,
}

fn member(object: &cst::ObjectValue, name: &str) -> Result<Option<cst::Value>, Reason> {
    let mut values = object.object_fields().filter(|field| text_of(field.name()).as_deref() == Some(name));
    match (values.next(), values.next()) {
        (Some(_), Some(_)) => Err(Reason::AmbiguousRequest),
        (found, _) => Ok(found.and_then(|field| field.value())),
    }
}
