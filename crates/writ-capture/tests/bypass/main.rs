//! Every way out of a run that is known: each is taken with the right origin, or refused.
//!
//! Needs root. Each test has a network namespace, a cgroup and a bpffs of its own; nothing leaves the machine.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a skipped one says why"
)]

mod found;
mod governed;
mod installation;
mod strangers;
mod ways;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use writ_capture::{Capture, DestinationRule, Events, KernelEvent, Verdict, Who};
use writ_core::RunId;
use writ_testkit::wait::until;

use installation::{Agent, Installation, RELAY, RESOLVER, move_into, says, settings, take};
use ways::{Outcome, WAYS};

/// `None` if there is no compiler.
fn compile_uring(folder: &Path) -> Option<String> {
    let (source, program) = (folder.join("uring.c"), folder.join("uring"));
    fs::File::create(&source).unwrap().write_all(include_bytes!("uring.c")).unwrap();
    let made = Command::new("cc").args(["-o"]).arg(&program).arg(&source).status();
    made.is_ok_and(|status| status.success()).then(|| program.to_str().unwrap().to_owned())
}

/// What every way out is tried against: both ears, a neighbour, destinations and sockets that are listed or not.
pub(crate) struct Course {
    names: Value,
    uring: bool,
    pub(crate) listed: PathBuf,
    _unix: [UnixListener; 2],
}

impl Course {
    pub(crate) fn lay_out(host: &Installation) -> Self {
        host.listen();
        let neighbour = Installation::neighbour();
        let real = SocketAddr::from(([127, 0, 0, 1], neighbour));
        let pass = DestinationRule {
            address: "198.18.0.3".parse().unwrap(),
            port: 80,
            verdict: Verdict::Pass(real),
        };
        let rules = [take("198.18.0.1", 443), take("198.18.0.2", 444), take("fd00:18::1", 443), pass];
        host.capture.set_destinations(&rules).unwrap();
        let listed = host.path("listed.sock");
        let unix = [&listed, &host.path("closed.sock")].map(|path| UnixListener::bind(path).unwrap());
        let uring = compile_uring(host.folder.path());
        let names = json!({
            "neighbour": neighbour, "relay": RELAY, "resolver": RESOLVER, "folder": host.folder.path(), "uring": uring,
        });
        Self { names, uring: uring.is_some(), listed, _unix: unix }
    }

    /// Tries the ways that are meant; whatever is led away must come from whoever is called so.
    pub(crate) fn run(&self, agent: &mut Agent, who: &str, meant: impl Fn(&str) -> bool) {
        let mut wrong = Vec::new();
        for (name, code, outcome) in WAYS.iter().filter(|(name, ..)| meant(name)) {
            if name.starts_with("io_uring") && !self.uring {
                println!("skipped: {name}: no C compiler");
                continue;
            }
            let answer = agent.does(code, &self.names);
            let is_expected = match outcome {
                Outcome::Taken(address) => says("taken", address, who, &answer),
                Outcome::Asked(address) => says("asked", address, who, &answer),
                Outcome::Is(all) => all.contains(&answer.as_str()),
            };
            if answer.starts_with("setup ") || answer == "EPROTONOSUPPORT" && name.contains("MPTCP") {
                println!("skipped: {name}: this kernel does not offer it ({answer})");
            } else if !is_expected {
                wrong.push(format!("{name}: {answer}; expected {outcome:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[test]
fn every_way_out_is_taken_or_refused() {
    let Some(host) = Installation::open("every_way_out_is_taken_or_refused") else { return };
    let course = Course::lay_out(&host);
    let mut agent = host.agent(1);
    host.capture.allow_unix(agent.run, std::slice::from_ref(&course.listed)).unwrap();
    let who = agent.name();
    course.run(&mut agent, &who, |_| true);
    let counters = host.capture.counters();
    // The neighbour listens in the daemon's cgroup, and what passes has no origin.
    assert_eq!(counters.misses, 1);
    assert!(counters.taken >= 16 && counters.passed == 1 && counters.refused >= 10, "{counters:?}");
}

/// Labels by process id, no Unix hooks.
#[test]
fn every_way_out_is_taken_or_refused_on_older_kernels() {
    let Some(host) = Installation::open_bare("every_way_out_is_taken_or_refused_on_older_kernels") else {
        return;
    };
    let course = Course::lay_out(&host);
    let mut agent = host.agent(1);
    let who = agent.name();
    course.run(&mut agent, &who, |name| !name.starts_with("unix "));
}

#[test]
fn a_unix_grant_holds_for_its_run_only() {
    let Some(host) = Installation::open("a_unix_grant_holds_for_its_run_only") else { return };
    let path = host.path("granted.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let (mut one, mut other) = (host.agent(1), host.agent(2));
    host.capture.allow_unix(one.run, std::slice::from_ref(&path)).unwrap();
    let code = "return socket.socket(socket.AF_UNIX).connect(path)";
    let names = json!({ "path": path });
    assert_eq!(one.does(code, &names), "None");
    assert_eq!(other.does(code, &names), "EPERM");
    host.capture.allow_unix(one.run, &[]).unwrap();
    assert_eq!(one.does(code, &names), "EPERM");
}

#[test]
fn a_refusal_is_reported_with_who_and_where() {
    let Some(host) = Installation::open("a_refusal_is_reported_with_who_and_where") else { return };
    host.listen();
    let (events, mut receiver) = Events::new(&host.capture).unwrap();
    let mut agent = host.agent(1);
    assert_eq!(agent.does("return tcp('203.0.113.7', 443)", &json!({})), "EPERM");
    assert_eq!(
        agent.does("return socket.socket(socket.AF_UNIX).connect('/run/x.sock')", &json!({})),
        "EPERM"
    );
    events.drain();
    let mut seen = std::iter::from_fn(|| receiver.try_recv().ok());
    let (pid, tag) = (agent.child.id(), agent.run.tag());
    let Some(KernelEvent::Refused { who, process, address, transport, .. }) = seen.next() else {
        panic!("no refusal was reported")
    };
    assert_eq!((who, process.pid, transport.as_str()), (Who::Run(tag), pid, "tcp"));
    assert_eq!(address, "203.0.113.7:443".parse().unwrap());
    let Some(KernelEvent::Refused { who, path, transport, .. }) = seen.next() else {
        panic!("no refused unix socket was reported")
    };
    assert_eq!((who, path.as_str(), transport.as_str()), (Who::Run(tag), "/run/x.sock", "unix"));
}

#[test]
fn a_datagram_that_only_the_egress_filter_sees_is_reported() {
    let Some(host) = Installation::open("a_datagram_that_only_the_egress_filter_sees_is_reported") else {
        return;
    };
    host.listen();
    let (events, mut receiver) = Events::new(&host.capture).unwrap();
    let mut agent = host.agent(1);
    // Connecting a datagram socket to a stand-in is let be: the C library does it to learn its own address.
    let code = "
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect(('198.18.0.1', 443))
        s.send(b'quic')
    ";
    assert_eq!(agent.does(code, &json!({})), "EPERM");
    events.drain();
    let Ok(KernelEvent::Refused { who, address, transport, .. }) = receiver.try_recv() else {
        panic!("no refusal was reported")
    };
    assert_eq!((who, address), (Who::Run(agent.run.tag()), "198.18.0.1:443".parse().unwrap()));
    assert_eq!((transport.as_str(), host.capture.counters().dropped), ("udp", 1));
}

/// More than anyone would read is counted, not told; the daemon is not kept busy by a run that is refused all the time.
#[test]
fn a_flood_of_refusals_is_bounded() {
    let Some(host) = Installation::open("a_flood_of_refusals_is_bounded") else { return };
    let (events, mut receiver) = Events::new(&host.capture).unwrap();
    let mut agent = host.agent(1);
    let code = "
        for n in range(2000):
            assert socket.socket().connect_ex(('203.0.113.7', 443)) == errno.EPERM
    ";
    let started = fs::read_to_string("/proc/uptime").unwrap();
    assert_eq!(agent.does(code, &json!({})), "None");
    let ended = fs::read_to_string("/proc/uptime").unwrap();
    let second = |text: &str| text.split('.').next().unwrap().parse::<usize>().unwrap();
    events.drain();
    let told = std::iter::from_fn(|| receiver.try_recv().ok()).count();
    // 64 for each second that was begun.
    assert!(told <= 64 * (second(&ended) - second(&started) + 2), "{told}");
    assert_eq!(host.capture.counters().refused, 2000);
}

#[test]
fn a_process_moved_out_of_its_cgroup_is_reported() {
    let Some(host) = Installation::open("a_process_moved_out_of_its_cgroup_is_reported") else { return };
    let (events, mut receiver) = Events::new(&host.capture).unwrap();
    let agent = host.agent(1);
    move_into(&Installation::root_cgroup(), agent.child.id());
    let left = until("the event", || {
        events.drain();
        receiver.try_recv().ok().filter(|event| matches!(event, KernelEvent::LeftCgroup { .. }))
    });
    let KernelEvent::LeftCgroup { run, process } = left else { panic!("another event") };
    assert_eq!((run, process.pid), (agent.run.tag(), agent.child.id()));
}

#[test]
fn exec_lineage_is_known_at_connect() {
    let Some(host) = Installation::open("exec_lineage_is_known_at_connect") else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    host.capture.set_ports(listener.local_addr().unwrap().port(), RESOLVER).unwrap();
    host.capture.set_destinations(&[take("198.18.0.1", 443)]).unwrap();
    let (events, _receiver) = Events::new(&host.capture).unwrap();
    let mut agent = host.agent(1);
    // The outer parentheses are a fork of the shell's that never executes; so is the one that connects.
    let code = r#"
        program = "import os, socket\nif os.fork() == 0: socket.create_connection(('198.18.0.1', 443)).recv(9)"
        script = "( ( /usr/bin/python3 -c \"$1\"; true ); true ); true"
        subprocess.Popen(["/bin/sh", "-c", script, "sh", program])
    "#;
    assert_eq!(agent.does(code, &json!({})), "None");
    let (accepted, _) = listener.accept().unwrap();
    let origin = host.capture.origin(accepted.as_fd()).unwrap();
    let program = origin.program.unwrap();
    assert_ne!(program.pid, origin.process.pid, "it was a fork that connected");
    assert_eq!(*events.lineage(&program), ["/bin/sh".to_owned(), "/usr/bin/python3".to_owned()]);
}

#[test]
fn a_thousand_parallel_connects_are_attributed_right() {
    let Some(host) = Installation::open("a_thousand_parallel_connects_are_attributed_right") else { return };
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    host.listen();
    let address = |agent: usize, n: usize| format!("198.18.{agent}.{n}");
    let rules: Vec<_> =
        (0..4).flat_map(|agent| (0..250).map(move |n| take(&address(agent, n), 443))).collect();
    host.capture.set_destinations(&rules).unwrap();
    let mut agents: Vec<_> = (1..=4).map(|run| host.agent(run)).collect();
    let code = "
        sockets = []
        for n in range(250):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex((f'198.18.{number}.{n}', 443))
            sockets.append(s)
        answers = []
        for s in sockets:
            select.select([], [s], [], 10)
            s.setblocking(True)
            answers.append(ask(s))
        return '\\n'.join(answers)
    ";
    for (number, agent) in agents.iter_mut().enumerate() {
        agent.tell(code, &json!({ "number": number }));
    }
    for (number, agent) in agents.iter_mut().enumerate() {
        let answers = agent.hear();
        let lines: Vec<_> = answers.lines().collect();
        assert_eq!(lines.len(), 250, "{answers}");
        for (n, line) in lines.iter().enumerate() {
            assert!(agent.is_answer("taken", &format!("{}:443", address(number, n)), line), "{line}");
        }
    }
    let counters = host.capture.counters();
    assert_eq!((counters.taken, counters.misses), (1000, 0), "{counters:?}");
}

#[test]
fn an_accepted_connection_from_outside_a_run_is_a_miss() {
    let Some(host) = Installation::open("an_accepted_connection_from_outside_a_run_is_a_miss") else {
        return;
    };
    host.listen();
    let mut answer = [0u8; 5];
    TcpStream::connect(("127.0.0.1", RELAY)).unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"miss\n");
    // A program in no cgroup of ours, too.
    let mut stranger = Agent::spawn(RunId::from_bits(9));
    move_into(&Installation::root_cgroup(), stranger.child.id());
    let names = json!({ "relay": RELAY });
    assert!(stranger.does("return ask(tcp('127.0.0.1', relay))", &names).starts_with("miss "));
    assert_eq!(host.capture.counters().misses, 2);
}

#[test]
fn an_unlabelled_process_in_a_runs_cgroup_reaches_nothing() {
    let Some(host) = Installation::open("an_unlabelled_process_in_a_runs_cgroup_reaches_nothing") else {
        return;
    };
    host.listen();
    host.capture.set_destinations(&[take("198.18.0.1", 443)]).unwrap();
    let inside = host.agent(1);
    let text = fs::read_to_string(format!("/proc/{}/cgroup", inside.child.id())).unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    let mut intruder = Agent::spawn(inside.run);
    let folder = Installation::root_cgroup().join(path);
    move_into(&folder, intruder.child.id());
    assert_eq!(intruder.does("return ask(tcp('198.18.0.1', 443))", &json!({})), "EPERM");
}

/// The part of the test below that is killed: it opens, adopts the process that it is told of, and waits.
fn be_the_daemon(folder: &Path) {
    let capture = Capture::open(&settings(folder)).unwrap();
    capture.set_ports(RELAY, RESOLVER).unwrap();
    capture.set_destinations(&[take("198.18.0.1", 443)]).unwrap();
    let mut lines = std::io::stdin().lines();
    let pid: i32 = lines.next().unwrap().unwrap().parse().unwrap();
    let run = RunId::from_bits(1);
    capture.create_run(run).unwrap();
    let handle = rustix::process::Pid::from_raw(pid).unwrap();
    let pidfd = rustix::process::pidfd_open(handle, rustix::process::PidfdFlags::empty()).unwrap();
    let process = capture.process(u32::try_from(pid).unwrap(), pidfd.as_fd()).unwrap();
    capture.adopt(run, pidfd.as_fd(), &process).unwrap();
    std::io::stdout().write_all(b"adopted\n").unwrap();
    drop(lines.next());
}

#[test]
fn daemon_gone_everything_is_refused() {
    const FOLDER: &str = "WRIT_TEST_FOLDER";
    let name = "daemon_gone_everything_is_refused";
    if let Some(folder) = std::env::var_os(FOLDER) {
        return be_the_daemon(Path::new(&folder));
    }
    if !writ_testkit::isolation::enter(name) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(FOLDER, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut agent = Agent::spawn(RunId::from_bits(1));
    writeln!(daemon.stdin.as_mut().unwrap(), "{}", agent.child.id()).unwrap();
    let mut output = BufReader::new(daemon.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap().ends_with("adopted")), "the daemon did not adopt");
    daemon.kill().unwrap();
    daemon.wait().unwrap();

    let names = json!({});
    let refused = [
        ("return tcp('198.18.0.1', 443)", "ECONNREFUSED"),
        ("return udp('8.8.8.8', 53, True)", "ECONNREFUSED"),
        ("return udp('8.8.8.8', 443, False)", "EPERM"),
        ("return tcp('203.0.113.7', 443)", "EPERM"),
        ("return tcp('127.0.0.1', 22)", "EPERM"),
        ("return socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "EPERM"),
    ];
    for (code, expected) in refused {
        assert_eq!(agent.does(code, &names), expected, "{code}");
    }

    // The next daemon finds the run and the destinations as they were.
    let host = Installation::resume(folder);
    assert_eq!(host.capture.runs().unwrap(), [agent.run]);
    assert!(host.capture.populated(agent.run).unwrap());
    assert_eq!(host.capture.run_of(agent.pidfd.as_fd()), Some(agent.run.tag()));
    host.listen();
    let answer = agent.does("return ask(tcp('198.18.0.1', 443))", &names);
    assert!(agent.is_answer("taken", "198.18.0.1:443", &answer), "{answer}");
    // A destination that is no longer listed goes, though this daemon never added it.
    host.capture.set_destinations(&[]).unwrap();
    assert_eq!(agent.does("return tcp('198.18.0.1', 443)", &names), "EPERM");
    host.capture.kill_run(agent.run).unwrap();
    drop(agent);
    host.capture.forget_run(RunId::from_bits(1)).unwrap();
    assert!(host.capture.runs().unwrap().is_empty());
}

#[test]
fn what_is_required_loads_where_capture_opens() {
    let Some(_host) = Installation::open("what_is_required_loads_where_capture_opens") else { return };
    let features = writ_capture::probe();
    for feature in &features {
        println!("{feature:?}");
        assert!(feature.present || !feature.required, "{feature:?}");
    }
    assert_eq!(features.iter().filter(|feature| feature.required).count(), 6);
}
