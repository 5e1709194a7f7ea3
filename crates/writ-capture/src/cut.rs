//! Ending live connections that no relay holds: those of before a subtree was governed, and those of a run that is revoked.

use std::collections::HashSet;
use std::path::Path;

use writ_core::{Process, RunId};

use crate::capture::{Capture, update};
use crate::cgroup;
use crate::diag::{self, Cut, Diag};
use crate::error::Error;
use crate::govern::GovernId;
use crate::record;

impl Capture {
    /// For a run that is revoked: destroys its live connections that were let through untouched, and lets none through
    /// any more. What would pass is led to the relay instead, which refuses it with the reason; processes that were
    /// assigned the run are held again. What goes through the relay ends with the session, and what stays inside the
    /// run's own cgroup stays.
    pub fn cut_run(&self, run: RunId) -> Result<Cut, Error> {
        let assigned = self.assigned(run)?;
        self.unassign_run(run)?;
        if let Ok(id) = cgroup::id(&self.tree.run(run)) {
            let place = record::place_of_run(run.tag(), record::NOTHING_PASSES);
            update(&self.maps.places, &id.to_ne_bytes(), &place, "a run")?;
        }
        let pids: Vec<_> = assigned.iter().map(|process| process.pid).collect();
        Ok(diag::in_networks_of(&pids, &|diag: &Diag| {
            diag.cut(Some(&self.maps.sk_pass), &|socket| {
                let passed = socket.storage.as_deref().and_then(record::passed);
                passed.is_some_and(|(to, tag)| {
                    to == socket.remote && tag == Some(run.tag()) && socket.is_connected()
                })
            })
        }))
    }

    /// Cuts the connections of one process that were made where no hook saw them: in another cgroup, or before it executed
    /// the program by which it is governed. For whoever enters a governed subtree ([`KernelEvent::Entered`]) or executes a
    /// governed program.
    ///
    /// [`KernelEvent::Entered`]: crate::KernelEvent::Entered
    pub fn cut_foreign(&self, entered: &Process) -> Result<Cut, Error> {
        if let Some(subtree) = self.subtree_of(entered.pid) {
            return Ok(cut_standing(&subtree.path, &[entered.pid], false));
        }
        let mark = self.mark_of(entered.pid);
        let mark = mark.ok_or(Error::Assign { pid: entered.pid, why: "nothing governs it" })?;
        Ok(self.cut_brought(&[entered.pid], mark))
    }

    /// Cuts what these processes connected before they were governed by a program: a socket that was made since then has its
    /// home there.
    pub(crate) fn cut_brought(&self, pids: &[u32], id: GovernId) -> Cut {
        if pids.is_empty() {
            return Cut::default();
        }
        let owned: HashSet<u32> = pids.iter().flat_map(|pid| diag::inodes_of(*pid)).collect();
        let home = record::place_of_program(id);
        diag::in_networks_of(pids, &|diag: &Diag| {
            diag.cut(Some(&self.maps.sk_home), &|socket| {
                let is_foreign = socket.storage.as_deref() != Some(&home[..]);
                is_foreign && socket.is_connected() && owned.contains(&socket.inode)
            })
        })
    }
}

/// Cuts what these processes had open before the hooks could see it: all connections of the subtree if it is new, and
/// always those that were made in another cgroup.
pub(crate) fn cut_standing(path: &Path, pids: &[u32], is_new: bool) -> Cut {
    let inside = cgroup::ids(path);
    let owned: HashSet<u32> = pids.iter().flat_map(|pid| diag::inodes_of(*pid)).collect();
    diag::in_networks_of(pids, &|diag: &Diag| {
        diag.cut(None, &|socket| {
            if inside.contains(&socket.cgroup) {
                is_new && socket.is_connected()
            } else {
                owned.contains(&socket.inode)
            }
        })
    })
}
