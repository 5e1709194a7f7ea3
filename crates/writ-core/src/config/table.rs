//! The cursor over one table of a file.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::doc::{Absent, KeyDoc};
use super::problem::{Place, Problems};
use super::setting::{Setting, Value, Wrong, nearest};

/// A parsed file, its keys' description, and what was found wrong so far.
pub(super) struct Document<'t> {
    file: Arc<str>,
    text: &'t str,
    keys: &'static [KeyDoc],
    /// `None` when the text is not TOML.
    root: Option<DeTable<'t>>,
    problems: RefCell<Problems>,
}

impl<'t> Document<'t> {
    /// Parses the text and checks that every key in it is described.
    pub(super) fn parse(file: &str, text: &'t str, keys: &'static [KeyDoc]) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Self {
            file: file.into(),
            text,
            keys,
            root: errors.is_empty().then(|| root.into_inner()),
            problems: RefCell::default(),
        };
        for error in &errors {
            let place = document.place(error.span().map_or(0, |span| span.start), String::new());
            let what = format!("not valid TOML: {}", error.message().trim().replace('\n', ", "));
            document.problems.get_mut().push(place, what, None);
        }
        document.root().inspect(Table::refuse_unknown);
        document
    }

    /// The top of the file; `None` when it is not TOML.
    pub(super) fn root(&self) -> Option<Table<'_>> {
        let entries = self.root.as_ref()?;
        Some(Table {
            document: self,
            entries: Some(entries),
            start: 0,
            path: String::new(),
            shown: String::new(),
        })
    }

    pub(super) fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    pub(super) fn into_problems(self) -> Problems {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems
    }

    fn place(&self, start: usize, key: String) -> Place {
        let before = self.text.get(..start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        Place { file: Arc::clone(&self.file), line, column, key }
    }

    fn push(&self, place: Place, what: impl Into<String>, hint: Option<String>) {
        self.problems.borrow_mut().push(place, what, hint);
    }
}

/// One table of a file: the top, a `[table]`, or an entry of `[[tables]]`. An absent table reads as an empty one.
pub struct Table<'d> {
    document: &'d Document<'d>,
    entries: Option<&'d DeTable<'d>>,
    /// Where it begins, bytes.
    start: usize,
    /// Its path in the description: `operation`.
    path: String,
    /// Its path as problems show it: `operation[2]`.
    shown: String,
}

/// A value and where it stands, for checks that come after reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// Where.
    pub place: Place,
    /// What.
    pub value: T,
}

impl<'d> Table<'d> {
    /// Whether the table stands in the file.
    pub fn is_present(&self) -> bool {
        self.entries.is_some()
    }

    /// A value that must be there.
    pub fn required<T: Setting>(&self, key: &str) -> Option<T> {
        if let Some(value) = self.value(key) {
            return self.setting(key, value);
        }
        let expected = T::EXPECTED.split_once(' ').map_or(T::EXPECTED, |(article, rest)| {
            if matches!(article, "a" | "an" | "the") { rest } else { T::EXPECTED }
        });
        let hint = format!("{expected}, as in `{key} = {}`", T::EXAMPLE);
        self.document.push(self.place(key), "missing", Some(hint));
        None
    }

    /// A value that may be absent. `None` also when it is there and wrong, which is then a problem.
    pub fn optional<T: Setting>(&self, key: &str) -> Option<T> {
        self.value(key).and_then(|value| self.setting(key, value))
    }

    /// A value whose absence means the default of its description.
    pub fn defaulted<T: Setting>(&self, key: &str) -> Option<T> {
        match self.value(key) {
            Some(value) => self.setting(key, value),
            None => self.default(key, |value| T::read(&value).ok()),
        }
    }

    /// A list of values; empty when absent, unless the description has a default.
    pub fn list<T: Setting>(&self, key: &str) -> Vec<T> {
        if self.value(key).is_none() {
            return self.default_list(key);
        }
        self.list_placed(key).into_iter().map(|placed| placed.value).collect()
    }

    /// A list of values with their places; empty when absent.
    pub fn list_placed<T: Setting>(&self, key: &str) -> Vec<Placed<T>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(items) = value.inner().as_array() else {
            let hint = Some(format!("as in `{key} = [{}]`", T::EXAMPLE));
            self.wrong::<T>(key, value, Wrong::Content { what: "expected a list".to_owned(), hint });
            return Vec::new();
        };
        let mut values = Vec::with_capacity(items.len());
        for (n, item) in items.iter().enumerate() {
            let (item, key) = (Value::new(item), format!("{key}[{n}]"));
            if let Some(value) = self.setting(&key, item) {
                values.push(Placed { place: self.document.place(item.start(), self.shown(&key)), value });
            }
        }
        values
    }

    /// Values under keys that the operator chooses, described as `key.*`; empty when absent.
    pub fn map<T: Setting>(&self, key: &str) -> BTreeMap<String, T> {
        let table = self.sub_table(key);
        let entries = table.entries.into_iter().flat_map(|entries| entries.iter());
        entries
            .filter_map(|(name, value)| {
                let name = name.get_ref().as_ref();
                Some((name.to_owned(), table.setting(name, Value::new(value))?))
            })
            .collect()
    }

    /// The `[key]` in this table; reads as empty when absent.
    pub fn sub_table(&self, key: &str) -> Table<'d> {
        let value = self.value(key);
        let entries = value.and_then(|value| value.inner().as_table());
        if let (Some(value), None) = (value, entries) {
            let place = self.document.place(value.start(), self.shown(key));
            self.document.push(
                place,
                "expected a table",
                Some(format!("write it as `[{}]`", self.shown(key))),
            );
        }
        Table {
            document: self.document,
            entries,
            start: value.map_or(self.start, Value::start),
            path: join(&self.path, key),
            shown: self.shown(key),
        }
    }

    /// The entries of `[[key]]`.
    pub fn tables(&self, key: &str) -> Vec<Table<'d>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let items = value.inner().as_array().map_or(&[][..], |items| items);
        let tables: Vec<_> =
            items.iter().enumerate().filter_map(|(n, item)| self.item(key, n, item)).collect();
        if value.inner().as_array().is_none() || tables.len() != items.len() {
            let place = self.document.place(value.start(), self.shown(key));
            let hint = format!("write each as `[[{}]]`", self.shown(key));
            self.document.push(place, "expected a list of tables", Some(hint));
        }
        tables
    }

    /// Reports something that is wrong with a key, or with the table when `key` is empty.
    pub fn problem(&self, key: &str, what: impl Into<String>, hint: Option<&str>) {
        self.document.push(self.place(key), what, hint.map(str::to_owned));
    }

    /// Where the value of a key stands; where the table stands if the key is absent.
    pub fn place(&self, key: &str) -> Place {
        let start = self.value(key).map_or(self.start, Value::start);
        self.document.place(start, if key.is_empty() { self.shown.clone() } else { self.shown(key) })
    }

    fn item(&self, key: &str, n: usize, item: &'d Spanned<DeValue<'d>>) -> Option<Table<'d>> {
        Some(Table {
            document: self.document,
            entries: Some(item.get_ref().as_table()?),
            start: item.span().start,
            path: join(&self.path, key),
            shown: self.shown(&format!("{key}[{n}]")),
        })
    }

    fn value(&self, key: &str) -> Option<Value<'d>> {
        let (_, value) = self.entries?.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(Value::new(value))
    }

    fn setting<T: Setting>(&self, key: &str, value: Value<'_>) -> Option<T> {
        T::read(&value).map_err(|wrong| self.wrong::<T>(key, value, wrong)).ok()
    }

    fn wrong<T: Setting>(&self, key: &str, value: Value<'_>, wrong: Wrong) {
        let (name, item) = key.split_once('[').map_or((key, false), |(name, _)| (name, true));
        let example = if item { format!("[{}]", T::EXAMPLE) } else { T::EXAMPLE.to_owned() };
        let example = || format!("as in `{name} = {example}`");
        let (what, hint) = match wrong {
            Wrong::Type(found) => (format!("expected {}, found {found}", T::EXPECTED), example()),
            Wrong::Content { what, hint } => (what, hint.unwrap_or_else(example)),
        };
        self.document.push(self.document.place(value.start(), self.shown(key)), what, Some(hint));
    }

    fn default<T>(&self, key: &str, read: impl FnOnce(Value<'_>) -> Option<T>) -> Option<T> {
        let path = join(&self.path, key);
        let doc = self.document.keys.iter().find(|doc| doc.key == path);
        let Some(Absent::Default(text)) = doc.map(|doc| doc.absent) else {
            self.problem(key, "missing, and its description has no default", None);
            return None;
        };
        let value = DeValue::parse(text).ok().and_then(|value| read(Value::new(&value)));
        if value.is_none() {
            self.problem(key, format!("its default `{text}` cannot be read"), None);
        }
        value
    }

    fn default_list<T: Setting>(&self, key: &str) -> Vec<T> {
        let path = join(&self.path, key);
        let described = |doc: &&KeyDoc| doc.key == path && matches!(doc.absent, Absent::Default(_));
        if !self.document.keys.iter().any(|doc| described(&doc)) {
            return Vec::new();
        }
        let read = |value: Value<'_>| {
            let items = value.inner().as_array()?;
            items.iter().map(|item| T::read(&Value::new(item)).ok()).collect()
        };
        self.default(key, read).unwrap_or_default()
    }

    fn shown(&self, key: &str) -> String {
        join(&self.shown, key)
    }

    /// Refuses every key, here and below, that the description does not have.
    fn refuse_unknown(&self) {
        for (name, value) in self.entries.into_iter().flat_map(|entries| entries.iter()) {
            let key = name.get_ref().as_ref();
            let path = join(&self.path, key);
            let keys = self.document.keys;
            if let Some(below) = known(keys, &self.path, &path) {
                if below {
                    self.below(key, value).iter().for_each(Self::refuse_unknown);
                }
                continue;
            }
            let siblings = keys.iter().filter_map(|doc| child(doc.key, &self.path));
            let hint = match nearest(key, siblings.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", listed(siblings)),
            };
            let place = self.document.place(name.span().start, self.shown(key));
            self.document.push(place, "unknown key", Some(hint));
        }
    }

    /// The tables in the value of a key.
    fn below(&self, key: &str, value: &'d Spanned<DeValue<'d>>) -> Vec<Table<'d>> {
        match value.get_ref() {
            DeValue::Array(items) => {
                items.iter().enumerate().filter_map(|(n, item)| self.item(key, n, item)).collect()
            }
            DeValue::Table(_) => vec![self.sub_table(key)],
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => Vec::new(),
        }
    }
}

/// Whether a path is described; if so, whether more is described below it.
fn known(keys: &[KeyDoc], parent: &str, path: &str) -> Option<bool> {
    let any = join(parent, "*");
    let below = |doc: &KeyDoc| doc.key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    if keys.iter().any(below) {
        return Some(true);
    }
    keys.iter().any(|doc| doc.key == path || doc.key == any).then_some(false)
}

/// The name that comes right below `parent` on the way to `key`.
fn child<'k>(key: &'k str, parent: &str) -> Option<&'k str> {
    let rest = if parent.is_empty() { key } else { key.strip_prefix(parent)?.strip_prefix('.')? };
    rest.split('.').next().filter(|name| *name != "*")
}

fn listed<'k>(names: impl Iterator<Item = &'k str>) -> String {
    let mut names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    names.dedup();
    names.join(", ")
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
