//! What is wrong with configuration: every problem with its place, collected and shown together.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Where something stands in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file as the caller named it.
    pub file: Arc<str>,
    /// Line, from 1; 0 when it is the file as a whole.
    pub line: usize,
    /// Column in characters, from 1; 0 when it is the line or file as a whole.
    pub column: usize,
    /// The key as a dotted path; empty when it is no key.
    pub key: String,
}

impl Place {
    /// A file as a whole: unreadable, say.
    pub fn file(file: &str) -> Self {
        Self { file: file.into(), line: 0, column: 0, key: String::new() }
    }
}

/// `path:line:col`, as far as it is known.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => write!(f, "{}", self.file),
            (line, 0) => write!(f, "{}:{line}", self.file),
            (line, column) => write!(f, "{}:{line}:{column}", self.file),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, in lower case and without a period.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.place.key.is_empty() {
            write!(f, "key `{}`: ", self.place.key)?;
        }
        f.write_str(&self.what)?;
        self.hint.iter().try_for_each(|hint| write!(f, "\n    hint: {hint}"))
    }
}

/// Everything that is wrong, in the order of files and lines. An error type of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn push(&mut self, place: Place, what: impl Into<String>, hint: Option<String>) {
        self.0.push(Problem { place, what: what.into(), hint });
    }

    /// Adds those of another file.
    pub fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// The value if nothing is wrong, or else the problems.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Puts them in the order of lines, for one file.
    pub(super) fn sort(&mut self) {
        self.0.sort_by_key(|problem| (problem.place.line, problem.place.column));
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.iter().enumerate() {
            let end = if n == 0 { "" } else { "\n" };
            write!(f, "{end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
