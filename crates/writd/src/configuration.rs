//! The configuration as a whole: services, agents and policies, read together and put in force together.
//!
//! A set with any problem in any file gives nothing; the one that is in force stays. Files are read in the order of
//! their names, so that problems and digests do not depend on the folder.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use writ_catalog::{CatalogStore, Services};
use writ_core::config::{Place, Problems};
use writ_core::{AgentName, Layout, Mode, Service};
use writ_policy::{Observed, PolicySet};
use writ_session::Agent;

use crate::governing;

/// A checked set.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// What can be reached.
    pub(crate) services: Services,
    /// Who may be started.
    pub(crate) agents: BTreeMap<AgentName, Arc<Agent>>,
    /// Who may do what.
    pub(crate) policies: Arc<PolicySet>,
    /// SHA-256 over the names and contents of all files, hex.
    pub(crate) digest: String,
}

/// One file: its path and text.
type Text = (PathBuf, String);

impl Configuration {
    /// Reads and checks everything below `/etc/writ` but the daemon's own settings.
    pub(crate) fn read(layout: &Layout) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let services = texts(&layout.services(), "toml", &mut problems);
        let agents = texts(&layout.agents(), "toml", &mut problems);
        let policies = texts(&layout.policies(), "cedar", &mut problems);
        let digest = digest_of(&[&services, &agents, &policies]);

        let named: Vec<_> =
            agents.iter().map(|(path, text)| (stem(path), path.to_string_lossy(), text.as_str())).collect();
        let agents = writ_session::agents(
            named.iter().map(|(stem, path, text)| (stem.as_ref(), path.as_ref(), *text)),
        );
        let agents = agents.unwrap_or_else(|more| {
            problems.append(more);
            BTreeMap::new()
        });
        governing::refuse_scripts(agents.values().flat_map(|agent| &agent.govern), &mut problems);
        let named: Vec<_> =
            services.iter().map(|(path, text)| (path.to_string_lossy(), text.as_str())).collect();
        let services = Services::read(named.iter().map(|(path, text)| (path.as_ref(), *text)), &mut problems);
        // Policies are checked against the services; against none, each would seem to name the unknown.
        let policies = services.as_ref().and_then(|services| {
            let list: Vec<Arc<Service>> = services.iter().cloned().collect();
            PolicySet::load(&policies, &list).map_err(|more| problems.append(more)).ok()
        });
        match (problems.is_empty(), services, policies) {
            (true, Some(services), Some(policies)) => {
                Ok(Self { services, agents, policies: Arc::new(policies), digest })
            }
            _ => Err(problems),
        }
    }

    /// Agents whose actions are observed only.
    pub(crate) fn observed(&self) -> Observed {
        let observed = self.agents.values().filter(|agent| agent.mode == Mode::Observe);
        observed.map(|agent| agent.name.clone()).collect()
    }

    /// Settings that weaken safety.
    pub(crate) fn dangers(&self) -> Vec<String> {
        let services = CatalogStore::new(self.services.clone()).dangers();
        services.into_iter().chain(self.agents.values().flat_map(|agent| named_dangers(agent))).collect()
    }
}

/// The files of a folder with this ending, by name. A folder that is not there is an empty one; a file that cannot be
/// read is a problem.
fn texts(folder: &Path, ending: &str, problems: &mut Problems) -> Vec<Text> {
    let mut unreadable = |path: &Path, error: &std::io::Error| {
        problems.push(Place::file(&path.to_string_lossy()), format!("cannot be read: {error}"), None);
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            unreadable(folder, &error);
            return Vec::new();
        }
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    paths.sort();
    let read = |path: PathBuf| match fs::read_to_string(&path) {
        Ok(text) => Some((path, text)),
        Err(error) => {
            unreadable(&path, &error);
            None
        }
    };
    paths.into_iter().filter_map(read).collect()
}

fn named_dangers(agent: &Agent) -> Vec<String> {
    agent.dangers().into_iter().map(|danger| format!("agent {}: {danger}", agent.name)).collect()
}

fn stem(path: &Path) -> Cow<'_, str> {
    path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default()
}

/// Over lengths, names and contents, so that no two sets look alike.
fn digest_of(groups: &[&Vec<Text>]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for (path, text) in groups.iter().copied().flatten() {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for part in [name.as_bytes(), text.as_bytes()] {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
    }
    hex(context.finish().as_ref())
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

#[cfg(test)]
mod tests {
    use writ_host::durable;

    use super::*;

    fn set(files: &[(&str, &str)]) -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join("etc/writ").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            durable::replace(&path, text.as_bytes(), 0o644).unwrap();
        }
        let layout = Layout::new(dir.path());
        (dir, layout)
    }

    const SERVICE: &str = "name = \"forge\"\nhosts = [\"forge.test\"]\nports = [443]\nprotocol = \"https\"\n\
                           [[operation]]\nname = \"get\"\neffect = \"read\"\nmethods = [\"GET\"]\npath = \"/\"\n";

    #[test]
    fn an_empty_folder_is_a_set_that_permits_nothing() {
        let (_dir, layout) = set(&[]);
        let configuration = Configuration::read(&layout).unwrap();
        assert!(
            configuration.services.is_empty()
                && configuration.agents.is_empty()
                && configuration.policies.is_empty()
        );
    }

    #[test]
    fn problems_of_all_files_come_at_once() {
        let (_dir, layout) = set(&[
            ("services/forge.toml", SERVICE),
            ("services/bad.toml", "name = \"bad\"\nhost = [\"x.test\"]\n"),
            ("agents/a.toml", "owner = \"x\"\nttl_max = 30\n"),
        ]);
        let said = Configuration::read(&layout).unwrap_err().to_string();
        assert!(said.contains("bad.toml:2") && said.contains("a.toml:2"), "{said}");
    }

    #[test]
    fn a_script_is_no_program_to_govern_and_every_other_way_is_read() {
        let block = |way: &str| {
            format!(
                "owner = \"x\"\n[[match]]\nselectors = [\"unix:uid:7\"]\n[[govern]]\nprocesses = {{ {way} }}\n"
            )
        };
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("coder");
        durable::replace(&script, b"#!/bin/sh\n", 0o755).unwrap();
        let program = |path: &Path| format!("program = \"{}\"", path.display());
        let (_dir, layout) = set(&[("agents/a.toml", &block(&program(&script)))]);
        let said = Configuration::read(&layout).unwrap_err().to_string();
        assert!(said.contains("a.toml:5") && said.contains("its interpreter"), "{said}");
        for way in [program(&folder.path().join("later")), "container_label = \"a=b\"".to_owned()] {
            let (_dir, layout) = set(&[("agents/a.toml", &block(&way))]);
            Configuration::read(&layout).unwrap();
        }
    }

    #[test]
    fn the_digest_follows_names_and_contents() {
        let (_d1, l1) = set(&[("services/a.toml", SERVICE)]);
        let (_d2, l2) = set(&[("services/b.toml", SERVICE)]);
        assert_ne!(Configuration::read(&l1).unwrap().digest, Configuration::read(&l2).unwrap().digest);
    }
}
