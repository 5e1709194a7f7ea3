//! Containers that are governed by a label.
//!
//! The kernel holds each new container until it is known whether it is meant. What its runtime says decides; while it says
//! nothing, the container stays held. One that was there before and of which nothing is said stays open, and is asked for
//! again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use writ_capture::GovernId;
use writ_session::Governed;

use super::lock;
use super::subtrees::{Wanted, covered, govern, say};
use crate::world::World;

/// The numbers that blocks are named by; the one above them is for containers that are not known yet.
pub(super) const BLOCKS: u32 = 0x3fff_ffff;
/// Levels of cgroups above a container.
const DEPTH_MAX: usize = 8;

/// Containers that were there and of which nothing was said.
#[derive(Default)]
pub(super) struct Known(Mutex<BTreeSet<PathBuf>>);

/// As what a container is governed that is not known yet.
pub(super) fn doubt() -> Option<GovernId> {
    GovernId::new(BLOCKS + 1)
}

/// Decides of every container that is not known yet, and, for a new configuration, of all.
pub(super) fn look(world: &Arc<World>, wanted: &Wanted, outer: &[(PathBuf, GovernId)], all: bool) {
    let mut places: BTreeSet<_> = std::mem::take(&mut *lock(&world.governing.subtrees.containers.0));
    let held = world.capture.governed().into_iter().filter(|subtree| Some(subtree.id) == doubt());
    places.extend(held.map(|subtree| subtree.path));
    if all {
        places.extend(below(world.capture.watched()));
    }
    for path in places.into_iter().filter(|path| path.is_dir() && !covered(path, outer)) {
        decide(world, wanted, &path);
    }
}

fn decide(world: &Arc<World>, wanted: &Wanted, path: &Path) {
    let standing = world.capture.governed().into_iter().find(|subtree| subtree.path == path);
    let is_held = standing.is_some_and(|subtree| Some(subtree.id) == doubt());
    match world.attestors.container_labels(&from_root(world, path)) {
        Ok(Some(labels)) => {
            let has = |processes: &Governed| matches!(processes, Governed::ContainerLabel { name, value } if labels.get(name) == Some(value));
            match wanted.iter().find(|(_, processes)| has(processes)) {
                Some((id, _)) => govern(world, path, *id),
                None if is_held => let_go(world, path),
                None => {}
            }
        }
        Ok(None) if is_held => let_go(world, path),
        Ok(None) => {}
        Err(what) => {
            lock(&world.governing.subtrees.containers.0).insert(path.to_owned());
            let how = if is_held { "stays held" } else { "is not governed" };
            say(world, path, || format!("the container `{}` {how}: {what}", path.display()));
        }
    }
}

fn let_go(world: &World, path: &Path) {
    if let Err(error) = world.capture.let_go(path) {
        tracing::warn!(target: "writ::govern", path = %path.display(), %error, "a container cannot be let go");
    }
}

/// The path as the kernel has it.
fn from_root(world: &World, path: &Path) -> String {
    let below = path.strip_prefix(world.capture.hierarchy()).unwrap_or(path);
    Path::new("/").join(below).to_string_lossy().into_owned()
}

/// The cgroups that may be containers: named by an id.
fn below(watched: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![(watched.to_owned(), 0)]);
    while let Some((folder, depth)) = left.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if !path.is_dir() {
                continue;
            }
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let id = name.trim_end_matches(".scope").rsplit('-').next().unwrap_or_default();
            if id.len() == 64 {
                found.push(path);
            } else if depth < DEPTH_MAX {
                left.push((path, depth + 1));
            }
        }
    }
    found
}
