//! What the kernel reports: refusals, executed programs, exits, and tasks that left their cgroup.
//!
//! Events are for evidence and lineage, never for decisions about a connection. The ring buffer does not wake anyone
//! for most of them: it is read on a timer, and whoever needs what is already in it asks for it now
//! ([`Events::drain`]).

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libbpf_rs::{RingBuffer, RingBufferBuilder};
use tokio::sync::mpsc;
use writ_core::{Process, RunTag};

use crate::capture::Capture;
use crate::error::Error;
use crate::govern::GovernId;
use crate::record::Event;
use crate::syscall;

/// `enum event_kind` of `writ.h`.
const REFUSED: u32 = 1;
const EXECUTED: u32 = 2;
const EXITED: u32 = 3;
const LEFT_CGROUP: u32 = 4;
const ENTERED: u32 = 5;
const MADE: u32 = 6;
const UNHEARD: u32 = 7;
/// How often the ring buffer is read.
const PERIOD: Duration = Duration::from_millis(20);
/// Events that wait for the daemon; more are dropped and counted as lost.
const QUEUE: usize = 4096;
/// Processes whose lineage is kept.
const PROCESSES_MAX: usize = 65_536;
/// Programs in one lineage.
const LINEAGE_MAX: usize = 16;

/// For whom a process acts, as far as the kernel knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// For a run.
    Run(RunTag),
    /// For nobody yet: it is governed by this and was assigned no run.
    Unassigned(GovernId),
}

/// One thing that the kernel saw a governed process do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelEvent {
    /// A connection, datagram or socket was refused.
    Refused {
        /// For whom.
        who: Who,
        /// The process.
        process: Process,
        /// What it asked for; the unspecified address for a socket that was not made.
        address: SocketAddr,
        /// `tcp`, `udp`, `unix`, or `protocol N`.
        transport: String,
        /// The path of a Unix socket; empty otherwise.
        path: String,
    },
    /// It executed a program. Its run, if it has one, goes on. Whoever assigned it may look at the process again and
    /// take it away ([`Capture::unassign`]).
    Executed {
        /// For whom.
        who: Who,
        /// The process.
        process: Process,
        /// Its parent's pid.
        parent: u32,
        /// The program's path as it was executed, at most 127 bytes.
        path: String,
    },
    /// It ended.
    Exited {
        /// For whom.
        who: Who,
        /// The process.
        process: Process,
    },
    /// It was moved out of its run's cgroup, or out of the subtree in which it was assigned one, which only root can do.
    /// The hooks no longer see it: end it.
    LeftCgroup {
        /// The run.
        run: RunTag,
        /// The process.
        process: Process,
    },
    /// It was moved into a governed subtree, or within it while it had no run, and may bring sockets that were made elsewhere
    /// ([`Capture::cut_foreign`]).
    Entered {
        /// The subtree.
        subtree: GovernId,
        /// The process.
        process: Process,
    },
    /// It was led to the daemon in a network where nobody listens yet ([`Capture::hear`]). It goes on trying.
    Unheard {
        /// The process.
        process: Process,
    },
    /// A cgroup was made that is governed from now on, or one that was governed is gone ([`Capture::await_cgroups`]).
    Changed {
        /// As what.
        subtree: GovernId,
    },
}

/// The ring buffer and what was learnt from it.
pub struct Events {
    ring: Mutex<RingBuffer<'static>>,
    lineage: Arc<Mutex<Lineage>>,
}

impl Events {
    /// Reads the ring buffer of this capture. Events arrive on the returned channel once [`Events::run`] runs.
    pub fn new(capture: &Capture) -> Result<(Self, mpsc::Receiver<KernelEvent>), Error> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let lineage = Arc::new(Mutex::new(Lineage::default()));
        let learnt = Arc::clone(&lineage);
        let mut builder = RingBufferBuilder::new();
        let read = move |bytes: &[u8]| {
            let event = Event::read(bytes);
            if let Some(event) = &event {
                learnt.lock().unwrap_or_else(PoisonError::into_inner).learn(event);
            }
            if let Some(event) = event.and_then(known) {
                // A full queue means that nobody records; the loss is visible in the count of refusals.
                drop(sender.try_send(event));
            }
            0
        };
        builder.add(capture.events_map(), read).map_err(Error::kernel("the ring buffer"))?;
        let ring = builder.build().map_err(Error::kernel("the ring buffer"))?;
        Ok((Self { ring: Mutex::new(ring), lineage }, receiver))
    }

    /// Reads what is there now.
    pub fn drain(&self) {
        drop(self.ring.lock().unwrap_or_else(PoisonError::into_inner).consume());
    }

    /// Reads until cancelled: at once what somebody waits for, the rest on a timer.
    pub async fn run(&self) -> Result<(), Error> {
        let failed = |source| Error::Events { source };
        let number = self.ring.lock().unwrap_or_else(PoisonError::into_inner).epoll_fd();
        let wakes = syscall::duplicate_watched(number).map_err(failed)?;
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                ready = wakes.readable() => ready.map_err(failed)?.clear_ready(),
            }
            self.drain();
        }
    }

    /// The programs that led to this one ([`Origin::program`]), eldest first. Whatever was executed before this call is
    /// known.
    ///
    /// [`Origin::program`]: crate::Origin::program
    pub fn lineage(&self, program: &Process) -> Arc<[String]> {
        self.drain();
        self.lineage.lock().unwrap_or_else(PoisonError::into_inner).of(program)
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

fn known(event: Event) -> Option<KernelEvent> {
    let Event { kind, run, governed, address, process, parent, protocol, path, .. } = event;
    let who = run.map(Who::Run).or_else(|| governed.map(Who::Unassigned))?;
    Some(match kind {
        REFUSED => KernelEvent::Refused { who, process, address, transport: transport(protocol), path },
        EXECUTED => KernelEvent::Executed { who, process, parent, path },
        EXITED => KernelEvent::Exited { who, process },
        LEFT_CGROUP => KernelEvent::LeftCgroup { run: run?, process },
        UNHEARD => KernelEvent::Unheard { process },
        MADE => KernelEvent::Changed { subtree: governed? },
        ENTERED => KernelEvent::Entered { subtree: governed?, process },
        _ => return None,
    })
}

fn transport(protocol: u32) -> String {
    match protocol {
        6 | 262 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        0x1_0001 => "unix".to_owned(),
        other => format!("protocol {other}"),
    }
}

/// Which process: a pid alone is used again.
type Key = (u32, u64);

/// Processes that executed a program, with the programs that led to each. A fork that never executes is known by the
/// process that it was forked from.
#[derive(Debug, Default)]
struct Lineage {
    known: HashMap<Key, Arc<[String]>>,
    /// In the order in which they were learnt; may name some that are no longer known.
    order: VecDeque<Key>,
    /// Those that have ended, which go first: a child may outlive its parent, so they are kept while there is room.
    ended: VecDeque<Key>,
}

impl Lineage {
    fn learn(&mut self, event: &Event) {
        let key = (event.process.pid, event.process.start_us);
        match event.kind {
            EXECUTED => {
                let before = event.before.as_ref().and_then(|p| self.known.get(&(p.pid, p.start_us)));
                let mut programs = before.map_or_else(Vec::new, |lineage| lineage.to_vec());
                programs.push(event.path.clone());
                let surplus = programs.len().saturating_sub(LINEAGE_MAX);
                self.put(key, programs.into_iter().skip(surplus).collect());
            }
            EXITED if self.known.contains_key(&key) => self.ended.push_back(key),
            _ => {}
        }
    }

    fn put(&mut self, key: Key, lineage: Arc<[String]>) {
        if self.known.insert(key, lineage).is_none() {
            self.order.push_back(key);
        }
        while self.known.len() > PROCESSES_MAX {
            let Some(oldest) = self.ended.pop_front().or_else(|| self.order.pop_front()) else { return };
            self.known.remove(&oldest);
        }
        if self.order.len() > 2 * PROCESSES_MAX {
            let known = &self.known;
            self.order.retain(|key| known.contains_key(key));
            self.ended.retain(|key| known.contains_key(key));
        }
    }

    fn of(&self, program: &Process) -> Arc<[String]> {
        self.known.get(&(program.pid, program.start_us)).map_or_else(|| Arc::from([]), Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, start_us: u64) -> Process {
        Process { exec_generation: 0, pid, start_us }
    }

    fn event(kind: u32, of: Process, before: Option<Process>, path: &str) -> Event {
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        let (run, path) = (RunTag::from_kernel(1), path.to_owned());
        Event { kind, run, governed: None, address, process: of, parent: 0, before, protocol: 0, path }
    }

    #[test]
    fn a_pid_that_is_used_again_inherits_nothing() {
        let mut lineage = Lineage::default();
        lineage.learn(&event(EXECUTED, process(7, 1), None, "/bin/a"));
        lineage.learn(&event(EXECUTED, process(7, 2), None, "/bin/b"));
        assert_eq!(*lineage.of(&process(7, 1)), ["/bin/a".to_owned()]);
        assert_eq!(*lineage.of(&process(7, 2)), ["/bin/b".to_owned()]);
        lineage.learn(&event(EXECUTED, process(7, 2), Some(process(7, 2)), "/bin/c"));
        assert_eq!(*lineage.of(&process(7, 2)), ["/bin/b".to_owned(), "/bin/c".to_owned()]);
    }

    #[test]
    fn what_has_ended_goes_before_what_lives() {
        let mut lineage = Lineage::default();
        let shell = process(1, 1);
        lineage.learn(&event(EXECUTED, shell.clone(), None, "/bin/sh"));
        for pid in 2..200_000 {
            lineage.learn(&event(EXECUTED, process(pid, 1), Some(shell.clone()), "/bin/true"));
            lineage.learn(&event(EXITED, process(pid, 1), None, ""));
        }
        assert_eq!(*lineage.of(&shell), ["/bin/sh".to_owned()]);
        assert_eq!(lineage.of(&process(199_999, 1)).len(), 2);
        assert_eq!(lineage.known.len(), PROCESSES_MAX);
        assert!(lineage.order.len() <= 2 * PROCESSES_MAX && lineage.ended.len() <= PROCESSES_MAX);
    }

    #[test]
    fn a_long_lineage_keeps_its_end() {
        let mut lineage = Lineage::default();
        for step in 0..40 {
            lineage.learn(&event(EXECUTED, process(1, 1), Some(process(1, 1)), &format!("/bin/{step}")));
        }
        let programs = lineage.of(&process(1, 1));
        assert_eq!((programs.len(), programs.last().unwrap().as_str()), (LINEAGE_MAX, "/bin/39"));
    }
}
