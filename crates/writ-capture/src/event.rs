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
use crate::record::Event;

/// How often the ring buffer is read.
const PERIOD: Duration = Duration::from_millis(20);
/// Events that wait for the daemon; more are dropped and counted as lost.
const QUEUE: usize = 4096;
/// Processes whose lineage is kept.
const PROCESSES_MAX: usize = 65_536;
/// Programs in one lineage.
const LINEAGE_MAX: usize = 16;

/// One thing that the kernel saw a governed process do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelEvent {
    /// A connection, datagram or socket was refused.
    Refused {
        /// The run.
        run: RunTag,
        /// The process.
        process: Process,
        /// What it asked for; the unspecified address for a socket that was not made.
        address: SocketAddr,
        /// `tcp`, `udp`, `unix`, or `protocol N`.
        transport: String,
        /// The path of a Unix socket; empty otherwise.
        path: String,
    },
    /// It executed a program.
    Executed {
        /// The run.
        run: RunTag,
        /// The process.
        process: Process,
        /// Its parent's pid.
        parent: u32,
        /// The program's path as it was executed, at most 127 bytes.
        path: String,
    },
    /// It ended.
    Exited {
        /// The run.
        run: RunTag,
        /// The process.
        process: Process,
    },
    /// It was moved out of its run's cgroup, which only root can do. The hooks no longer see it: end it.
    LeftCgroup {
        /// The run.
        run: RunTag,
        /// The process.
        process: Process,
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
            if let Some(event) = Event::read(bytes).and_then(known) {
                learnt.lock().unwrap_or_else(PoisonError::into_inner).learn(&event);
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

    /// Reads on a timer until cancelled.
    pub async fn run(&self) {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.drain();
        }
    }

    /// The programs that led to a process, eldest first. Whatever it executed before this call is known.
    pub fn lineage(&self, process: &Process) -> Arc<[String]> {
        self.drain();
        self.lineage.lock().unwrap_or_else(PoisonError::into_inner).of(process)
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

fn known(event: Event) -> Option<KernelEvent> {
    let Event { kind, run, address, process, parent, protocol, path } = event;
    let run = run?;
    match kind {
        1 => Some(KernelEvent::Refused { run, process, address, transport: transport(protocol), path }),
        2 => Some(KernelEvent::Executed { run, process, parent, path }),
        3 => Some(KernelEvent::Exited { run, process }),
        4 => Some(KernelEvent::LeftCgroup { run, process }),
        _ => None,
    }
}

fn transport(protocol: u32) -> String {
    match protocol {
        6 | 262 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        0x1_0001 => "unix".to_owned(),
        other => format!("protocol {other}"),
    }
}

/// Processes by pid and start, with the programs that led to each. A child that never executes has its parent's.
#[derive(Debug, Default)]
struct Lineage {
    known: HashMap<u32, (u64, Arc<[String]>)>,
    order: VecDeque<u32>,
}

impl Lineage {
    fn learn(&mut self, event: &KernelEvent) {
        match event {
            KernelEvent::Executed { process, parent, path, .. } => {
                let before = self.known.get(&process.pid).filter(|(start, _)| *start == process.start_us);
                let before =
                    before.or_else(|| self.known.get(parent)).map(|(_, lineage)| Arc::clone(lineage));
                let mut programs: Vec<String> = before.iter().flat_map(|l| l.iter().cloned()).collect();
                programs.push(path.clone());
                let surplus = programs.len().saturating_sub(LINEAGE_MAX);
                self.put(process.pid, process.start_us, programs.into_iter().skip(surplus).collect());
            }
            KernelEvent::Exited { process, .. } => {
                // Kept until there is no room: a child may outlive its parent.
                let _: &Process = process;
            }
            KernelEvent::Refused { .. } | KernelEvent::LeftCgroup { .. } => {}
        }
    }

    fn put(&mut self, pid: u32, start: u64, lineage: Arc<[String]>) {
        if self.known.insert(pid, (start, lineage)).is_none() {
            self.order.push_back(pid);
        }
        while self.order.len() > PROCESSES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    fn of(&self, process: &Process) -> Arc<[String]> {
        let own = self.known.get(&process.pid).filter(|(start, _)| *start == process.start_us);
        own.map_or_else(|| Arc::from([]), |(_, lineage)| Arc::clone(lineage))
    }
}
