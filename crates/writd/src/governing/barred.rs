//! Processes whose run was taken away: they get none again, nor does what they start, over restarts of the daemon too.
//!
//! Not here: whose descendant a process is. Bounded by the processes that are alive.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use writ_core::{Layout, Process, Reason};
use writ_host::durable;

use super::{TICK_US, lock};

/// Which process: its pid, and its start in the ticks of `/proc`.
type Key = (u32, u64);

fn key(process: &Process) -> Key {
    (process.pid, process.start_us / TICK_US)
}

/// Those who are barred, and why.
#[derive(Default)]
pub(super) struct Barred {
    why: Mutex<HashMap<Key, Reason>>,
    /// Where they are kept, and the start of the machine for which they hold.
    kept: OnceLock<(PathBuf, String)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    boot: String,
    processes: Vec<(u32, u64, String)>,
}

impl Barred {
    /// Takes back those of before. Once.
    pub(super) fn load(&self, layout: &Layout) -> anyhow::Result<()> {
        let path = layout.barred();
        let boot =
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("this start has no name")?;
        if let Some(bytes) = durable::read(&path)? {
            let damaged = || format!("`{}` is damaged; hint: remove it, and revoke anew", path.display());
            let kept: Kept = serde_json::from_slice(&bytes).with_context(damaged)?;
            if kept.boot == boot.trim() {
                let read = |(pid, start, code): (u32, u64, String)| {
                    ((pid, start), Reason::from_code(&code).unwrap_or(Reason::SessionRevoked))
                };
                lock(&self.why).extend(kept.processes.into_iter().map(read));
            }
        }
        self.kept.get_or_init(|| (path, boot.trim().to_owned()));
        Ok(())
    }

    pub(super) fn why(&self, process: &Process) -> Option<Reason> {
        lock(&self.why).get(&key(process)).copied()
    }

    /// Bars these. They are barred even if that cannot be kept.
    pub(super) fn add(&self, processes: &[Process], reason: Reason) -> Result<(), durable::FileError> {
        let mut why = lock(&self.why);
        why.extend(processes.iter().map(|process| (key(process), reason)));
        let Some((path, boot)) = self.kept.get() else { return Ok(()) };
        let processes =
            why.iter().map(|((pid, start), reason)| (*pid, *start, reason.code().to_owned())).collect();
        let kept = Kept { boot: boot.clone(), processes };
        durable::replace(path, serde_json::to_string(&kept).unwrap_or_default().as_bytes(), 0o600)
    }

    /// It has ended.
    pub(super) fn forget(&self, process: &Process) {
        lock(&self.why).remove(&key(process));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_barred_stays_so_after_a_restart_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        std::fs::create_dir_all(layout.state()).unwrap();
        let process = |pid| Process { exec_generation: 3, pid, start_us: 123_450_000 };
        let barred = Barred::default();
        barred.load(&layout).unwrap();
        barred.add(&[process(7), process(8)], Reason::SignedOut).unwrap();

        let again = Barred::default();
        again.load(&layout).unwrap();
        // Whatever it executes, and as exactly as its start may be known.
        let exact = Process { exec_generation: 9, start_us: 123_456_789, ..process(7) };
        assert_eq!(again.why(&exact), Some(Reason::SignedOut));
        assert_eq!(again.why(&process(9)), None);
        assert_eq!(
            again.why(&Process { start_us: 123_460_000, ..process(7) }),
            None,
            "the pid was used again"
        );
        again.forget(&exact);
        assert_eq!((again.why(&process(7)), again.why(&process(8))), (None, Some(Reason::SignedOut)));
    }

    #[test]
    fn a_damaged_file_and_another_start_of_the_machine_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        std::fs::create_dir_all(layout.state()).unwrap();
        let write = |text: &str| {
            durable::replace(&layout.barred(), text.as_bytes(), 0o600).unwrap();
        };
        write("{\"boot\":\"another\",\"processes\":[[7,1,\"session.revoked\"]]}");
        let barred = Barred::default();
        barred.load(&layout).unwrap();
        assert_eq!(barred.why(&Process { exec_generation: 0, pid: 7, start_us: TICK_US }), None);
        write("{");
        assert!(format!("{:#}", Barred::default().load(&layout).unwrap_err()).contains("is damaged"));
    }
}
