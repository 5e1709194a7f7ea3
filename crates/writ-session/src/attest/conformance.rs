//! What every attestor must hold to, whatever it looks at: the contract of [`Attest`], as one suite.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, PidfdFlags};
use tracing_subscriber::fmt::MakeWriter;
use writ_core::Selector;
use writ_core::selector::Values;
use writ_host::SystemClock;

use super::facts::{Facts, Wanted};
use super::{Attest, Digests, Lineage, Subject, Unknown, code};
use crate::Peer;

/// A process of this suite's own; ends with its value.
pub(super) struct Running(pub(super) Child);

impl Running {
    /// Waits until the program was executed and waits for something itself: before that, what the kernel shows of it is
    /// partly of this process.
    pub(super) fn new(command: &mut Command) -> Self {
        let running = Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
        let own = std::fs::read_link("/proc/self/exe").unwrap();
        running.settle(|exe| exe != own);
        running
    }

    /// Waits until it runs the program that is meant, and waits itself.
    pub(super) fn settle(&self, meant: impl Fn(&Path) -> bool) {
        let folder = format!("/proc/{}", self.0.id());
        let sleeps = || std::fs::read_to_string(format!("{folder}/stat")).unwrap().contains(") S ");
        while !(std::fs::read_link(format!("{folder}/exe")).is_ok_and(|exe| meant(&exe)) && sleeps()) {
            std::thread::yield_now();
        }
    }

    pub(super) fn peer(&self) -> Peer {
        let pid = self.0.id();
        let number = Pid::from_raw(pid.cast_signed()).unwrap();
        Peer::held(rustix::process::pidfd_open(number, PidfdFlags::empty()).unwrap(), pid).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A cgroup in a slice of this test's own; both go with their value. Whoever is in it must be gone before.
pub(super) struct Cgroup(PathBuf);

impl Cgroup {
    /// `None`, and said, where this user may make none.
    pub(super) fn make(test: &str, name: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount =
            mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let slice = format!("{test}-{}.slice", std::process::id());
        let folder = mount.map(|mount| Path::new(mount).join(slice).join(name));
        let made = folder.filter(|folder| std::fs::create_dir_all(folder).is_ok());
        if made.is_none() {
            println!("skipped: needs to make a cgroup");
        }
        made.map(Self)
    }

    pub(super) fn take_in(&self, running: &Running) {
        let procs = std::fs::OpenOptions::new().write(true).open(self.0.join("cgroup.procs"));
        procs.unwrap().write_all(running.0.id().to_string().as_bytes()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        drop(std::fs::remove_dir(&self.0));
        drop(std::fs::remove_dir(self.0.parent().unwrap()));
    }
}

/// Everything that was logged.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let subscriber =
            tracing_subscriber::fmt().with_writer(self.clone()).with_max_level(tracing::Level::TRACE);
        tracing::subscriber::with_default(subscriber.finish(), work)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

type Said = (BTreeSet<Selector>, Result<(), Unknown>);

fn ask(attestor: &dyn Attest, peer: &Peer, wanted: &Wanted) -> Said {
    let digests = Digests::new(Arc::new(SystemClock));
    let code = code::running(&digests, peer).unwrap();
    ask_about(attestor, peer, &code, wanted)
}

fn ask_about(attestor: &dyn Attest, peer: &Peer, code: &code::Code, wanted: &Wanted) -> Said {
    let lineage = Lineage { ancestors: Vec::new(), agents: vec!["parent".parse().unwrap()] };
    let subject = Subject { peer, code, lineage: &lineage };
    let mut selectors = BTreeSet::new();
    let said = attestor.attest(&subject, &mut Facts::new(attestor.attestor(), wanted, &mut selectors));
    (selectors, said)
}

fn sleeper(zero: &str, argument: &str) -> Running {
    let mut command = Command::new("sleep");
    Running::new(command.arg0(zero).arg(argument).env("CODER", argument))
}

/// Runs the suite.
pub(super) fn check(attestor: &dyn Attest) {
    let everything = Wanted::everything();
    let running = sleeper("sleep", "600");
    let peer = running.peer();
    let log = Log::default();
    let (first, _) = log.during(|| ask(attestor, &peer, &everything));

    // Its own keys only, in the one spelling that a rule would use, and no more values than the key allows.
    let mut values = BTreeMap::<_, usize>::new();
    for selector in &first {
        assert_eq!(selector.key().attestor(), attestor.attestor());
        assert_eq!(selector.as_str().parse::<Selector>().as_ref(), Ok(selector));
        *values.entry(selector.key()).or_default() += 1;
    }
    assert!(values.iter().all(|(key, count)| key.values() != Values::One || *count == 1));
    assert!(first.iter().all(|one| first.iter().all(|other| !one.contradicts(other))));

    // The same again, and nothing that was not asked for.
    assert_eq!(ask(attestor, &peer, &everything).0, first);
    let (unasked, said) = ask(attestor, &peer, &Wanted::default());
    assert!(
        unasked.is_empty()
            && (said.is_ok() || !first.is_empty() || ask(attestor, &peer, &everything).1 == said)
    );

    // Arguments, environment and name change nothing.
    let other = sleeper("another-name", "601");
    assert_eq!(ask(attestor, &other.peer(), &everything).0, first);

    // Nothing is said of a process that is gone, beyond what the caller itself brought.
    let digests = Digests::new(Arc::new(SystemClock));
    let code = code::running(&digests, &peer).unwrap();
    drop(running);
    let (late, _) = ask_about(attestor, &peer, &code, &everything);
    assert!(late.is_subset(&first));

    // Nothing of it is in the log.
    let text = log.text();
    assert!(first.iter().all(|selector| !text.contains(selector.as_str())));
}
