//! `[[govern]]`: processes that are governed without having been launched by Writ.
//!
//! Parsed and checked here; which cgroups that comes to, and how they are held, is capture's. The same blocks stand in an
//! agent's file and in `writd.toml`.

use std::path::PathBuf;

use writ_core::Selector;
use writ_core::config::{KeyDoc, Place, Table};
use writ_core::selector::Key;

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Govern {
    /// Which processes.
    pub what: Governed,
    /// Where it stands, for messages.
    pub place: Place,
}

/// Which processes are governed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Governed {
    /// Those in or below a cgroup, named from the root of the hierarchy.
    Cgroup(PathBuf),
    /// Those of a unit of the system manager.
    Unit(String),
    /// Those below a slice of the system manager.
    Slice(String),
    /// Those in containers with a label.
    ContainerLabel {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// Those that run a program, by its path on the host.
    Program(PathBuf),
}

/// A subtree of cgroups.
pub const CGROUP: KeyDoc = KeyDoc::optional(
    "govern.cgroup",
    "absolute path from the root of the hierarchy",
    "another key names the processes",
    "Govern the processes in or below this cgroup.",
);
/// A unit.
pub const UNIT: KeyDoc = KeyDoc::optional(
    "govern.unit",
    "name of a service or scope",
    "another key names the processes",
    "Govern the processes of this unit of the system manager.",
);
/// A slice.
pub const SLICE: KeyDoc = KeyDoc::optional(
    "govern.slice",
    "name of a slice",
    "another key names the processes",
    "Govern the processes below this slice of the system manager.",
);
/// A label.
pub const CONTAINER_LABEL: KeyDoc = KeyDoc::optional(
    "govern.container_label",
    "`name=value`",
    "another key names the processes",
    "Govern the processes of containers with this label.",
);
/// A program.
pub const PROGRAM: KeyDoc = KeyDoc::optional(
    "govern.program",
    "absolute path",
    "another key names the processes",
    "Govern the processes that run this program.",
);

/// The `[[govern]]` blocks of a file. What is wrong is among the table's problems.
pub fn read(table: &Table<'_>) -> Vec<Govern> {
    table.tables("govern").iter().filter_map(block).collect()
}

fn block(table: &Table<'_>) -> Option<Govern> {
    let selector = |key: &str, kind, value: &str| match Selector::new(kind, value) {
        Ok(selector) => Some(selector.value().to_owned()),
        Err(error) => {
            let text = error.to_string();
            let (what, hint) = text.split_once("; hint: ").unwrap_or((&text, ""));
            table.problem(key, what, Some(hint).filter(|hint| !hint.is_empty()));
            None
        }
    };
    let of = |key: &str, kind| table.optional::<String>(key).and_then(|text| selector(key, kind, &text));
    let label = of("container_label", Key::ContainerLabel);
    let label = label.as_deref().and_then(|label| label.split_once('='));
    let found = [
        of("cgroup", Key::CgroupPath).map(|path| Governed::Cgroup(path.into())),
        of("unit", Key::SystemdUnit).map(Governed::Unit),
        of("slice", Key::SystemdSlice).map(Governed::Slice),
        label
            .map(|(name, value)| Governed::ContainerLabel { name: name.to_owned(), value: value.to_owned() }),
        of("program", Key::ExePath).map(|path| Governed::Program(path.into())),
    ];
    let mut found: Vec<Governed> = found.into_iter().flatten().collect();
    if found.contains(&Governed::Cgroup("/".into())) {
        table.problem(
            "cgroup",
            "the root would govern the host itself, the daemon included",
            Some("name a cgroup below it"),
        );
        return None;
    }
    if found.len() != 1 {
        let hint = "write one of `cgroup`, `unit`, `slice`, `container_label`, `program`";
        table.problem("", "a block names processes in exactly one way", Some(hint));
        return None;
    }
    Some(Govern { what: found.pop()?, place: table.place("") })
}

#[cfg(test)]
mod tests {
    use writ_core::config::{self, Problems};

    use super::*;

    const KEYS: &[KeyDoc] = &[CGROUP, UNIT, SLICE, CONTAINER_LABEL, PROGRAM];

    fn read_all(text: &str) -> Result<Vec<Governed>, String> {
        let mut problems = Problems::default();
        let read = config::read("writd.toml", text, KEYS, &mut problems, |table| Some(read(table)));
        read.map(|all| all.into_iter().map(|one| one.what).collect()).ok_or_else(|| problems.to_string())
    }

    #[test]
    fn each_way_to_name_processes_is_read() {
        let text = "[[govern]]\ncgroup = \"/agents\"\n[[govern]]\nunit = \"ci.service\"\n[[govern]]\nslice = \"agents.slice\"\n\
                    [[govern]]\ncontainer_label = \"team=a=b\"\n[[govern]]\nprogram = \"/usr/bin/coder\"\n";
        let read = read_all(text).unwrap();
        assert_eq!(read.len(), 5);
        assert_eq!(read[3], Governed::ContainerLabel { name: "team".into(), value: "a=b".into() });
    }

    #[test]
    fn what_names_nothing_or_everything_is_refused_with_its_line() {
        for (text, part) in [
            ("[[govern]]\n", "exactly one way"),
            ("[[govern]]\nunit = \"a.service\"\nslice = \"a.slice\"\n", "exactly one way"),
            ("[[govern]]\ncgroup = \"/\"\n", "the daemon included"),
            ("[[govern]]\nunit = \"ci\"\n", "whole name"),
            ("[[govern]]\ncgroup = \"a/../b\"\n", "absolute path"),
            ("[[govern]]\nprogramm = \"/a\"\n", "did you mean `program`"),
        ] {
            let problems = read_all(text).unwrap_err();
            assert!(problems.contains(part) && problems.contains("writd.toml:"), "{text}: {problems}");
        }
    }
}
