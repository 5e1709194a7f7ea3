//! Which cgroups and programs the `[[govern]]` blocks come to, and keeping them governed.
//!
//! A unit or slice is a folder below the root's slices: what a user's manager or a service makes below itself is not its.
//! Where blocks overlap, the outermost one governs. The kernel is told the names of all, so that what is not there yet is
//! governed from the moment it is made; what is there already is looked for here.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use writ_capture::{Awaited, GovernId, Subtree};
use writ_core::config::Problems;
use writ_session::{Govern, Governed};

use super::{containers, lock, provide};
use crate::configuration::Configuration;
use crate::world::World;

/// What was last said of blocks, and for which configuration authorities were provided.
#[derive(Default)]
pub(super) struct Known {
    /// Held while something is governed or let go.
    following: Mutex<()>,
    /// By what it is said of.
    said: Mutex<HashMap<PathBuf, String>>,
    provided: Mutex<Option<String>>,
    pub(super) containers: containers::Known,
}

/// So many things are remembered to have been said.
const SAID_MAX: usize = 1_024;

/// The blocks that are meant, by the name that the kernel knows them by.
pub(super) type Wanted = BTreeMap<GovernId, Governed>;

/// A script is executed by its interpreter, which is what the kernel sees: saying so beats governing nothing.
pub(crate) fn refuse_scripts<'b>(blocks: impl IntoIterator<Item = &'b Govern>, problems: &mut Problems) {
    for block in blocks {
        let Governed::Program(path) = &block.processes else { continue };
        if fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"#!")) {
            let hint = "name the `cgroup`, `unit` or `slice` that it runs in";
            let what = "it is a script, and the kernel executes its interpreter";
            problems.push(block.place.clone(), what, Some(hint.to_owned()));
        }
    }
}

/// Governs what the configuration in force names, and lets go what it does not name any more.
pub(crate) async fn follow(world: &Arc<World>) -> anyhow::Result<()> {
    let shared = Arc::clone(world);
    tokio::task::spawn_blocking(move || {
        let _one_at_a_time = lock(&shared.governing.subtrees.following);
        let configuration = shared.configuration.load_full();
        let wanted = wanted(&shared.settings.govern, &configuration);
        let is_new = provide_all(&shared, &configuration, !wanted.is_empty())?;
        apply(&shared, &wanted, is_new)
    })
    .await?
}

/// Every agent that a governed process may turn out to be has an authority. Once for each configuration: whether this is a
/// new one.
fn provide_all(world: &World, configuration: &Configuration, any: bool) -> anyhow::Result<bool> {
    let mut provided = lock(&world.governing.subtrees.provided);
    if !any || provided.as_ref() == Some(&configuration.digest) {
        return Ok(false);
    }
    // What was refused before may be an agent now.
    world.governing.desk.forget();
    for agent in configuration.agents.values().filter(|agent| !agent.blocks.is_empty()) {
        provide(world, agent)?;
    }
    *provided = Some(configuration.digest.clone());
    Ok(true)
}

fn wanted(settings: &[Govern], configuration: &Configuration) -> Wanted {
    let blocks = configuration.agents.values().flat_map(|agent| &agent.govern).chain(settings);
    blocks.filter_map(|block| Some((id(&block.processes)?, block.processes.clone()))).collect()
}

fn apply(world: &Arc<World>, wanted: &Wanted, is_new: bool) -> anyhow::Result<()> {
    let capture = &world.capture;
    let doubt = wanted.values().any(Governed::is_of_containers).then(containers::doubt).flatten();
    // Before it is looked for what is there: nothing falls in between.
    let awaited: Vec<_> = wanted.iter().flat_map(|(id, processes)| awaited(processes, *id)).collect();
    capture.await_cgroups(&awaited, doubt)?;

    let below = (capture.hierarchy(), capture.watched());
    let found = wanted
        .iter()
        .flat_map(|(id, processes)| resolve(below, processes).into_iter().map(|path| (path, *id)));
    let outer = outermost(found.collect());
    let standing = capture.governed();
    for subtree in standing.iter().filter(|subtree| !stays(subtree, wanted, (&outer, doubt))) {
        let others = standing.iter().any(|other| other.id == subtree.id && other.path != subtree.path);
        let done = if others { capture.let_go(&subtree.path) } else { capture.ungovern(subtree.id) };
        told_gone(world, &subtree.path, done);
    }
    for (path, id) in &outer {
        if is_new || !standing.iter().any(|subtree| subtree.id == *id && subtree.path == *path) {
            govern(world, path, *id);
        }
    }
    for id in capture.programs().into_iter().filter(|id| !wanted.contains_key(id)) {
        told_gone(world, Path::new("a program"), capture.ungovern(id));
    }
    for (id, processes) in wanted {
        if let Governed::Program(path) = processes {
            told(world, path, capture.govern_program(path, *id));
        }
    }
    if doubt.is_some() {
        containers::look(world, wanted, &outer, is_new);
    }
    Ok(())
}

/// Governs a cgroup that is there.
pub(super) fn govern(world: &Arc<World>, path: &Path, id: GovernId) {
    told(world, path, world.capture.govern(path, id));
}

/// What came of it; whoever was there is looked at.
fn told(world: &Arc<World>, path: &Path, governed: Result<writ_capture::Governed, writ_capture::Error>) {
    match governed {
        Ok(governed) => {
            lock(&world.governing.subtrees.said).remove(path);
            let (cut, left) = (governed.connections.cut, governed.connections.left.len());
            if !governed.processes.is_empty() || cut > 0 {
                tracing::info!(target: "writ::govern", path = %path.display(), cut, left, "governed");
            }
            super::look_at_all(world, governed.processes);
        }
        Err(error) => say(world, path, || format!("`{}` cannot be governed: {error}", path.display())),
    }
}

fn told_gone(world: &World, path: &Path, done: Result<(), writ_capture::Error>) {
    match done {
        Ok(()) => {
            lock(&world.governing.subtrees.said).remove(path);
            tracing::info!(target: "writ::govern", path = %path.display(), "let go");
        }
        Err(error) => say(world, path, || format!("`{}` cannot be let go: {error}", path.display())),
    }
}

/// Whether a subtree may stay as it is: it is what its block means. A container stays what it is, unless a block that governs
/// what is around it covers it.
fn stays(
    subtree: &Subtree,
    wanted: &Wanted,
    (outer, doubt): (&[(PathBuf, GovernId)], Option<GovernId>),
) -> bool {
    let is_meant = outer.iter().any(|(path, id)| *path == subtree.path && *id == subtree.id);
    let is_container =
        Some(subtree.id) == doubt || wanted.get(&subtree.id).is_some_and(Governed::is_of_containers);
    is_meant || is_container && !covered(&subtree.path, outer)
}

pub(super) fn covered(path: &Path, outer: &[(PathBuf, GovernId)]) -> bool {
    outer.iter().any(|(above, _)| path.starts_with(above))
}

/// Says something once, until it is something else.
pub(super) fn say(world: &World, about: &Path, text: impl FnOnce() -> String) {
    let text = text();
    let mut said = lock(&world.governing.subtrees.said);
    if said.len() >= SAID_MAX {
        said.clear();
    }
    let before = said.insert(about.to_owned(), text.clone());
    if before.as_ref() != Some(&text) {
        tracing::warn!(target: "writ::govern", "{text}");
    }
}

/// Without those that lie below another one.
fn outermost(mut found: Vec<(PathBuf, GovernId)>) -> Vec<(PathBuf, GovernId)> {
    found.sort();
    let mut outer: Vec<(PathBuf, GovernId)> = Vec::new();
    for (path, id) in found {
        if !covered(&path, &outer) {
            outer.push((path, id));
        }
    }
    outer
}

/// A block's name to the kernel: the same after every restart, as it comes from what the block says.
fn id(processes: &Governed) -> Option<GovernId> {
    let named = digest::digest(&digest::SHA256, processes.to_string().as_bytes());
    let number = u32::from_be_bytes(*named.as_ref().first_chunk()?) & containers::BLOCKS;
    // Zero means that nothing governs.
    let of_cgroups = GovernId::new(number.max(1));
    if matches!(processes, Governed::Program(_)) { GovernId::of_program(number) } else { of_cgroups }
}

/// What the kernel is told of a block.
fn awaited(processes: &Governed, id: GovernId) -> Vec<(Awaited, GovernId)> {
    match processes {
        Governed::Cgroup(path) => vec![(Awaited::Path(path.clone()), id)],
        Governed::Unit(name) | Governed::Slice(name) => {
            names(name).map(|name| (Awaited::Unit(name), id)).into()
        }
        Governed::ContainerLabel { .. } | Governed::Program(_) => Vec::new(),
    }
}

/// systemd puts `_` before names that mean something to the kernel.
fn names(unit: &str) -> [String; 2] {
    [unit.to_owned(), format!("_{unit}")]
}

/// The folders that are there. Each lies below the cgroup that is watched, or cannot be governed.
fn resolve((hierarchy, watched): (&Path, &Path), processes: &Governed) -> Vec<PathBuf> {
    match processes {
        Governed::Cgroup(path) => {
            let path = hierarchy.join(path.strip_prefix("/").unwrap_or(path));
            fs::canonicalize(path).ok().filter(|path| path.is_dir()).into_iter().collect()
        }
        Governed::Unit(name) | Governed::Slice(name) => {
            let above = watched.strip_prefix(hierarchy).unwrap_or(watched);
            let is_slice = |part: &Path| part.extension().is_some_and(|kind| kind == "slice");
            if above.components().all(|part| is_slice(part.as_ref())) {
                below_slices(watched, name)
            } else {
                Vec::new()
            }
        }
        Governed::ContainerLabel { .. } | Governed::Program(_) => Vec::new(),
    }
}

/// Looks for a unit's folder: at the root, or below slices only. A service manager has one, and there may be several managers.
fn below_slices(root: &Path, name: &str) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = left.pop() {
        found.extend(names(name).map(|name| folder.join(name)).into_iter().filter(|path| path.is_dir()));
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        left.extend(entries.filter(|path| path.extension().is_some_and(|kind| kind == "slice")));
    }
    found
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
        let below = |watched: &str, processes: Governed| {
            let found = resolve((dir.path(), &dir.path().join(watched)), &processes).into_iter().next()?;
            let root = [dir.path().canonicalize().unwrap(), dir.path().to_owned()];
            let below = root.iter().find_map(|root| found.strip_prefix(root).ok()).unwrap();
            Some(below.to_str().unwrap().to_owned())
        };
        let at = |processes: Governed| below("", processes);
        let unit = |name: &str| at(Governed::Unit(name.to_owned()));
        assert_eq!(unit("ci.service").unwrap(), "system.slice/ci.service");
        assert_eq!(unit("x.service").unwrap(), "a.slice/a-b.slice/_x.service");
        assert_eq!((unit("inner.service"), unit("own.service")), (None, None));
        assert_eq!(at(Governed::Slice("a-b.slice".to_owned())).unwrap(), "a.slice/a-b.slice");
        assert_eq!(at(Governed::Slice("app.slice".to_owned())), None);
        assert_eq!(at(Governed::Cgroup("/a.slice".into())).unwrap(), "a.slice");
        assert_eq!(at(Governed::Cgroup("/b.slice".into())), None);
        assert_eq!(
            below("a.slice", Governed::Unit("ci.service".to_owned())),
            None,
            "not below what is watched"
        );
        assert!(below("a.slice", Governed::Unit("x.service".to_owned())).is_some());
        let inner = Governed::Unit("own.service".to_owned());
        assert_eq!(below("user.slice/user-7.slice/user@7.service", inner), None, "a service made that");
    }

    #[test]
    fn a_block_has_the_same_id_always_and_another_one_another() {
        let unit = |name: &str| id(&Governed::Unit(name.to_owned()));
        assert_eq!(unit("a.service"), unit("a.service"));
        assert_ne!(unit("a.service"), unit("b.service"));
        assert_ne!(unit("a.slice"), id(&Governed::Slice("a.slice".to_owned())));
        let program = id(&Governed::Program("/a".into())).unwrap();
        assert!(program.is_program() && !unit("a.service").unwrap().is_program());
    }

    #[test]
    fn the_outermost_of_overlapping_subtrees_governs() {
        let ids = [1, 2, 3].map(|n| GovernId::new(n).unwrap());
        let found = [("/a/b", ids[0]), ("/a", ids[1]), ("/ab", ids[2])];
        let found = found.map(|(path, id)| (PathBuf::from(path), id)).to_vec();
        let outer = outermost(found);
        assert_eq!(outer, [(PathBuf::from("/a"), ids[1]), (PathBuf::from("/ab"), ids[2])]);
        let wanted: Wanted = ids.map(|id| (id, Governed::Cgroup("/".into()))).into();
        let label = Governed::ContainerLabel { name: "team".to_owned(), value: "a".to_owned() };
        let (container, doubt) = (id(&label).unwrap(), containers::doubt());
        let wanted: Wanted = wanted.into_iter().chain([(container, label)]).collect();
        let stays = |path: &str, id| {
            let subtree = Subtree { id, path: path.into() };
            stays(&subtree, &wanted, (&outer, doubt))
        };
        assert!(stays("/a", ids[1]));
        assert!(!stays("/a/b", ids[0]), "covered by now");
        assert!(!stays("/elsewhere", ids[1]), "its block means another place");
        assert!(stays("/c", container) && stays("/c", doubt.unwrap()));
        assert!(!stays("/a/c", container), "covered by what is around it");
        assert!(!stays("/c", GovernId::new(9).unwrap()), "of a block that is gone");
    }
}
