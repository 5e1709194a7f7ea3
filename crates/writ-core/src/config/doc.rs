//! Keys that document themselves.

use std::fmt::Write as _;

/// One key: what the reader accepts and what the reference page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDoc {
    /// Dotted path from the top of the file: `upstream.ca_file`. Entries of `[[operation]]` share the path
    /// `operation.name`; `query.*` stands for keys that the operator chooses.
    pub key: &'static str,
    /// What is written there, with its unit: `length of time`.
    pub kind: &'static str,
    /// What holds when it is absent.
    pub absent: Absent,
    /// What it does.
    pub effect: &'static str,
    /// What it puts at risk, for keys that weaken safety.
    pub danger: Option<&'static str>,
}

/// What holds when a key is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// The file is refused.
    Required,
    /// This value, as TOML text; readers take it from here.
    Default(&'static str),
    /// Something that is no value of the key: `the system's roots`.
    Means(&'static str),
}

impl KeyDoc {
    /// A key that must be there.
    pub const fn required(key: &'static str, kind: &'static str, effect: &'static str) -> Self {
        Self { key, kind, absent: Absent::Required, effect, danger: None }
    }

    /// A key with a default, given as TOML text.
    pub const fn defaulted(
        key: &'static str,
        kind: &'static str,
        default: &'static str,
        effect: &'static str,
    ) -> Self {
        Self { key, kind, absent: Absent::Default(default), effect, danger: None }
    }

    /// A key that may be absent; `means` says what holds then.
    pub const fn optional(
        key: &'static str,
        kind: &'static str,
        means: &'static str,
        effect: &'static str,
    ) -> Self {
        Self { key, kind, absent: Absent::Means(means), effect, danger: None }
    }

    /// The same key, marked as one that weakens safety.
    pub const fn danger(mut self, danger: &'static str) -> Self {
        self.danger = Some(danger);
        self
    }
}

/// The keys of several parts as those of one file. `N` is how many they are together.
///
/// Evaluated by the compiler, which refuses an `N` that is too small; one that is too large leaves an empty key behind,
/// and no file holds that.
#[expect(clippy::indexing_slicing, reason = "checked when the constant is built")]
pub const fn join<const N: usize>(parts: &[&[KeyDoc]]) -> [KeyDoc; N] {
    let mut all = [KeyDoc::required("", "", ""); N];
    let (mut part, mut filled) = (0, 0);
    while part < parts.len() {
        let mut key = 0;
        while key < parts[part].len() {
            all[filled] = parts[part][key];
            (key, filled) = (key + 1, filled + 1);
        }
        part += 1;
    }
    all
}

/// The reference page of a set of keys, as a Markdown table.
pub fn reference(keys: &[KeyDoc]) -> String {
    let mut page = String::from("| key | value | when absent | effect |\n| --- | --- | --- | --- |\n");
    for doc in keys {
        let absent = match doc.absent {
            Absent::Required => "refused: required".to_owned(),
            Absent::Default(value) => format!("`{value}`"),
            Absent::Means(means) => means.to_owned(),
        };
        let danger = doc.danger.map(|danger| format!(" **Danger:** {danger}")).unwrap_or_default();
        let cells = [&format!("`{}`", doc.key), doc.kind, &absent, &format!("{}{danger}", doc.effect)]
            .map(|cell| cell.replace('|', "\\|"));
        // Writing to a string cannot fail.
        writeln!(page, "| {} |", cells.join(" | ")).unwrap_or_default();
    }
    page
}
