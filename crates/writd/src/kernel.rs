//! What the kernel reports becomes evidence, and a process that left its run is ended.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::mpsc::Receiver;
use writ_capture::{KernelEvent, Who};
use writ_core::event::{ConnectionRefused, Event, ProcessExecuted};
use writ_core::{Process, Reason, RunTag};

use crate::governing;
use crate::world::World;

/// Records kernel events until the daemon stops.
pub(crate) async fn record(world: Arc<World>, mut events: Receiver<KernelEvent>) {
    let mut sockets = Once::default();
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = world.stop.cancelled() => None,
        };
        let Some(event) = event else { return };
        governing::notice(&world, &event);
        if sockets.is_repeated(&event) {
            continue;
        }
        if let Some(event) = evidence(&world, event) {
            world.record.note(event);
        }
    }
}

/// Refused Unix sockets are recorded once for a run and path: the C library asks for `nscd` before every lookup.
#[derive(Default)]
struct Once(HashSet<(Who, String)>);

/// Runs and paths remembered; past it, everything is recorded again.
const SOCKETS_MAX: usize = 65_536;

impl Once {
    fn is_repeated(&mut self, event: &KernelEvent) -> bool {
        let KernelEvent::Refused { who, path, .. } = event else { return false };
        if path.is_empty() {
            return false;
        }
        if self.0.len() >= SOCKETS_MAX {
            self.0.clear();
        }
        !self.0.insert((*who, path.clone()))
    }
}

fn evidence(world: &World, event: KernelEvent) -> Option<Event> {
    match event {
        KernelEvent::Refused { who, process, address, transport, path } => {
            let live = run(who).and_then(|run| world.registry.of_run(run));
            let name = world.names.name_of(address.ip());
            let destination = match (path.is_empty(), name) {
                (false, _) => path,
                (true, Some(name)) => format!("{name}:{}", address.port()),
                (true, None) => address.to_string(),
            };
            let reason =
                if transport == "tcp" { Reason::UnknownDestination } else { Reason::ProtocolRefused };
            let refused = ConnectionRefused {
                actor: live.map(|live| live.session.actor()),
                conn: None,
                destination,
                // The egress filter sees packets, which may leave long after their sender went on.
                process: (process.pid != 0).then_some(process),
                reason,
                transport,
            };
            Some(refused.into())
        }
        KernelEvent::Executed { who, process, parent, path } => {
            // Before its session opens a run executes nothing but the launcher.
            let actor = world.registry.of_run(run(who)?)?.session.actor();
            Some(ProcessExecuted { actor, exe: path, parent, process }.into())
        }
        KernelEvent::Exited { .. }
        | KernelEvent::Entered { .. }
        | KernelEvent::Changed { .. }
        | KernelEvent::Unheard { .. } => None,
        KernelEvent::LeftCgroup { run, process } => {
            tracing::error!(target: "writ::capture", pid = process.pid, "a governed process left its run's cgroup; it is ended");
            end(&process);
            let actor = world.registry.of_run(run).map(|live| live.session.actor());
            let refused = ConnectionRefused {
                actor,
                conn: None,
                destination: "another cgroup".to_owned(),
                process: Some(process),
                reason: Reason::ProtocolRefused,
                transport: "cgroup".to_owned(),
            };
            Some(refused.into())
        }
    }
}

fn run(who: Who) -> Option<RunTag> {
    match who {
        Who::Run(run) => Some(run),
        Who::Unassigned(_) => None,
    }
}

/// Ends exactly this process: the pidfd is taken first, then its start time compared.
fn end(process: &Process) {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if started(process.pid).is_some_and(|start| start.abs_diff(process.start_us) < CLOCK_TICK_US)
        && let Err(error) = pidfd_send_signal(&pidfd, Signal::KILL)
    {
        tracing::error!(target: "writ::capture", pid = process.pid, %error, "it could not be ended");
    }
}

/// The resolution of start times in `/proc`.
const CLOCK_TICK_US: u64 = 10_000;

/// When a process started: microseconds since boot, from `/proc/PID/stat` (field 22).
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks: u64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    Some(ticks * CLOCK_TICK_US)
}
