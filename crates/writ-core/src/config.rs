//! Configuration text becomes checked types here, for `writd.toml`, agents and services alike.
//!
//! A consumer describes its keys once, as static [`KeyDoc`]s, and reads them from a [`Table`] in a few declarative
//! lines. The description is the truth: a key that it does not list is refused, a default is taken from it, and
//! the reference page is printed from it. Reading never stops at the first problem: every reader returns `Option`,
//! puts what is wrong into [`Problems`], and goes on; `?` comes last.
//!
//! ```
//! use writ_core::config::{self, KeyDoc, Problems, Table};
//! use writ_core::units::Span;
//! use writ_core::AgentName;
//!
//! struct Limits { name: AgentName, ttl: Span }
//!
//! const KEYS: &[KeyDoc] = &[
//!     KeyDoc::required("name", "agent name", "The agent's name."),
//!     KeyDoc::defaulted("session.ttl", "length of time", "\"1h\"", "A session's time limit."),
//! ];
//!
//! fn limits(table: &Table<'_>) -> Option<Limits> {
//!     let name = table.required("name");
//!     let ttl = table.sub_table("session").defaulted("ttl");
//!     Some(Limits { name: name?, ttl: ttl? })
//! }
//!
//! let mut problems = Problems::default();
//! assert!(config::read("a.toml", "name = \"coder\"", KEYS, &mut problems, limits).is_some());
//! assert!(config::read("b.toml", "nam = \"coder\"", KEYS, &mut problems, limits).is_none());
//! assert_eq!(problems.to_string(), "\
//! b.toml:1:1: key `nam`: unknown key
//!     hint: did you mean `name`?
//! b.toml:1:1: key `name`: missing
//!     hint: agent name, as in `name = \"coder\"`");
//! ```
//!
//! Not here: reading files (the caller has the text) and merging files. Invariant: text in, values or problems
//! out; a file with any problem gives no value.

mod doc;
mod problem;
mod setting;
mod table;

pub use doc::{Absent, KeyDoc, join, reference};
pub use problem::{Place, Problem, Problems};
pub use setting::{Setting, Value, Wrong};
pub use table::{Placed, Table};

pub(crate) use setting::nearest;

use table::Document;

/// Reads one file. `file` is its name as problems shall show it.
///
/// Gives a value only if nothing at all was wrong with the file; otherwise `problems` has grown.
pub fn read<T>(
    file: &str,
    text: &str,
    keys: &'static [KeyDoc],
    problems: &mut Problems,
    read: impl FnOnce(&Table<'_>) -> Option<T>,
) -> Option<T> {
    let document = Document::parse(file, text, keys);
    let value = document.root().and_then(|root| {
        let value = read(&root);
        if value.is_none() && document.is_clean() {
            // A reader that gives nothing must have said why; if not, the file is refused all the same.
            root.problem("", "the file could not be read", None);
        }
        value
    });
    let clean = document.is_clean();
    problems.append(document.into_problems());
    value.filter(|_| clean)
}

#[cfg(test)]
mod tests;
