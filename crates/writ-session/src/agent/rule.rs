//! The rules of an agent's file: which processes it means. Plain data, and the check that no process is meant twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use writ_core::config::{Place, Problems, Setting, Table, Value, Wrong};
use writ_core::selector::Key;
use writ_core::{AgentName, Attestor, Selector};

use super::Agent;

/// One `[[match]]` block: all of its selectors must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What must hold.
    pub selectors: BTreeSet<Selector>,
    /// Where it stands, for messages.
    pub place: Place,
}

/// Which digests an agent may run with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pin {
    /// Any that a block lets through.
    #[default]
    None,
    /// These, in hex.
    Listed(BTreeSet<String>),
    /// The first one that is seen, and those that are approved afterwards.
    FirstUse,
}

impl Block {
    /// Whether no process can be meant by both.
    pub fn contradicts(&self, other: &Self) -> bool {
        self.selectors.iter().any(|one| other.selectors.iter().any(|two| one.contradicts(two)))
    }

    /// Whether one of its selectors has this key.
    pub fn has(&self, key: Key) -> bool {
        self.selectors.iter().any(|selector| selector.key() == key)
    }

    /// Whether it says anything of the script behind an interpreter.
    pub(crate) fn is_about_a_script(&self) -> bool {
        self.selectors.iter().any(|selector| selector.key().attestor() == Attestor::Script)
    }

    /// Whether it says which interpreter runs the script.
    pub(crate) fn names_the_program(&self) -> bool {
        [Key::ExeSha256, Key::ExePath, Key::ExePackage].into_iter().any(|key| self.has(key))
    }
}

impl Setting for Pin {
    const EXPECTED: &'static str = "a list of digests, or `first-use`";
    const EXAMPLE: &'static str = "\"first-use\"";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let Some(items) = value.items() else {
            return value.one_of(&[("first-use", ())]).map(|()| Self::FirstUse);
        };
        let digest = |item: &Value<'_>| {
            let text = item.text()?;
            let hex = text.strip_prefix("sha256:").and_then(|hex| Selector::new(Key::ExeSha256, hex).ok());
            let digest = hex.map(|selector| selector.value().to_owned());
            digest.ok_or_else(|| {
                Wrong::content(format!("`{text}` is no digest; hint: write `sha256:` and 64 hex digits"))
            })
        };
        let digests: BTreeSet<String> = items.iter().map(digest).collect::<Result<_, _>>()?;
        if digests.is_empty() {
            return Err(Wrong::content(
                "no digest is listed, so nothing could ever run; hint: leave `pin` out, or list one",
            ));
        }
        Ok(Self::Listed(digests))
    }
}

/// The `[[match]]` blocks of a file.
pub(super) fn read(table: &Table<'_>, pin: &Pin) -> Vec<Block> {
    let blocks = table.tables("match").into_iter().map(|block| {
        let selectors: BTreeSet<Selector> = block.list("selectors").into_iter().collect();
        let read = Block { selectors, place: block.place("") };
        if read.selectors.is_empty() {
            block.problem(
                "selectors",
                "a block without selectors would match every process",
                Some("name at least one fact"),
            );
        }
        let contradictory =
            read.selectors.iter().any(|one| read.selectors.iter().any(|two| one.contradicts(two)));
        if contradictory {
            block.problem(
                "selectors",
                "two of them contradict each other, so no process could match",
                Some("write alternatives as blocks of their own"),
            );
        }
        let named = [Key::ScriptModule, Key::ScriptPackage].into_iter().any(|key| read.has(key));
        if named && *pin == Pin::None && !read.has(Key::ScriptSha256) {
            let what = "whoever can write a file can give it this module's or package's name";
            block.problem("selectors", what, Some("add `script:sha256:...`, or `pin` to the file"));
        }
        read
    });
    blocks.collect()
}

/// Reports every pair of agents that could both mean one process.
pub(super) fn refuse_overlaps(agents: &BTreeMap<AgentName, Arc<Agent>>, problems: &mut Problems) {
    for (n, one) in agents.values().enumerate() {
        for two in agents.values().skip(n + 1) {
            for (a, b) in one.blocks.iter().flat_map(|a| two.blocks.iter().map(move |b| (a, b))) {
                if a.contradicts(b) {
                    continue;
                }
                let what = format!(
                    "a process could be agent `{}` by this block and agent `{}` by the one at {}",
                    one.name, two.name, b.place
                );
                let hint = "let the blocks differ in a selector that has one value, such as `exe:sha256` or `unix:uid`";
                problems.push(a.place.clone(), what, Some(hint.to_owned()));
            }
        }
    }
}
