//! Which cgroups the `[[govern]]` blocks come to, and keeping them governed.
//!
//! A unit or slice is a folder below the root's slices: what a user's manager or a service makes below itself is not its.
//! Where blocks overlap, the outermost one governs. A cgroup that is not there yet is looked for again every second; what
//! starts in it is open until then, and its connections are cut when it is governed.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use writ_capture::{GovernId, Subtree};
use writ_core::config::Problems;
use writ_core::{AgentName, Process};
use writ_session::{Agent, Governed};

use super::{lock, provide};
use crate::configuration::Configuration;
use crate::world::World;

/// What was last said of subtrees, and for which configuration authorities were provided.
#[derive(Default)]
pub(super) struct Known {
    /// Held while subtrees are governed or let go.
    following: Mutex<()>,
    said: Mutex<HashMap<GovernId, String>>,
    provided: Mutex<Option<String>>,
}

/// Blocks whose processes no cgroup tells: saying so beats governing nothing.
pub(crate) fn refuse_unresolvable(agents: &BTreeMap<AgentName, Arc<Agent>>, problems: &mut Problems) {
    for block in agents.values().flat_map(|agent| &agent.govern) {
        let what = match block.processes {
            Governed::Cgroup(_) | Governed::Unit(_) | Governed::Slice(_) => continue,
            Governed::ContainerLabel { .. } => "containers cannot be governed by their labels yet",
            Governed::Program(_) => "processes cannot be governed by their program yet",
        };
        let hint = "name the `cgroup`, `unit` or `slice` that they are in";
        problems.push(block.place.clone(), what, Some(hint.to_owned()));
    }
}

/// Governs what the configuration in force names, and lets go what it does not name any more.
pub(crate) async fn follow(world: &Arc<World>) -> anyhow::Result<()> {
    let shared = Arc::clone(world);
    tokio::task::spawn_blocking(move || {
        let _one_at_a_time = lock(&shared.governing.subtrees.following);
        let configuration = shared.configuration.load_full();
        let wanted = wanted(&configuration);
        let provided = provide_all(&shared, &configuration, !wanted.is_empty());
        apply(&shared, &wanted);
        provided
    })
    .await?
}

/// The processes of all governed subtrees.
pub(super) fn processes(world: &World) -> Vec<Process> {
    let _one_at_a_time = lock(&world.governing.subtrees.following);
    let subtrees = world.capture.governed().into_iter().filter(|subtree| subtree.present);
    // Governed again, each is looked at again.
    let again = subtrees.filter_map(|subtree| world.capture.govern(&subtree.path, subtree.id).ok());
    again.flat_map(|governed| governed.processes).collect()
}

/// Every agent that a governed process may turn out to be has an authority. Once for each configuration.
fn provide_all(world: &World, configuration: &Configuration, any: bool) -> anyhow::Result<()> {
    let mut provided = lock(&world.governing.subtrees.provided);
    if !any || provided.as_ref() == Some(&configuration.digest) {
        return Ok(());
    }
    // What was refused before may be an agent now.
    world.governing.desk.forget();
    for agent in configuration.agents.values().filter(|agent| !agent.blocks.is_empty()) {
        provide(world, agent)?;
    }
    *provided = Some(configuration.digest.clone());
    Ok(())
}

fn wanted(configuration: &Configuration) -> BTreeMap<GovernId, Governed> {
    let blocks = configuration.agents.values().flat_map(|agent| &agent.govern);
    blocks.filter_map(|block| Some((id(&block.processes)?, block.processes.clone()))).collect()
}

fn apply(world: &Arc<World>, wanted: &BTreeMap<GovernId, Governed>) {
    let found = wanted.iter().filter_map(|(id, processes)| {
        let path = resolve(world.capture.hierarchy(), processes);
        if path.is_none() {
            say(world, *id, || format!("{} is not there yet", Named(processes)));
        }
        Some((path?, *id))
    });
    let outer = outermost(found.collect());
    let standing = world.capture.governed();
    for subtree in standing.iter().filter(|subtree| !stays(subtree, wanted, &outer)) {
        match world.capture.ungovern(subtree.id) {
            Ok(()) => tracing::info!(target: "writ::govern", path = %subtree.path.display(), "let go"),
            Err(error) => say(world, subtree.id, || format!("it cannot be let go: {error}")),
        }
        lock(&world.governing.subtrees.said).remove(&subtree.id);
    }
    for (path, id) in outer {
        if standing.iter().any(|subtree| subtree.id == id && subtree.present && subtree.path == path) {
            continue;
        }
        match world.capture.govern(&path, id) {
            Ok(governed) => {
                lock(&world.governing.subtrees.said).remove(&id);
                let (cut, left) = (governed.connections.cut, governed.connections.left.len());
                tracing::info!(target: "writ::govern", path = %path.display(), cut, left, "governed");
                super::look_at_all(world, governed.processes);
            }
            Err(error) => say(world, id, || format!("{} cannot be governed: {error}", path.display())),
        }
    }
}

/// Whether a subtree may stay as it is: it is where its block is, or was there and may come back.
fn stays(subtree: &Subtree, wanted: &BTreeMap<GovernId, Governed>, outer: &[(PathBuf, GovernId)]) -> bool {
    let meant = outer.iter().find(|(_, id)| *id == subtree.id);
    let covered = outer.iter().any(|(path, _)| subtree.path.starts_with(path));
    meant.map_or_else(|| wanted.contains_key(&subtree.id) && !covered, |(path, _)| *path == subtree.path)
}

/// Says something once, until it is something else.
fn say(world: &World, id: GovernId, text: impl FnOnce() -> String) {
    let text = text();
    let before = lock(&world.governing.subtrees.said).insert(id, text.clone());
    if before.as_ref() != Some(&text) {
        tracing::warn!(target: "writ::govern", "{text}");
    }
}

/// Without those that lie below another one.
fn outermost(mut found: Vec<(PathBuf, GovernId)>) -> Vec<(PathBuf, GovernId)> {
    found.sort();
    let mut outer: Vec<(PathBuf, GovernId)> = Vec::new();
    for (path, id) in found {
        if !outer.iter().any(|(above, _)| path.starts_with(above)) {
            outer.push((path, id));
        }
    }
    outer
}

/// A block's name to the kernel: the same after every restart, as it comes from what the block says.
fn id(processes: &Governed) -> Option<GovernId> {
    let named = digest::digest(&digest::SHA256, Named(processes).to_string().as_bytes());
    // Zero means no subtree.
    GovernId::new(u32::from_be_bytes(*named.as_ref().first_chunk()?).max(1))
}

struct Named<'a>(&'a Governed);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Governed::Cgroup(path) => write!(f, "cgroup {}", path.display()),
            Governed::Unit(name) => write!(f, "unit {name}"),
            Governed::Slice(name) => write!(f, "slice {name}"),
            Governed::ContainerLabel { name, value } => write!(f, "container label {name}={value}"),
            Governed::Program(path) => write!(f, "program {}", path.display()),
        }
    }
}

fn resolve(hierarchy: &Path, processes: &Governed) -> Option<PathBuf> {
    let path = match processes {
        Governed::Cgroup(path) => hierarchy.join(path.strip_prefix("/").unwrap_or(path)),
        Governed::Unit(name) | Governed::Slice(name) => below_slices(hierarchy, name)?,
        Governed::ContainerLabel { .. } | Governed::Program(_) => return None,
    };
    fs::canonicalize(path).ok().filter(|path| path.is_dir())
}

/// Looks for a unit's folder: at the root, or below slices only.
fn below_slices(hierarchy: &Path, name: &str) -> Option<PathBuf> {
    let mut left = vec![hierarchy.to_owned()];
    while let Some(folder) = left.pop() {
        let here = [folder.join(name), folder.join(format!("_{name}"))];
        if let Some(found) = here.into_iter().find(|path| path.is_dir()) {
            return Some(found);
        }
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        left.extend(entries.filter(|path| path.extension().is_some_and(|kind| kind == "slice")));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_found_below_slices_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str| fs::create_dir_all(dir.path().join(path)).unwrap();
        make("system.slice/ci.service/inner.service");
        make("a.slice/a-b.slice/_x.service");
        make("user.slice/user-7.slice/user@7.service/app.slice/own.service");
        let at = |processes: Governed| {
            let path = resolve(dir.path(), &processes)?;
            let below = path.strip_prefix(dir.path().canonicalize().unwrap()).unwrap();
            Some(below.to_str().unwrap().to_owned())
        };
        let unit = |name: &str| at(Governed::Unit(name.to_owned()));
        assert_eq!(unit("ci.service").unwrap(), "system.slice/ci.service");
        assert_eq!(unit("x.service").unwrap(), "a.slice/a-b.slice/_x.service");
        assert_eq!((unit("inner.service"), unit("own.service")), (None, None));
        assert_eq!(at(Governed::Slice("a-b.slice".to_owned())).unwrap(), "a.slice/a-b.slice");
        assert_eq!(at(Governed::Slice("app.slice".to_owned())), None);
        assert_eq!(at(Governed::Cgroup("/a.slice".into())).unwrap(), "a.slice");
        assert_eq!(at(Governed::Cgroup("/b.slice".into())), None);
    }

    #[test]
    fn a_block_has_the_same_id_always_and_another_one_another() {
        let unit = |name: &str| id(&Governed::Unit(name.to_owned()));
        assert_eq!(unit("a.service"), unit("a.service"));
        assert_ne!(unit("a.service"), unit("b.service"));
        assert_ne!(unit("a.slice"), id(&Governed::Slice("a.slice".to_owned())));
    }

    #[test]
    fn the_outermost_of_overlapping_subtrees_governs() {
        let ids = [1, 2, 3].map(|n| GovernId::new(n).unwrap());
        let found = [("/a/b", ids[0]), ("/a", ids[1]), ("/ab", ids[2])];
        let found = found.map(|(path, id)| (PathBuf::from(path), id)).to_vec();
        let outer = outermost(found);
        assert_eq!(outer, [(PathBuf::from("/a"), ids[1]), (PathBuf::from("/ab"), ids[2])]);
        let wanted: BTreeMap<_, _> = ids.map(|id| (id, Governed::Cgroup("/".into()))).into();
        let standing = |path: &str, id| Subtree { id, path: path.into(), present: true };
        assert!(stays(&standing("/a", ids[1]), &wanted, &outer));
        assert!(!stays(&standing("/a/b", ids[0]), &wanted, &outer), "covered by now");
        assert!(!stays(&standing("/elsewhere", ids[1]), &wanted, &outer), "its block means another place");
        assert!(stays(&standing("/gone", ids[0]), &wanted, &[]), "not there now, and still meant");
        assert!(!stays(&standing("/gone", ids[0]), &BTreeMap::new(), &[]));
    }
}
