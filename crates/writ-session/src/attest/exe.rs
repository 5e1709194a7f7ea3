//! The program: path, digest, owner and package of the file that the kernel runs.
//!
//! The path counts only if it leads to that very file from the host's root too: in a mount namespace of its own a process
//! can put anything anywhere. The package is the one that dpkg's lists name; on hosts with another database there is none.
//! Nothing is said of a process that can choose what the kernel shows (see the module above).

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use writ_core::Attestor;
use writ_core::selector::Key;

use super::code::Measured;
use super::digest::Stamp;
use super::{Attest, Facts, Subject, Unknown};

/// The attestor.
#[derive(Debug)]
pub(super) struct Exe {
    /// dpkg's folder.
    packages: PathBuf,
    asked: Mutex<Asked>,
}

/// Packages by path, and of which state of the database.
type Asked = (Option<Stamp>, HashMap<PathBuf, Vec<String>>);

/// Paths whose package is remembered.
const ASKED_MAX: usize = 1_024;

impl Exe {
    pub(super) fn new(packages: PathBuf) -> Self {
        Self { packages, asked: Mutex::default() }
    }

    /// The packages that own this path. The database has one list of paths a package; all are searched, once for each
    /// program and state of the database.
    fn packages_of(&self, path: &Path) -> Vec<String> {
        // Installing, upgrading and removing replace this file.
        let state = rustix::fs::stat(self.packages.join("status")).ok().map(|about| Stamp::from(&about));
        if state.is_none() {
            return Vec::new();
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.0 != state || asked.1.len() >= ASKED_MAX {
            *asked = (state, HashMap::new());
        }
        asked.1.entry(path.to_owned()).or_insert_with(|| search(&self.packages.join("info"), path)).clone()
    }
}

impl Attest for Exe {
    fn attestor(&self) -> Attestor {
        Attestor::Exe
    }

    fn attest(&self, subject: &Subject<'_>, facts: &mut Facts<'_>) -> Result<(), Unknown> {
        if !subject.code.is_provable() {
            let what =
                "it has a user namespace of its own, and can choose what is shown as its program".to_owned();
            return Err(Unknown { attestor: Attestor::Exe, what });
        }
        let Measured { path, sha256, owner, on_host, .. } = &subject.code.program;
        facts.add(Key::ExeSha256, sha256);
        facts.add(Key::ExeOwner, &owner.to_string());
        if *on_host && let Some(text) = path.to_str() {
            facts.add(Key::ExePath, text);
            // A package's file belongs to root; what others put at its path does not come from the package.
            if facts.wants(Key::ExePackage) && *owner == 0 {
                self.packages_of(path).iter().for_each(|package| facts.add(Key::ExePackage, package));
            }
        }
        Ok(())
    }
}

fn search(lists: &Path, path: &Path) -> Vec<String> {
    let Some(text) = path.to_str() else { return Vec::new() };
    // Packages built before `/bin` became a link name the old place.
    let old =
        text.strip_prefix("/usr").filter(|rest| rest.starts_with("/bin/") || rest.starts_with("/sbin/"));
    let Ok(entries) = std::fs::read_dir(lists) else { return Vec::new() };
    let lists = entries.flatten().map(|entry| entry.path());
    let owns = |list: &PathBuf| {
        let lines = File::open(list).map(|file| BufReader::new(file).lines());
        lines.is_ok_and(|mut lines| {
            lines.any(|line| line.is_ok_and(|line| line == text || Some(&*line) == old))
        })
    };
    let named = |list: PathBuf| {
        let name = list.file_stem()?.to_str()?;
        // `libc6:amd64.list` where a package exists for several architectures.
        Some(name.split_once(':').map_or(name, |(name, _)| name).to_owned())
    };
    let mut found: Vec<String> = lists
        .filter(|list| list.extension().is_some_and(|e| e == "list"))
        .filter(owns)
        .filter_map(named)
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[test]
    fn the_attestor_conforms() {
        conformance::check(&Exe::new("/var/lib/dpkg".into()));
    }

    #[test]
    fn the_package_is_found_at_both_places_and_asked_anew_after_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            writ_host::durable::replace(&dir.path().join(name), text.as_bytes(), 0o644).unwrap();
        };
        std::fs::create_dir(dir.path().join("info")).unwrap();
        write("status", "1");
        write("info/dash.list", "/.\n/bin\n/bin/dash\n/usr/share/doc/dash\n");
        write("info/coder:amd64.list", "/usr/bin/coder\n");
        write("info/coder:amd64.md5sums", "/usr/bin/other\n");
        let exe = Exe::new(dir.path().to_owned());
        assert_eq!(exe.packages_of(Path::new("/usr/bin/dash")), ["dash"]);
        assert_eq!(exe.packages_of(Path::new("/usr/bin/coder")), ["coder"]);
        assert!(exe.packages_of(Path::new("/usr/bin/other")).is_empty());
        assert!(exe.packages_of(Path::new("/usr/share/doc")).is_empty(), "a prefix is another path");
        write("info/other.list", "/usr/bin/other\n");
        assert!(
            exe.packages_of(Path::new("/usr/bin/other")).is_empty(),
            "the database says nothing has changed"
        );
        write("status", "22");
        assert_eq!(exe.packages_of(Path::new("/usr/bin/other")), ["other"]);
        assert!(Exe::new("/nonexistent".into()).packages_of(Path::new("/usr/bin/dash")).is_empty());
    }
}
