//! Where in a policy file something is.

use std::sync::Arc;

use miette::Diagnostic;
use writ_core::config::Place;

/// One policy file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// As the caller named it.
    pub(crate) file: Arc<str>,
    /// Its name without folder and ending.
    pub(crate) stem: String,
    /// Its text.
    pub(crate) text: Arc<str>,
}

impl Source {
    /// Line and column of a byte offset.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let end = self.text.floor_char_boundary(offset);
        let before = self.text.get(..end).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Place { file: Arc::clone(&self.file), line, column, key: String::new() }
    }

    /// Where the text first stands at or after an offset; the offset itself when it does not.
    pub(crate) fn find(&self, from: usize, text: &str) -> Place {
        let at = self.text.get(from..).and_then(|rest| rest.find(text)).unwrap_or(0);
        self.place(from + at)
    }
}

/// The byte offset that an error of Cedar's points at.
pub(crate) fn offset(error: &dyn Diagnostic) -> Option<usize> {
    error.labels().and_then(|mut labels| labels.next()).map(|label| label.offset())
}

/// What an error of Cedar's says and advises, in the manner of ours.
pub(crate) fn said(error: &dyn Diagnostic) -> (String, Option<String>) {
    let (what, help) = (error.to_string(), error.help().map(|help| help.to_string()));
    let what = without_policy(&what);
    let label =
        error.labels().and_then(|mut labels| labels.next()).and_then(|l| l.label().map(str::to_owned));
    let what = match label {
        Some(label) if !label.is_empty() => format!("{what}: {label}"),
        _ => what.to_owned(),
    };
    (what.trim_end_matches('.').to_owned(), help.map(|help| without_policy(&help).to_owned()))
}

/// Without "for policy `id`, ", which repeats the place.
fn without_policy(text: &str) -> &str {
    text.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, ")).map_or(text, |(_, rest)| rest)
}
