//! `[[govern]]`: processes that are governed without having been launched by Writ.
//!
//! Parsed and checked here; what that comes to on this host, and how it is held, is for others. The same blocks stand in an
//! agent's file and in `writd.toml`.

use std::fmt;
use std::path::PathBuf;

use writ_core::Selector;
use writ_core::config::{KeyDoc, Place, Setting, Table, Value, Wrong};
use writ_core::selector::Key;

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Govern {
    /// Which processes.
    pub processes: Governed,
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

impl Governed {
    /// Whether it names containers.
    pub fn is_of_containers(&self) -> bool {
        matches!(self, Self::ContainerLabel { .. })
    }
}

impl fmt::Display for Governed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(path) => write!(f, "cgroup {}", path.display()),
            Self::Unit(name) => write!(f, "unit {name}"),
            Self::Slice(name) => write!(f, "slice {name}"),
            Self::ContainerLabel { name, value } => write!(f, "container label {name}={value}"),
            Self::Program(path) => write!(f, "program {}", path.display()),
        }
    }
}

/// The key of a block, for the keys of the file that it stands in.
pub const KEY: KeyDoc = KeyDoc::required(
    "govern.processes",
    "one of `{ cgroup = \"/path\" }`, `{ unit = \"x.service\" }`, `{ slice = \"x.slice\" }`, `{ container_label = \
     \"name=value\" }`, `{ program = \"/path\" }`",
    "Processes to govern although they were not started by `writ run`: those in or below a cgroup, of a unit, below a \
     slice, in containers with a label, or that executed a program, with all that they start. From their first \
     instruction; they are refused unless they match an agent.",
);

impl Setting for Governed {
    const EXPECTED: &'static str = "one way to name processes";
    const EXAMPLE: &'static str = "{ unit = \"coder.service\" }";

    fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let (way, value) = value.entry()?;
        // Spelled as the selector of the same thing is.
        let spelled = |key| {
            let selector = Selector::new(key, value.text()?).map_err(Wrong::content)?;
            Ok::<_, Wrong>(selector.value().to_owned())
        };
        match way {
            "cgroup" => match spelled(Key::CgroupPath)? {
                root if root == "/" => Err(Wrong::content(
                    "the root would govern the host itself, the daemon included; hint: name a cgroup below it",
                )),
                path => Ok(Self::Cgroup(path.into())),
            },
            "unit" => spelled(Key::SystemdUnit).map(Self::Unit),
            "slice" => spelled(Key::SystemdSlice).map(Self::Slice),
            "container_label" => {
                let label = spelled(Key::ContainerLabel)?;
                let (name, value) = label.split_once('=').unwrap_or((&label, ""));
                Ok(Self::ContainerLabel { name: name.to_owned(), value: value.to_owned() })
            }
            "program" => spelled(Key::ExePath).map(|path| Self::Program(path.into())),
            _ => Err(Wrong::content(format!(
                "`{way}` names no processes; hint: write one of `cgroup`, `unit`, `slice`, `container_label`, `program`"
            ))),
        }
    }
}

/// The `[[govern]]` blocks of a file. What is wrong is among the table's problems.
pub fn read(table: &Table<'_>) -> Vec<Govern> {
    let block = |block: &Table<'_>| {
        Some(Govern { processes: block.required("processes")?, place: block.place("processes") })
    };
    table.tables("govern").iter().filter_map(block).collect()
}

#[cfg(test)]
mod tests {
    use writ_core::config::{self, Problems};

    use super::*;

    fn read_all(text: &str) -> Result<Vec<Governed>, String> {
        let mut problems = Problems::default();
        let read = config::read("writd.toml", text, &[KEY], &mut problems, |table| Some(read(table)));
        read.map(|all| all.into_iter().map(|one| one.processes).collect()).ok_or_else(|| problems.to_string())
    }

    #[test]
    fn each_way_to_name_processes_is_read() {
        let ways = [
            "cgroup = \"/agents\"",
            "unit = \"ci.service\"",
            "slice = \"agents.slice\"",
            "container_label = \"team=a=b\"",
            "program = \"/usr/bin/coder\"",
        ];
        let text = ways.map(|way| format!("[[govern]]\nprocesses = {{ {way} }}\n")).concat();
        let read = read_all(&text).unwrap();
        assert_eq!(read.len(), 5);
        assert_eq!(read[0], Governed::Cgroup("/agents".into()));
        assert_eq!(read[3], Governed::ContainerLabel { name: "team".into(), value: "a=b".into() });
        assert_eq!(read[4], Governed::Program("/usr/bin/coder".into()));
    }

    #[test]
    fn what_names_nothing_or_everything_is_refused_with_its_line() {
        for (text, part) in [
            ("[[govern]]\n", "`govern[0].processes`: missing"),
            ("[[govern]]\nprocesses = { unit = \"a.service\", slice = \"a.slice\" }\n", "one key, found 2"),
            ("[[govern]]\nprocesses = { cgroup = \"/\" }\n", "the daemon included"),
            ("[[govern]]\nprocesses = { unit = \"ci\" }\n", "whole name"),
            ("[[govern]]\nprocesses = { cgroup = \"a/../b\" }\n", "absolute path"),
            ("[[govern]]\nprocesses = { programm = \"/a\" }\n", "`program`"),
            ("[[govern]]\nprocess = { program = \"/a\" }\n", "did you mean `processes`"),
        ] {
            let problems = read_all(text).unwrap_err();
            assert!(problems.contains(part) && problems.contains("writd.toml:"), "{text}: {problems}");
        }
    }
}
