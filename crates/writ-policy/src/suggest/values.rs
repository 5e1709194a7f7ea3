//! What an argument was, and the condition that says so.
//!
//! One value is asked for as it is; up to [`SUGGESTED_VALUES_MAX`] are a set; more, and free text, leave the argument
//! open. An optional argument that was never there must not be there.

use std::collections::BTreeSet;

use writ_core::Argument;
use writ_core::argument::ArgumentKind;
use writ_gate::limits::{SUGGESTED_TEXT_BYTES_MAX, SUGGESTED_VALUES_MAX};

use super::Open;
use super::text::quoted;
use crate::schema::Typed;

/// The values of one argument. Of one that is a set of texts: all texts that were in it.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// How many actions had it.
    present: u64,
    /// The values; never more than one above the bound.
    distinct: BTreeSet<Argument>,
    free_text: bool,
}

impl Values {
    /// Takes a value. Of a record that is not whole, a text that could be cut is as good as unknown.
    pub(super) fn add(&mut self, argument: &Argument, whole: bool) {
        self.present += 1;
        let texts = match argument {
            Argument::Integer(_) | Argument::Boolean(_) => return self.keep(argument.clone()),
            Argument::String(text) => &BTreeSet::from([text.clone()]),
            Argument::Strings(texts) => texts,
        };
        for text in texts {
            self.free_text |= is_free(text) || (!whole && text.ends_with("..."));
            self.keep(Argument::String(text.clone()));
        }
    }

    fn keep(&mut self, value: Argument) {
        if self.distinct.len() <= SUGGESTED_VALUES_MAX {
            self.distinct.insert(value);
        }
    }

    /// What the argument must be; or why it may be anything. `actions` is how many there were in all.
    pub(super) fn condition(&self, name: &str, typed: Typed, actions: u64) -> Result<String, Open> {
        let (has, value) = access(name);
        if self.present == 0 {
            return Ok(format!("!(context.args has {has})"));
        }
        let asked = self.asked(&value, typed.kind)?;
        Ok(match (typed.required, self.present == actions) {
            (true, _) => asked,
            (false, true) => format!("context.args has {has} && {asked}"),
            (false, false) => format!("(if context.args has {has} then {asked} else true)"),
        })
    }

    fn asked(&self, value: &str, kind: ArgumentKind) -> Result<String, Open> {
        if self.free_text {
            return Err(Open::FreeText);
        }
        if kind == ArgumentKind::Boolean && self.distinct.len() > 1 {
            return Err(Open::Both);
        }
        if self.distinct.len() > SUGGESTED_VALUES_MAX {
            return Err(Open::ManyValues);
        }
        let literals: Vec<String> = self.distinct.iter().map(literal).collect();
        Ok(match (kind, literals.as_slice()) {
            // Cedar has no literal for a set of nothing.
            (_, []) => format!("{value}.isEmpty()"),
            (ArgumentKind::Strings, all) => format!("[{}].containsAll({value})", all.join(", ")),
            (_, [one]) => format!("{value} == {one}"),
            (_, all) => format!("[{}].contains({value})", all.join(", ")),
        })
    }
}

/// Whether it is a name with marks in it that turn the direction of text. No policy can have such a text, and open the
/// argument must not be for it: then anybody could open it with one request.
pub(super) fn is_hidden(argument: &Argument) -> bool {
    const TURNS: [char; 9] = [
        '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}',
        '\u{2069}',
    ];
    let hidden = |text: &String| !is_free(text) && text.contains(TURNS);
    match argument {
        Argument::String(text) => hidden(text),
        Argument::Strings(texts) => texts.iter().any(hidden),
        Argument::Integer(_) | Argument::Boolean(_) => false,
    }
}

/// Text in people's words, or longer than what names a thing.
fn is_free(text: &str) -> bool {
    text.len() > SUGGESTED_TEXT_BYTES_MAX || text.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn literal(value: &Argument) -> String {
    match value {
        Argument::String(text) => quoted(text),
        Argument::Integer(number) => number.to_string(),
        Argument::Boolean(value) => value.to_string(),
        Argument::Strings(texts) => texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "),
    }
}

/// How Cedar asks for the argument: behind `has`, and for its value. A name may be no identifier of Cedar.
fn access(name: &str) -> (String, String) {
    const RESERVED: [&str; 10] =
        ["true", "false", "if", "then", "else", "in", "is", "like", "has", "__cedar"];
    let plain = !name.starts_with(|c: char| c.is_ascii_digit()) && !RESERVED.contains(&name);
    if plain {
        (name.to_owned(), format!("context.args.{name}"))
    } else {
        (quoted(name), format!("context.args[{}]", quoted(name)))
    }
}
