//! YAML as the JSON value that it says (YAML 1.2.2, section 10.3, the core schema). Pure.
//!
//! One document of values that JSON has too. What two readers could read differently is refused: names that repeat, merge keys,
//! tags but those of the core schema. Aliases are followed as far as there is room: a small document can stand for a huge one.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Number, Value};

/// Values that a document may come to, aliases followed and what they are for counted twice: some hundred times what the largest APIs have.
const VALUES_MAX: usize = 1 << 20;
/// Lists and mappings within each other; as deep as JSON is read.
const DEPTH_MAX: usize = 128;

/// Why a text is not read: what, and the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(crate) struct Unreadable {
    line: usize,
    what: String,
}

impl From<ScanError> for Unreadable {
    fn from(error: ScanError) -> Self {
        Self { line: error.marker().line(), what: error.info().to_owned() }
    }
}

/// Reads the one document of a text.
pub(crate) fn read(text: &str) -> Result<Value, Unreadable> {
    let mut reader = Reader::default();
    let mut line = 1;
    for event in Parser::new_from_str(text) {
        let (event, span): (Event<'_>, Span) = event?;
        line = span.start.line();
        reader.take(event).map_err(|what| Unreadable { line, what: what.to_owned() })?;
    }
    reader.whole.ok_or_else(|| Unreadable { line, what: "there is no document".to_owned() })
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    whole: Option<Value>,
    open: Vec<Open>,
    /// Values with an anchor, and how many values each of them is.
    anchored: HashMap<usize, (Value, usize)>,
    values: usize,
}

/// A list or mapping that is not at its end.
struct Open {
    anchor: usize,
    /// How many values there were before it.
    before: usize,
    what: Collected,
}

enum Collected {
    List(Vec<Value>),
    /// With the name whose value is next.
    Mapping(Map<String, Value>, Option<String>),
}

type Step = Result<(), &'static str>;

impl Reader {
    fn take(&mut self, event: Event<'_>) -> Step {
        match event {
            Event::DocumentStart(_) if self.whole.is_some() => Err("a second document begins here"),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::SequenceStart(anchor, tag) => {
                self.begin(anchor, tag.as_deref(), Collected::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(anchor, tag.as_deref(), Collected::Mapping(Map::new(), None))
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Scalar(text, style, anchor, tag) => {
                if self.awaits_name() {
                    return self.name(&text, style);
                }
                let value = scalar(&text, style, tag.as_deref())?;
                self.count(1)?;
                self.value(value, anchor, 1)
            }
            Event::Alias(_) if self.awaits_name() => Err("a name is written out, not an alias"),
            Event::Alias(anchor) => {
                let known = self.anchored.get(&anchor).cloned();
                let (value, size) = known.ok_or("an alias stands within what it is for")?;
                self.count(size)?;
                self.value(value, 0, size)
            }
        }
    }

    fn awaits_name(&self) -> bool {
        matches!(self.open.last(), Some(Open { what: Collected::Mapping(_, None), .. }))
    }

    /// Any plain text is a name as it is written: `200`, `on`.
    fn name(&mut self, text: &str, style: ScalarStyle) -> Step {
        if let Some(Open { what: Collected::Mapping(map, name), .. }) = self.open.last_mut() {
            match text {
                "<<" if style == ScalarStyle::Plain => return Err("merge keys are not read; write it out"),
                _ if map.contains_key(text) => return Err("a name stands twice"),
                _ => *name = Some(text.to_owned()),
            }
        }
        Ok(())
    }

    fn begin(&mut self, anchor: usize, tag: Option<&Tag>, what: Collected) -> Step {
        let plain = match what {
            Collected::List(_) => "seq",
            Collected::Mapping(..) => "map",
        };
        if tag.is_some_and(|tag| !tag.is_yaml_core_schema() || tag.suffix != plain) {
            return Err("its tag is not of the core schema");
        }
        if self.awaits_name() {
            return Err("a name is text");
        }
        if self.open.len() == DEPTH_MAX {
            return Err("it is too deep");
        }
        let before = self.values;
        self.open.push(Open { anchor, before, what });
        self.count(1)
    }

    fn end(&mut self) -> Step {
        let Some(Open { anchor, before, what }) = self.open.pop() else { return Ok(()) };
        let value = match what {
            Collected::List(items) => Value::Array(items),
            Collected::Mapping(map, _) => Value::Object(map),
        };
        self.value(value, anchor, self.values - before)
    }

    /// A value is complete: it goes where it stands.
    fn value(&mut self, value: Value, anchor: usize, size: usize) -> Step {
        // Anchors are numbered from 1; 0 is none.
        if anchor > 0 {
            self.count(size)?;
            self.anchored.insert(anchor, (value.clone(), size));
        }
        match self.open.last_mut().map(|open| &mut open.what) {
            None => self.whole = Some(value),
            Some(Collected::List(items)) => items.push(value),
            Some(Collected::Mapping(map, name)) => {
                if let Some(name) = name.take() {
                    map.insert(name, value);
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, more: usize) -> Step {
        self.values += more;
        if self.values > VALUES_MAX { Err("with its aliases it comes to too many values") } else { Ok(()) }
    }
}

/// A scalar by its tag, or by the core schema if it is plain.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, &'static str> {
    let plain = || {
        let word = null(text).or_else(|| boolean(text));
        word.or_else(|| integer(text)).or_else(|| float(text)).unwrap_or_else(|| text.into())
    };
    match tag.map(|tag| (tag.is_yaml_core_schema(), tag.suffix.as_str())) {
        None if style == ScalarStyle::Plain => Ok(plain()),
        None | Some((true, "str")) => Ok(text.into()),
        Some((true, "null")) => null(text).ok_or("it is not null"),
        Some((true, "bool")) => boolean(text).ok_or("it is neither true nor false"),
        Some((true, "int")) => integer(text).ok_or("it is no whole number"),
        Some((true, "float")) => float(text).or_else(|| integer(text)).ok_or("it is no number"),
        Some(_) => Err("its tag is not of the core schema"),
    }
}

fn null(text: &str) -> Option<Value> {
    ["", "~", "null", "Null", "NULL"].contains(&text).then_some(Value::Null)
}

fn boolean(text: &str) -> Option<Value> {
    match text {
        "true" | "True" | "TRUE" => Some(true.into()),
        "false" | "False" | "FALSE" => Some(false.into()),
        _ => None,
    }
}

/// Decimal digits with a sign, octal after `0o`, hexadecimal after `0x`. What 64 bits do not hold is text, which no number is
/// mistaken for.
fn integer(text: &str) -> Option<Value> {
    let radix = |digits: &str, radix| {
        let unsigned = digits.bytes().all(|b| b.is_ascii_alphanumeric());
        u64::from_str_radix(digits, radix).ok().filter(|_| unsigned).map(Value::from)
    };
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<u64>().map(Value::from)).ok()
}

/// A number that JSON has: infinity and what is not a number are text.
fn float(text: &str) -> Option<Value> {
    let written = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let number =
        text.parse::<f64>().ok().filter(|_| written && text.contains(|c: char| c.is_ascii_digit()))?;
    Number::from_f64(number).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_the_json_that_it_says() {
        let text = "\
%YAML 1.2
---
# A comment.
openapi: 3.0.4
plain: [null, ~, true, False, 12, -7, 0o17, 0xff, 1.5, 1e3, 'true', \"12\", yes, on, NaN, .inf, 1.2.3, 2024-01-01, 08]
tagged: [!!str 12, !!int 12, !!float 1]
folded: >
  one
  two
literal: |
  one
  two
responses:
  200: &ok {description: fine}
  '201': *ok
  on: *ok
empty:
nested: {a: [{b: {}}], \"c d\": \"\\u00e9\\n\"}
...
";
        let ok = json!({"description": "fine"});
        let expected = json!({
            "openapi": "3.0.4",
            "plain": [null, null, true, false, 12, -7, 15, 255, 1.5, 1000.0, "true", "12", "yes", "on", "NaN", ".inf",
                "1.2.3", "2024-01-01", 8],
            "tagged": ["12", 12, 1.0],
            "folded": "one two\n",
            "literal": "one\ntwo\n",
            "responses": {"200": ok, "201": ok, "on": ok},
            "empty": null,
            "nested": {"a": [{"b": {}}], "c d": "\u{e9}\n"},
        });
        assert_eq!(read(text).unwrap(), expected);
        let json = r#"{"a": [1, "b", null], "c": {"d": true}}"#;
        assert_eq!(read(json).unwrap(), serde_json::from_str::<Value>(json).unwrap());
    }

    #[test]
    fn what_could_be_read_differently_or_without_end_is_refused() {
        let twice = (1..30).map(|n| format!("a{n}: &a{n} [*a{}, *a{}]", n - 1, n - 1));
        let bomb: Vec<String> = std::iter::once("a0: &a0 [x, x]".to_owned()).chain(twice).collect();
        let bomb = bomb.join("\n");
        let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
        for (text, error) in [
            ("", "line 1: there is no document"),
            ("a: 1\nb: 2\na: 3\n", "line 3: a name stands twice"),
            ("a: 1\n---\nb: 2\n", "line 2: a second document begins here"),
            ("a: &a 1\nb:\n  <<: *a\n", "line 3: merge keys are not read; write it out"),
            ("a: &a [*a]\n", "line 1: an alias stands within what it is for"),
            ("a: !!binary aGk=\n", "line 1: its tag is not of the core schema"),
            ("a: !secret x\n", "line 1: its tag is not of the core schema"),
            ("a: !!map [x]\n", "line 1: its tag is not of the core schema"),
            ("? [a]\n: b\n", "line 1: a name is text"),
            ("a: !!int x\n", "line 1: it is no whole number"),
            (&bomb, "line 18: with its aliases it comes to too many values"),
            (&deep, "line 1: it is too deep"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), error, "{text:.60}");
        }
        for text in ["a: [1", "a: b: c", "a: *b", "a: \"\\q\"", "- a\nb: 1"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
