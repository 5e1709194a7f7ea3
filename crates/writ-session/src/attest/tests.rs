//! Processes that try to be somebody else, and the one that is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use writ_core::selector::Key;
use writ_core::{AgentName, Selector};
use writ_host::{SystemClock, durable};

use super::conformance::{Cgroup, Log, Running};
use super::*;
use crate::agent::{self, Agent};

type Agents = BTreeMap<AgentName, Arc<Agent>>;

fn attestors() -> Attestors {
    let runtimes = Runtimes { docker_socket: "/nonexistent".into(), ..Runtimes::default() };
    let packages = "/var/lib/dpkg".into();
    Attestors::new(Sources { clock: Arc::new(SystemClock), packages, runtimes, kubelet: None })
}

fn agents(files: &[(&str, &str)]) -> Agents {
    let files = files.iter().map(|(name, text)| (*name, "agents/x.toml", *text));
    agent::agents(files).unwrap_or_else(|problems| panic!("{problems}"))
}

/// One agent `coder` with this block, and further keys before it.
fn coder(keys: &str, selectors: &[String]) -> Agents {
    let list = selectors.iter().map(|selector| format!("{selector:?}")).collect::<Vec<_>>().join(", ");
    agents(&[("coder", &format!("owner = \"p\"\n{keys}\n[[match]]\nselectors = [{list}]\n"))])
}

fn the(agents: &Agents) -> &Agent {
    agents.values().next().unwrap()
}

fn found(attestors: &Attestors, running: &Running) -> Result<Arc<Attested>, Refusal> {
    let peer = running.peer();
    attestors.found(&peer, peer.process(), &Lineage::default(), &Wanted::everything())
}

fn launched(program: &Path, script: Option<&Path>) -> Attested {
    let own = std::process::id();
    let pid = rustix::process::Pid::from_raw(own.cast_signed()).unwrap();
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let peer = Peer::held(pidfd, own).unwrap();
    let program = File::open(program).unwrap();
    let script = script.map(|path| File::open(path).unwrap());
    let opened = Opened { program: program.as_raw_fd(), script: script.as_ref().map(AsRawFd::as_raw_fd) };
    attestors().launched(&peer, opened, &Lineage::default(), &Wanted::everything()).unwrap()
}

fn digest_of(path: &Path) -> String {
    let digests = Digests::new(Arc::new(SystemClock));
    digests.of(&File::open(path).unwrap()).unwrap().1.to_string()
}

fn put(path: &Path, bytes: &[u8]) {
    durable::replace(path, bytes, 0o755).unwrap();
}

/// The program of this name, links resolved.
fn installed(name: &str) -> PathBuf {
    let output = Command::new("sh").args(["-c", "command -v \"$0\"", name]).output().unwrap();
    let path = String::from_utf8(output.stdout).unwrap();
    std::fs::canonicalize(path.trim()).unwrap_or_else(|_| panic!("this test needs `{name}`"))
}

/// A system Python, not one of a version manager's wrappers, which are shell scripts.
fn python() -> PathBuf {
    let output = Command::new("python3")
        .args(["-c", "import os; print(os.readlink('/proc/self/exe'))"])
        .output()
        .unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn sleeper(program: &Path, seconds: usize) -> Running {
    Running::new(Command::new(program).arg(seconds.to_string()))
}

#[test]
fn a_hundred_starts_with_varying_arguments_are_one_agent() {
    let (attestors, sleep) = (attestors(), installed("sleep"));
    let agents = coder("", &[format!("exe:sha256:{}", digest_of(&sleep))]);
    let mut runs = std::collections::HashSet::new();
    for number in 0..100 {
        let mut command = Command::new(&sleep);
        command
            .arg0(format!("agent-{number}"))
            .arg((600 + number).to_string())
            .env("CODER_MODEL", number.to_string());
        let running = Running::new(&mut command);
        let attested = found(&attestors, &running).unwrap();
        assert_eq!(agent::matching(&agents, &attested).unwrap().name.as_str(), "coder");
        runs.insert(attested.process().clone());
    }
    assert_eq!(runs.len(), 100);
}

#[test]
fn a_renamed_binary_is_the_same_and_a_copy_with_one_byte_changed_is_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (attestors, sleep) = (attestors(), installed("sleep"));
    let agents = coder("", &[format!("exe:sha256:{}", digest_of(&sleep))]);
    let by_path = coder("", &[format!("exe:path:{}", sleep.display())]);
    let mut bytes = std::fs::read(&sleep).unwrap();
    let renamed = dir.path().join("renamed");
    put(&renamed, &bytes);
    let attested = found(&attestors, &sleeper(&renamed, 600)).unwrap();
    assert!(agent::matching(&agents, &attested).is_ok());
    assert_eq!(agent::matching(&by_path, &attested).unwrap_err().reason, Reason::NoAgent);

    // The last byte belongs to the section headers, which the kernel does not read: the copy runs all the same.
    *bytes.last_mut().unwrap() ^= 1;
    let impostor = dir.path().join("sleep");
    put(&impostor, &bytes);
    let mut command = Command::new(&impostor);
    let running = Running::new(command.arg0(&sleep).arg("600"));
    let attested = found(&attestors, &running).unwrap();
    for agents in [&agents, &by_path] {
        let refusal = agent::matching(agents, &attested).unwrap_err();
        assert_eq!(refusal.reason, Reason::NoAgent);
        assert!(
            refusal.to_string().contains("`exe:")
                && !refusal.to_string().contains(attested.digest().unwrap())
        );
        assert!(agent::admits(the(agents), &attested).is_err());
    }
}

#[test]
fn a_script_of_the_same_name_elsewhere_is_nobody() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (script, impostor) = (dir.path().join("agent.py"), other.path().join("agent.py"));
    let text = "import time\ntime.sleep(600)\n";
    put(&script, text.as_bytes());
    put(&impostor, format!("{text}# evil\n").as_bytes());
    let (attestors, python) = (attestors(), python());
    let exe = format!("exe:sha256:{}", digest_of(&python));
    let by_digest = coder("", &[exe.clone(), format!("script:sha256:{}", digest_of(&script))]);
    let run = |folder: &Path| Running::new(Command::new(&python).arg("agent.py").current_dir(folder));
    let good = found(&attestors, &run(dir.path())).unwrap();
    assert_eq!(agent::matching(&by_digest, &good).unwrap().name.as_str(), "coder");
    let evil = found(&attestors, &run(other.path())).unwrap();
    assert_eq!(agent::matching(&by_digest, &evil).unwrap_err().reason, Reason::NoAgent);

    // What was launched may be named by its path; what was found could make its arguments say anything.
    let by_path = coder("", &[exe, format!("script:path:{}", script.display())]);
    assert!(agent::admits(the(&by_path), &launched(&python, Some(&script))).is_ok());
    assert!(agent::admits(the(&by_path), &launched(&python, Some(&impostor))).is_err());
    let refusal = agent::matching(&by_path, &good).unwrap_err();
    assert_eq!(refusal.reason, Reason::Unattested);
    assert!(refusal.to_string().contains("by its digest only"), "{refusal}");
}

#[test]
fn a_module_is_the_file_that_it_is_loaded_from() {
    let dir = tempfile::tempdir().unwrap();
    let module = dir.path().join("tool.py");
    put(&module, b"import time\ntime.sleep(600)\n");
    let python = python();
    let running = Running::new(Command::new(&python).args(["-um", "tool"]).current_dir(dir.path()));
    let attested = found(&attestors(), &running).unwrap();
    assert_eq!(attested.digest(), Some(&*digest_of(&module)));
    assert!(attested.holds(&"script:module:tool".parse().unwrap()));
    let inline = Running::new(Command::new(&python).args(["-c", "import time; time.sleep(600)"]));
    let attested = found(&attestors(), &inline).unwrap();
    assert!(attested.digest().is_none() && !attested.unknown().is_empty());
}

#[test]
fn a_shell_is_believed_only_about_a_script_that_it_holds_open() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("run.sh");
    put(&script, b"read x\nread y\n");
    let bash = installed("bash");
    let open = Running::new(Command::new(&bash).arg(&script));
    let holds_it = || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", open.0.id())).unwrap().flatten();
        fds.map(|fd| std::fs::read_link(fd.path())).any(|link| link.is_ok_and(|link| link == script))
    };
    while !holds_it() {
        std::thread::yield_now();
    }
    assert_eq!(found(&attestors(), &open).unwrap().digest(), Some(&*digest_of(&script)));
    // A program that only calls itself so.
    let copy = dir.path().join("bash");
    put(&copy, &std::fs::read(installed("sleep")).unwrap());
    let liar = Running::new(Command::new(&copy).arg0("bash").args(["600", "600"]).current_dir(dir.path()));
    put(&dir.path().join("600"), b"read x\n");
    assert_eq!(found(&attestors(), &liar).unwrap().digest(), None);
}

#[test]
fn a_process_that_a_sibling_traces_is_refused() {
    let running = sleeper(&installed("sleep"), 600);
    let seize = "import ctypes,sys; libc=ctypes.CDLL(None,use_errno=True); \
                 assert libc.ptrace(0x4206,int(sys.argv[1]),None,None)==0, ctypes.get_errno(); print(1,flush=True); sys.stdin.read()";
    let mut tracer = Command::new("python3");
    tracer.args(["-c", seize, &running.0.id().to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut tracer = tracer.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(tracer.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "1\n", "this test needs ptrace");
    let attestors = attestors();
    let refusal = found(&attestors, &running).unwrap_err();
    assert_eq!(refusal.reason, Reason::Unattested);
    assert!(refusal.to_string().contains("traces it"));
    drop(tracer.stdin.take());
    tracer.wait().unwrap();
    assert!(found(&attestors, &running).is_ok());
}

#[test]
fn a_reused_pid_is_not_the_process_that_was_known() {
    let (attestors, sleep) = (attestors(), installed("sleep"));
    let running = sleeper(&sleep, 600);
    let peer = running.peer();
    let process = peer.process().clone();
    let known = found(&attestors, &running).unwrap();
    assert!(attestors.recall(&peer, &process, &Wanted::everything()).is_some());
    // The pid of another process, with the start of the one that is known, and the other way round.
    let other = sleeper(&sleep, 601);
    assert!(attestors.recall(&other.peer(), &process, &Wanted::everything()).is_none());
    let later = Process { start_us: process.start_us + 10_000, ..process.clone() };
    assert!(attestors.recall(&peer, &later, &Wanted::everything()).is_none());
    drop(running);
    assert!(attestors.recall(&peer, &process, &Wanted::everything()).is_none());
    assert!(attestors.found(&peer, &process, &Lineage::default(), &Wanted::everything()).is_err());
    assert!(known.is_launched() || known.digest().is_some());
}

/// Makes the process execute another program while it is looked at.
struct Race(Mutex<std::process::ChildStdin>, PathBuf);

impl Attest for Race {
    fn attestor(&self) -> Attestor {
        Attestor::Lineage
    }

    fn attest(&self, subject: &Subject<'_>, _: &mut Facts<'_>) -> Result<(), Unknown> {
        writeln!(self.0.lock().unwrap()).unwrap();
        let exe = || std::fs::read_link(format!("/proc/{}/exe", subject.peer.process().pid)).unwrap();
        while exe() != self.1 {
            std::thread::yield_now();
        }
        Ok(())
    }
}

#[test]
fn a_process_that_executes_something_else_meanwhile_is_refused() {
    let sleep = installed("sleep");
    let mut running = Running::new(Command::new(installed("bash")).args(["-c", "read x; exec sleep 600"]));
    let stdin = running.0.stdin.take().unwrap();
    let mut attestors = attestors();
    attestors.all.push(Box::new(Race(Mutex::new(stdin), sleep)));
    let refusal = found(&attestors, &running).unwrap_err();
    assert_eq!(refusal.reason, Reason::Unattested);
    assert!(refusal.to_string().contains("executed a program"), "{refusal}");
    attestors.all.pop();
    running.settle(|_| true);
    assert!(found(&attestors, &running).unwrap().digest().is_some());
}

#[test]
fn executing_the_same_program_again_is_another_execution() {
    let mut running = Running::new(Command::new("bash").args(["-c", "read x; exec bash -c 'read y'"]));
    let (attestors, peer) = (attestors(), running.peer());
    found(&attestors, &running).unwrap();
    assert!(attestors.recall(&peer, peer.process(), &Wanted::everything()).is_some());
    let before = peer.execution().unwrap();
    running.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    while peer.execution().unwrap() == before {
        std::thread::yield_now();
    }
    assert!(attestors.recall(&peer, peer.process(), &Wanted::everything()).is_none());
}

#[test]
fn a_process_that_is_moved_to_another_cgroup_is_looked_at_anew() {
    let Some(place) = Cgroup::make("writ-attest-moved", "elsewhere") else { return };
    let (attestors, running) = (attestors(), sleeper(&installed("sleep"), 600));
    let (peer, everything) = (running.peer(), Wanted::everything());
    found(&attestors, &running).unwrap();
    assert!(attestors.recall(&peer, peer.process(), &everything).is_some());
    place.take_in(&running);
    assert!(attestors.recall(&peer, peer.process(), &everything).is_none());
    drop(running);
}

#[test]
fn a_script_that_changes_while_it_runs_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("agent.py");
    put(&script, b"import time\ntime.sleep(600)\n");
    let running = Running::new(Command::new(python()).arg(&script));
    let (attestors, peer) = (attestors(), running.peer());
    let attested = found(&attestors, &running).unwrap();
    attestors.unchanged(&attested, &peer).unwrap();
    // Another time of change, the same content.
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert!(attestors.recall(&peer, peer.process(), &Wanted::everything()).is_none());
    attestors.unchanged(&attested, &peer).unwrap();
    found(&attestors, &running).unwrap();
    put(&script, b"import time\ntime.sleep(601)\n");
    assert_eq!(attestors.unchanged(&attested, &peer).unwrap_err().reason, Reason::IdentityChanged);
    assert!(attestors.recall(&peer, peer.process(), &Wanted::everything()).is_none());
    assert_eq!(found(&attestors, &running).unwrap_err().reason, Reason::IdentityChanged);
}

#[test]
fn a_process_in_a_user_namespace_of_its_own_proves_nothing_of_its_program() {
    let sleep = installed("sleep");
    let running = Running::new(Command::new("unshare").arg("-U").arg(&sleep).arg("600"));
    running.settle(|exe| exe == sleep);
    let attested = found(&attestors(), &running).unwrap();
    assert!(!attested.has(Key::ExeSha256) && attested.digest().is_none());
    let agents = coder("", &[format!("exe:sha256:{}", digest_of(&sleep))]);
    let refusal = agent::matching(&agents, &attested).unwrap_err();
    assert_eq!(refusal.reason, Reason::Unattested);
    assert!(refusal.to_string().contains("user namespace"), "{refusal}");
}

#[test]
fn pinned_digests_are_those_of_the_script_and_its_interpreter_must_be_roots() {
    let dir = tempfile::tempdir().unwrap();
    let (script, other, liar) =
        (dir.path().join("a.py"), dir.path().join("b.py"), dir.path().join("python3"));
    put(&script, b"1");
    put(&other, b"2");
    put(&liar, b"\x7fELF");
    std::fs::set_permissions(&liar, std::fs::Permissions::from_mode(0o777)).unwrap();
    let pin = format!("pin = [\"sha256:{}\"]", digest_of(&script));
    let agents = agents(&[("coder", &format!("owner = \"p\"\n{pin}\n"))]);
    let coder = the(&agents);
    let bash = installed("bash");
    let admitted = |program: &Path, script: Option<&Path>| agent::admits(coder, &launched(program, script));
    admitted(&bash, Some(&script)).unwrap();
    assert_eq!(admitted(&bash, Some(&other)).unwrap_err().reason, Reason::IdentityChanged);
    assert_eq!(
        admitted(&bash, None).unwrap_err().reason,
        Reason::Unattested,
        "an interpreter alone is nothing"
    );
    assert_eq!(admitted(&liar, Some(&script)).unwrap_err().reason, Reason::Unattested);
    assert_eq!(admitted(&installed("env"), Some(&script)).unwrap_err().reason, Reason::Unattested);
    // A script that asks for another interpreter than the one that would run it: a wrapper stands between them.
    put(&other, b"#!/usr/bin/env python3\n1");
    let wrapped = launched(&bash, Some(&other));
    assert!(!wrapped.has_trusted_interpreter());
    // A program that is no interpreter is itself, whatever file it is given.
    assert_eq!(admitted(&installed("cat"), Some(&script)).unwrap_err().reason, Reason::IdentityChanged);
}

#[test]
fn trust_on_first_use_holds_a_change_until_it_is_approved() {
    let dir = tempfile::tempdir().unwrap();
    let tool = dir.path().join("tool");
    let agents = agents(&[("coder", "owner = \"p\"\npin = \"first-use\"\n")]);
    let coder = the(&agents);
    let pins = agent::Pins::new(dir.path().join("pins"), Arc::new(SystemClock)).unwrap();
    put(&tool, b"one");
    let one = launched(&tool, None);
    agent::admits(coder, &one).unwrap();
    assert_eq!(agent::pinned(&pins, coder, &one).unwrap().as_deref(), one.digest());
    assert_eq!(agent::pinned(&pins, coder, &one).unwrap(), None);
    put(&tool, b"two");
    let two = launched(&tool, None);
    assert_eq!(agent::pinned(&pins, coder, &two).unwrap_err().reason, Reason::IdentityChanged);
    pins.approve(&coder.name, two.digest().unwrap(), 0).unwrap();
    assert_eq!(agent::pinned(&pins, coder, &two).unwrap(), None);
}

#[test]
fn facts_are_those_of_this_process_and_of_its_host() {
    let running = sleeper(&installed("sleep"), 600);
    let attestors = attestors();
    let attested = found(&attestors, &running).unwrap();
    let sleep = installed("sleep");
    for fact in
        [format!("exe:path:{}", sleep.display()), "exe:owner:0".to_owned(), "cgroup:under:/".to_owned()]
    {
        assert!(attested.holds(&fact.parse::<Selector>().unwrap()), "{fact}");
    }
    let uid = rustix::process::getuid().as_raw();
    assert!(attested.holds(&Selector::new(Key::UnixUid, &uid.to_string()).unwrap()));
    if Path::new("/var/lib/dpkg/status").exists() {
        assert!(attested.holds(&"exe:package:coreutils".parse().unwrap()));
    }
    // The lineage ends with this test's own program, found by its digest.
    let ancestors = attestors.ancestors(&running.peer());
    let own = std::fs::read_link("/proc/self/exe").unwrap();
    assert_eq!(ancestors[0].path.as_deref(), own.to_str());
    assert_eq!(ancestors[0].sha256.as_deref(), Some(&*digest_of(&own)));
    assert!(!format!("{attested:?}").contains("exe:"), "selectors in `Debug` get into logs");
}

#[test]
fn no_selector_gets_into_a_log_or_a_refusal() {
    let (attestors, sleep) = (attestors(), installed("sleep"));
    let running = sleeper(&sleep, 600);
    let agents = coder("", &["unix:uid:4000000000".to_owned(), format!("exe:path:{}", sleep.display())]);
    let log = Log::default();
    let (attested, refusal) = log.during(|| {
        let attested = found(&attestors, &running).unwrap();
        let refusal = agent::matching(&agents, &attested).unwrap_err();
        tracing::error!(?attested, %refusal, debug = ?refusal, all = ?attested.selectors().collect::<Vec<_>>());
        (attested, refusal)
    });
    let text = log.text();
    assert!(text.contains("`unix:uid` is another one"), "{text}");
    assert!(attested.selectors().count() > 5);
    for selector in attested.selectors().filter(|selector| selector.value().len() > 3) {
        assert!(!text.contains(selector.as_str()), "{}", selector.as_str());
    }
    assert!(!refusal.to_string().contains("4000000000") && !refusal.reason.public_text().contains("uid"));
}

#[test]
fn where_a_run_comes_from_can_be_asked_for() {
    let (attestors, running) = (attestors(), sleeper(&installed("sleep"), 600));
    let agents = coder("", &["lineage:agent:planner".to_owned()]);
    let peer = running.peer();
    let below = Lineage { ancestors: attestors.ancestors(&peer), agents: vec!["planner".parse().unwrap()] };
    let wanted = Wanted::of(agents.values());
    let alone = attestors.found(&peer, peer.process(), &Lineage::default(), &wanted).unwrap();
    assert_eq!(agent::matching(&agents, &alone).unwrap_err().reason, Reason::NoAgent);
    let started = attestors.found(&peer, peer.process(), &below, &wanted).unwrap();
    assert!(
        agent::matching(&agents, &started).is_ok() && !started.has(Key::ExeSha256),
        "only what is wanted"
    );
}

#[test]
fn a_file_that_the_process_may_not_read_is_not_read_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret.py");
    durable::replace(&secret, b"secret", 0o600).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    if !rustix::process::getuid().is_root() {
        println!("skipped: needs root, to have something to read that another user may not");
        return;
    }
    // A program that waits, under an interpreter's name and with the secret as its first argument.
    let copy = dir.path().join("python3");
    put(&copy, &std::fs::read(installed("bash")).unwrap());
    let mut command = Command::new(&copy);
    command.args(["-c", "read x", "--"]).uid(4242).gid(4242);
    let running = Running::new(&mut command);
    let peer = running.peer();
    let root = place::Root::of(&peer).unwrap();
    assert!(!root.readable_by(&peer, &secret));
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(root.readable_by(&peer, &secret));
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert!(!root.readable_by(&peer, &secret));
}

/// Run with `cargo nextest run -p writ-session --release --run-ignored only --no-capture measure`.
#[test]
#[ignore = "measures; run it alone and in release"]
fn measure_how_long_attestation_takes() {
    let (attestors, sleep) = (attestors(), installed("sleep"));
    let wanted = [Key::ExeSha256, Key::ExePath, Key::UnixUid, Key::SystemdUnit, Key::ContainerImageDigest];
    let wanted: Wanted = wanted.into_iter().collect();
    // Time of this thread alone: whatever else the machine does is not attestation.
    let now = || {
        let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        std::time::Duration::new(spent.tv_sec.try_into().unwrap(), spent.tv_nsec.try_into().unwrap())
    };
    let p99 = |mut times: Vec<std::time::Duration>| {
        times.sort();
        (times[times.len() / 2], times[times.len() * 99 / 100])
    };
    let time = |work: &mut dyn FnMut()| {
        let start = now();
        work();
        now().saturating_sub(start)
    };
    let (mut new, mut launch) = (Vec::new(), Vec::new());
    let mut last = None;
    for number in 0..1_000 {
        let running = sleeper(&sleep, 600 + number);
        let peer = running.peer();
        let none = Lineage::default();
        new.push(time(&mut || drop(attestors.found(&peer, peer.process(), &none, &wanted).unwrap())));
        let program = File::open(&sleep).unwrap();
        let own = std::process::id();
        let pid = rustix::process::Pid::from_raw(own.cast_signed()).unwrap();
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let me = Peer::held(pidfd, own).unwrap();
        let opened = Opened { program: program.as_raw_fd(), script: None };
        launch.push(time(&mut || drop(attestors.launched(&me, opened, &none, &wanted).unwrap())));
        last = Some(running);
    }
    let running = last.unwrap();
    let peer = running.peer();
    let known = (0..100_000)
        .map(|_| time(&mut || assert!(attestors.recall(&peer, peer.process(), &wanted).is_some())));
    let known = p99(known.collect());
    println!(
        "p50, p99: known {known:?}; found, digest known {:?}; launched, digest known {:?}",
        p99(new),
        p99(launch)
    );
    assert!(known.1 < std::time::Duration::from_micros(50));
}
