//! Facts: what attestors add, what is wanted of them, and what came of it.

use std::collections::BTreeSet;

use writ_core::selector::Key;
use writ_core::{Attestor, Process, Selector};

use super::Program;
use super::code::Code;

/// The keys that somebody's rules name. Nothing else is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted(BTreeSet<Key>);

impl Wanted {
    /// Every key there is.
    pub fn everything() -> Self {
        Self(Key::ALL.iter().copied().collect())
    }

    /// Whether this key is wanted.
    pub fn has(&self, key: Key) -> bool {
        self.0.contains(&key)
    }

    pub(crate) fn any(&self, attestor: Attestor) -> bool {
        self.0.iter().any(|key| key.attestor() == attestor)
    }

    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.0.is_subset(&self.0)
    }
}

impl FromIterator<Key> for Wanted {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

/// What an attestor could not find out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Whose fact it is.
    pub attestor: Attestor,
    /// What stood in the way, for the operator; never a value.
    pub what: String,
}

/// Where one attestor puts its facts.
pub struct Facts<'a> {
    attestor: Attestor,
    wanted: &'a Wanted,
    selectors: &'a mut BTreeSet<Selector>,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(attestor: Attestor, wanted: &'a Wanted, selectors: &'a mut BTreeSet<Selector>) -> Self {
        Self { attestor, wanted, selectors }
    }

    /// Whether to find this out at all.
    pub fn wants(&self, key: Key) -> bool {
        key.attestor() == self.attestor && self.wanted.has(key)
    }

    /// Adds a fact. What has no spelling as a selector cannot be named by a rule, and is left out.
    pub fn add(&mut self, key: Key, value: &str) {
        if self.wants(key) {
            self.selectors.extend(Selector::new(key, value).ok());
        }
    }
}

/// What is known of a process. Its selectors are for comparing, not for showing: `Debug` prints none.
pub struct Attested {
    process: Process,
    uid: u32,
    pub(super) code: Code,
    selectors: BTreeSet<Selector>,
    unknown: Vec<Unknown>,
    wanted: Wanted,
}

impl Attested {
    pub(super) fn new(process: Process, uid: u32, code: Code) -> Self {
        let (selectors, unknown, wanted) = Default::default();
        Self { process, uid, code, selectors, unknown, wanted }
    }

    pub(super) fn learn(&mut self, selectors: BTreeSet<Selector>, unknown: Vec<Unknown>, wanted: Wanted) {
        (self.selectors, self.unknown, self.wanted) = (selectors, unknown, wanted);
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its uid.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Its program and script, as records want them.
    pub fn program(&self) -> Program {
        self.code.program()
    }

    /// SHA-256 of what it runs: of the script behind an interpreter, else of the program; hex. Absent for an interpreter
    /// without a script, and where it could not be proven.
    pub fn digest(&self) -> Option<&str> {
        self.code.digest()
    }

    /// Whether a fact holds.
    pub fn holds(&self, selector: &Selector) -> bool {
        self.selectors.contains(selector)
    }

    /// Whether anything is known under this key.
    pub fn has(&self, key: Key) -> bool {
        self.selectors.iter().any(|selector| selector.key() == key)
    }

    /// Every fact, for `writ agent` to show to the operator who asks.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        self.selectors.iter()
    }

    /// What could not be found out.
    pub fn unknown(&self) -> &[Unknown] {
        &self.unknown
    }

    /// Whether its program was opened by a launcher, and not located afterwards.
    pub fn is_launched(&self) -> bool {
        self.code.is_launched()
    }

    pub(crate) fn has_trusted_interpreter(&self) -> bool {
        self.code.has_trusted_interpreter()
    }

    pub(super) fn wanted(&self) -> &Wanted {
        &self.wanted
    }
}

impl std::fmt::Debug for Attested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attested")
            .field("process", &self.process)
            .field("selectors", &self.selectors.len())
            .finish_non_exhaustive()
    }
}
