//! What is wrong with the files of this installation.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use writ_control::api::{Check, CheckState};
use writ_core::{Clock, Layout};
use writ_host::SystemClock;

use super::{finding, good};
use crate::failure::Failure;
use crate::files;
use crate::localtime::local;
use crate::output::count;

pub(super) fn checks(layout: &Layout) -> Vec<Check> {
    vec![
        configuration(layout),
        clock(layout),
        private("state folder", &layout.state(), 0o077, "other users can read keys and evidence"),
        private("configuration folder", &layout.etc(), 0o022, "other users can change who may do what"),
        private("socket folder", &layout.run(), 0o022, "other users can pose as the daemon"),
    ]
}

/// Services and policies, as `writ service check` and `writ policy check` would say.
fn configuration(layout: &Layout) -> Check {
    let checked = || -> Result<(usize, usize), Failure> {
        let services = files::services(&[layout.services()])?;
        let policies = writ_policy::check(&files::read(&layout.policies(), "cedar")?, &services)
            .map_err(|problems| Failure::invalid("the policies", &problems))?;
        Ok((services.len(), policies.policies))
    };
    match checked() {
        Ok((_, 0)) => finding(
            "configuration",
            CheckState::Weaker,
            ["no policy", "every action is refused", "add a file to `policies/`"],
        ),
        Ok((services, policies)) => good(
            "configuration",
            format!("{} and {}, all valid", count(services, "service"), count(policies, "policy")),
        ),
        Err(failure) => {
            let found = failure.lines().first().cloned().unwrap_or_default();
            let found = found.trim_start_matches("error: ");
            let cost = "the daemon refuses it whole";
            finding(
                "configuration",
                CheckState::Bad,
                [found, cost, "`writ policy check` shows every problem"],
            )
        }
    }
}

/// A clock that stands before the newest configuration file was set back, and sessions would outlive their time.
fn clock(layout: &Layout) -> Check {
    let now = SystemClock.now();
    let folders = [layout.etc(), layout.services(), layout.policies(), layout.agents()];
    let newest = folders.iter().filter_map(|folder| folder.metadata().ok()).map(|found| found.mtime()).max();
    let newest = u64::try_from(newest.unwrap_or(0)).unwrap_or(0);
    if now.seconds() >= newest {
        return good("clock", local(now));
    }
    let found = format!("{}, before the newest configuration", local(now));
    let cost = "time limits are wrong, and certificates may not be valid yet";
    finding("clock", CheckState::Bad, [&found, cost, "set the clock"])
}

/// Not there yet is no finding: the daemon makes what it needs.
fn private(name: &str, path: &Path, unwanted: u32, cost: &str) -> Check {
    let shown = path.display();
    let Ok(found) = path.symlink_metadata() else { return good(name, format!("`{shown}` is not there yet")) };
    let own = rustix::process::geteuid().as_raw();
    let mode = found.mode() & 0o7777;
    if found.file_type().is_symlink() {
        let found = format!("`{shown}` is a symbolic link");
        return finding(name, CheckState::Bad, [&found, cost, "make it a folder"]);
    }
    if found.uid() != 0 && found.uid() != own {
        let found = format!("`{shown}` belongs to uid {}", found.uid());
        return finding(name, CheckState::Bad, [&found, cost, "give it to root"]);
    }
    if mode & unwanted != 0 {
        let found = format!("`{shown}` has mode {mode:04o}");
        let hint = format!("chmod {:04o} {shown}", mode & !unwanted);
        return finding(name, CheckState::Bad, [&found, cost, &hint]);
    }
    good(name, format!("`{shown}` has mode {mode:04o}"))
}
