//! What the daemon denies itself and others before it holds anything worth stealing.

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// No core dumps, no ptrace or `/proc/PID/mem` by anyone but root, no group or world bits on new files, and room for
/// the connections that the limits allow.
pub(crate) fn apply() -> rustix::io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let files = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum })
}
