//! Labels: for which run a process acts.
//!
//! The daemon writes a label, the kernel copies it to descendants, and believes it only for the program that it was made
//! for: the label carries the number of programs that the process had executed when it was looked at.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use libbpf_rs::{MapCore as _, MapFlags};
use writ_core::{Process, RunId, RunTag};

use crate::capture::{Capture, update};
use crate::cgroup;
use crate::error::Error;
use crate::govern::{GovernId, Subtree};
use crate::process;
use crate::record::{self, Label};

/// How often processes are looked for again, while new ones appear under the same label.
const ROUNDS: usize = 16;

impl Capture {
    /// Gives a governed process a run, which goes on to the processes that it starts from now on and to
    /// whatever they execute. Nothing moves.
    ///
    /// `looked_at` is the process as it was when it was looked at ([`Origin::process`], or [`Capture::process`] before
    /// looking). If it is another one by now, or has executed another program since, this fails and it stays held.
    ///
    /// [`Origin::process`]: crate::Origin::process
    pub fn assign(&self, pidfd: BorrowedFd<'_>, looked_at: &Process, run: RunId) -> Result<GovernId, Error> {
        let pid = looked_at.pid;
        let refused = |why| Error::Assign { pid, why };
        let id = self.governs_process(pid).ok_or(refused("nothing governs it"))?;
        if !process::is_the_one(looked_at) {
            return Err(refused("another process has its pid by now"));
        }
        let generation = looked_at.exec_generation;
        let executed = "it executed another program meanwhile";
        if self.generation(pidfd) != generation {
            return Err(refused(executed));
        }
        self.label(pidfd, pid, Label { run: run.tag(), governed: Some(id), generation })?;
        // Whatever happened until here happened to the process behind the pidfd. Had it executed another program, the
        // kernel would not believe the label; this only says so.
        let why = if !process::is_alive(pidfd) {
            "it has ended"
        } else if self.generation(pidfd) != generation {
            executed
        } else if self.governs_process(pid) != Some(id) {
            "it has left what it was governed by"
        } else {
            return Ok(id);
        };
        self.unassign(pidfd, pid);
        Err(refused(why))
    }

    /// Takes the run from a process. Its next connection is held again; those that it has, and its descendants, stay
    /// what they are ([`Capture::unassign_run`], [`Capture::cut_run`]).
    pub fn unassign(&self, pidfd: BorrowedFd<'_>, pid: u32) {
        drop(self.maps.tgid_label.delete(&pid.to_ne_bytes()));
        drop(self.maps.task_label.delete(&pidfd.as_raw_fd().to_ne_bytes()));
    }

    /// Takes a run from every process that was assigned it or inherited it.
    pub fn unassign_run(&self, run: RunId) -> Result<(), Error> {
        let is_its = |label: &Label| label.run == run.tag() && label.governed.is_some();
        self.unlabel(&self.governed(), is_its)
    }

    /// The governed processes that act for this run. When the last of them is gone, so is the run.
    pub fn assigned(&self, run: RunId) -> Result<Vec<Process>, Error> {
        let of_run = |pid: u32| {
            let pidfd = process::handle(pid)?;
            (self.run_of(pidfd.as_fd()) == Some(run.tag())).then(|| self.process(pid, pidfd.as_fd()))?
        };
        Ok(self.candidates(&self.governed())?.into_iter().filter_map(of_run).collect())
    }

    /// The processes that can have been assigned a run: those of these subtrees, and any where programs are governed.
    fn candidates(&self, subtrees: &[Subtree]) -> Result<Vec<u32>, Error> {
        if self.governs_programs() {
            return Ok(process::all());
        }
        let mut all = Vec::new();
        for subtree in subtrees {
            all.extend(cgroup::processes(&subtree.path)?);
        }
        Ok(all)
    }

    /// The process behind a pidfd, with the number of programs that it has executed so far under the kernel's eyes.
    /// `None` if it has ended.
    pub fn process(&self, pid: u32, pidfd: BorrowedFd<'_>) -> Option<Process> {
        let exec_generation = self.generation(pidfd);
        let start_us = process::started_us(pid)?;
        process::is_alive(pidfd).then_some(Process { exec_generation, pid, start_us })
    }

    /// The run that a process acts for, by its label.
    pub fn run_of(&self, pidfd: BorrowedFd<'_>) -> Option<RunTag> {
        let label = self.label_of(pidfd)?;
        (label.generation == self.generation(pidfd)).then_some(label.run)
    }

    /// Labels a process. The generation that it is made for must be that of the program that was looked at.
    pub(crate) fn label(&self, pidfd: BorrowedFd<'_>, pid: u32, label: Label) -> Result<(), Error> {
        // The label goes by the pidfd, which can mean no other process.
        update(&self.maps.task_label, &pidfd.as_raw_fd().to_ne_bytes(), &label.bytes(), "a label")?;
        update(&self.maps.tgid_label, &pid.to_ne_bytes(), &label.bytes(), "a label")
    }

    pub(crate) fn label_of(&self, pidfd: BorrowedFd<'_>) -> Option<Label> {
        Label::read(&self.maps.task_label.lookup(&pidfd.as_raw_fd().to_ne_bytes(), MapFlags::ANY).ok()??)
    }

    /// How many programs the process has executed under the kernel's eyes.
    pub(crate) fn generation(&self, pidfd: BorrowedFd<'_>) -> u32 {
        let program = self.maps.task_program.lookup(&pidfd.as_raw_fd().to_ne_bytes(), MapFlags::ANY);
        program.ok().flatten().and_then(|bytes| record::generation(&bytes)).unwrap_or(0)
    }

    /// Removes labels, and those that were inherited meanwhile.
    pub(crate) fn unlabel(&self, subtrees: &[Subtree], which: impl Fn(&Label) -> bool) -> Result<(), Error> {
        for _ in 0..ROUNDS {
            let mut found = false;
            for pid in self.candidates(subtrees)? {
                let Some(pidfd) = process::handle(pid) else { continue };
                if self.label_of(pidfd.as_fd()).is_some_and(|label| which(&label)) {
                    self.unassign(pidfd.as_fd(), pid);
                    found = true;
                }
            }
            if !found {
                return Ok(());
            }
        }
        Err(Error::Labels)
    }
}
