//! What `/proc` says of one process, as far as it is needed to be sure that it is the one that was meant.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use writ_core::Process;

/// The resolution of start times in `/proc`, microseconds: `USER_HZ` is 100 wherever Linux runs.
const TICK_US: u64 = 10_000;

/// How many threads a process has.
pub(crate) fn threads(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()
}

/// When it started: microseconds since boot, to the tick (`proc(5)`, field 22 of `stat`).
pub(crate) fn started_us(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks: u64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    Some(ticks * TICK_US)
}

/// Whether this is the process that is meant, and not one that has its pid by now.
pub(crate) fn is_the_one(process: &Process) -> bool {
    started_us(process.pid).is_some_and(|start| start.abs_diff(process.start_us) < TICK_US)
}

/// Every process there is.
pub(crate) fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Its parent's pid.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Its cgroup, as a path from the root of the hierarchy.
pub(crate) fn cgroup(pid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::/")).map(PathBuf::from)
}

/// A handle on a process by its pid. Compare its start afterwards, if the pid comes from elsewhere.
pub(crate) fn handle(pid: u32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()
}

/// Whether the process behind a pidfd still runs: a pidfd is readable once it has ended.
pub(crate) fn is_alive(pidfd: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&now)) == Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let pid = std::process::id();
        let start_us = started_us(pid).unwrap();
        let process = |start_us| Process { exec_generation: 0, pid, start_us };
        assert!(is_the_one(&process(start_us)) && is_the_one(&process(start_us + TICK_US - 1)));
        assert!(!is_the_one(&process(start_us - TICK_US)) && !is_the_one(&process(0)));
        assert!(!is_the_one(&Process { exec_generation: 0, pid: u32::MAX, start_us }));
    }
}
