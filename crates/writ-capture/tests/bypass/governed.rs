//! Processes that Writ did not launch, in cgroups that it did not make.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use writ_capture::{Capture, Events, GovernId, KernelEvent, Network, Subtree, Who};
use writ_core::{Process, RunId};
use writ_testkit::wait::until;

use crate::Course;
use crate::installation::{Agent, Foreign, Installation, RESOLVER, move_into, says, take};

fn id() -> GovernId {
    GovernId::new(7).unwrap()
}

const HELD: &str = "held-7";
const CONNECT: &str = "return ask(tcp('198.18.0.1', 443))";

fn connects(agent: &mut Agent) -> String {
    agent.does(CONNECT, &json!({}))
}

fn is_held(agent: &mut Agent) -> bool {
    let answer = connects(agent);
    says("taken", "198.18.0.1:443", HELD, &answer)
}

fn acts_for_its_run(agent: &mut Agent) -> bool {
    let answer = connects(agent);
    agent.is_answer("taken", "198.18.0.1:443", &answer)
}

fn assign(host: &Installation, agent: &Agent) {
    let process = agent.process(&host.capture);
    assert_eq!(host.capture.assign(agent.pidfd.as_fd(), &process, agent.run).unwrap(), id());
}

/// Both ears, one destination, a governed subtree and somebody in it.
fn scene(host: &Installation) -> (Foreign, Agent) {
    host.listen();
    host.capture.set_destinations(&[take("198.18.0.1", 443)]).unwrap();
    let foreign = Foreign::make(host);
    let agent = foreign.agent(1);
    host.capture.govern(&foreign.0, id()).unwrap();
    (foreign, agent)
}

#[test]
fn a_program_that_nobody_launched_is_led_to_the_relay_and_named() {
    let Some(host) = Installation::open("a_program_that_nobody_launched_is_led_to_the_relay_and_named")
    else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    host.capture.set_ports(listener.local_addr().unwrap().port(), RESOLVER).unwrap();
    host.capture.set_destinations(&[take("198.18.0.1", 80)]).unwrap();
    let (events, mut receiver) = Events::new(&host.capture).unwrap();
    let foreign = Foreign::make(&host);
    host.capture.govern(&foreign.0, id()).unwrap();
    let script = "echo $$ > \"$0/cgroup.procs\"; exec curl -s -m 10 http://198.18.0.1/";
    let mut curl = Command::new("/bin/sh").args(["-c", script]).arg(&foreign.0).spawn().unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let origin = host.capture.origin(accepted.as_fd()).unwrap();
    assert_eq!((origin.run, origin.governed), (None, Some(id())));
    assert_eq!(origin.address, "198.18.0.1:80".parse().unwrap());
    // The shell entered, then became curl: one exec was seen.
    assert_eq!((origin.process.pid, origin.process.exec_generation), (curl.id(), 1));
    let program = origin.program.unwrap();
    let lineage = events.lineage(&program);
    assert!(lineage.len() == 1 && lineage[0].ends_with("/curl"), "{lineage:?}");
    let seen: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
    assert!(
        matches!(&seen[..], [KernelEvent::Entered { subtree, .. }, KernelEvent::Executed { who, process, .. }, ..]
            if *subtree == id() && *who == Who::Unassigned(id()) && process.pid == curl.id()),
        "{seen:?}"
    );
    drop(accepted);
    curl.wait().unwrap();
}

#[test]
fn before_a_run_is_assigned_every_way_out_is_held_or_refused() {
    let Some(host) = Installation::open("before_a_run_is_assigned_every_way_out_is_held_or_refused") else {
        return;
    };
    let course = Course::lay_out(&host);
    let foreign = Foreign::make(&host);
    let mut agent = foreign.agent(1);
    host.capture.govern(&foreign.0, id()).unwrap();
    host.capture.limit_unix(id(), Some(std::slice::from_ref(&course.listed))).unwrap();
    // Nothing passes by for whoever is not known yet.
    course.run(&mut agent, HELD, |name| name != "listed to pass");
    let passed = agent.does("return ask(tcp('198.18.0.3', 80))", &json!({}));
    assert!(says("taken", "198.18.0.3:80", HELD, &passed), "{passed}");
    assert_eq!(host.capture.counters().passed, 0);

    assign(&host, &agent);
    let who = agent.name();
    course.run(&mut agent, &who, |_| true);
    assert_eq!(host.capture.counters().passed, 1);
}

#[test]
fn a_governed_subtree_is_held_on_older_kernels() {
    let Some(host) = Installation::open_bare("a_governed_subtree_is_held_on_older_kernels") else { return };
    let course = Course::lay_out(&host);
    let foreign = Foreign::make(&host);
    let mut agent = foreign.agent(1);
    host.capture.govern(&foreign.0, id()).unwrap();
    let meant = |name: &str| name != "listed to pass" && !name.starts_with("unix ");
    course.run(&mut agent, HELD, meant);
    assign(&host, &agent);
    let who = agent.name();
    course.run(&mut agent, &who, meant);
    host.capture.unassign(agent.pidfd.as_fd(), agent.child.id());
    assert!(is_held(&mut agent));
}

#[test]
fn unix_sockets_stay_open_in_a_subtree_until_they_are_listed() {
    let Some(host) = Installation::open("unix_sockets_stay_open_in_a_subtree_until_they_are_listed") else {
        return;
    };
    let course = Course::lay_out(&host);
    let foreign = Foreign::make(&host);
    let mut agent = foreign.agent(1);
    host.capture.govern(&foreign.0, id()).unwrap();
    let names = json!({ "folder": host.folder.path() });
    let mut reaches = |name: &str| {
        let code = format!("return socket.socket(socket.AF_UNIX).connect(folder + '/{name}.sock')");
        agent.does(&code, &names) == "None"
    };
    assert!(reaches("listed") && reaches("closed"));
    host.capture.limit_unix(id(), Some(std::slice::from_ref(&course.listed))).unwrap();
    assert!(reaches("listed") && !reaches("closed"));
    // Governed again, as after a restart, it stays as it was.
    host.capture.govern(&foreign.0, id()).unwrap();
    assert!(reaches("listed") && !reaches("closed"));
    host.capture.limit_unix(id(), None).unwrap();
    assert!(reaches("closed"));
}

#[test]
fn a_question_of_nobodys_tells_the_subtree() {
    let Some(host) = Installation::open("a_question_of_nobodys_tells_the_subtree") else { return };
    let (_foreign, mut agent) = scene(&host);
    let answer = agent.does("return udp('8.8.8.8', 53, False)", &json!({}));
    assert!(says("asked", "8.8.8.8:53", HELD, &answer), "{answer}");
}

#[test]
fn children_inherit_a_run_and_threads_act_for_it() {
    let Some(host) = Installation::open("children_inherit_a_run_and_threads_act_for_it") else { return };
    let (_foreign, mut agent) = scene(&host);
    // A thread and a child from before the assignment.
    let before = "
        import queue
        sys.asked, sys.told = queue.Queue(), queue.Queue()
        def serve():
            while True: sys.told.put(sys.asked.get()())
        threading.Thread(target=serve, daemon=True).start()
        sys.pipes = os.pipe() + os.pipe()
        if os.fork() == 0:
            os.read(sys.pipes[0], 1)
            os.write(sys.pipes[3], ask(tcp('198.18.0.1', 443)).encode())
            os._exit(0)
    ";
    assert_eq!(agent.does(before, &json!({})), "None");
    assign(&host, &agent);
    let of_thread = "
        sys.asked.put(lambda: ask(tcp('198.18.0.1', 443)))
        return sys.told.get()
    ";
    let answer = agent.does(of_thread, &json!({}));
    assert!(agent.is_answer("taken", "198.18.0.1:443", &answer), "{answer}");
    let of_child_of_thread = "
        sys.asked.put(lambda: child('plain'))
        return sys.told.get()
    ";
    let answer = agent.does(of_child_of_thread, &json!({}));
    assert!(agent.is_answer("taken", "198.18.0.1:443", &answer), "{answer}");
    let of_earlier_child = "
        os.write(sys.pipes[1], b'x')
        return os.read(sys.pipes[2], 600).decode()
    ";
    let answer = agent.does(of_earlier_child, &json!({}));
    assert!(says("taken", "198.18.0.1:443", HELD, &answer), "{answer}");
    assert_eq!(host.capture.assigned(agent.run).unwrap(), [agent.process(&host.capture)]);
}

/// It becomes the leader and has no assignment of its own, so a new one is needed: never the one of before by accident.
#[test]
fn a_thread_that_executes_a_program_is_held_again() {
    let Some(host) = Installation::open("a_thread_that_executes_a_program_is_held_again") else { return };
    let (_foreign, mut agent) = scene(&host);
    assign(&host, &agent);
    let code = "
        program = 'import socket; s = socket.create_connection((\"198.18.0.1\", 443), 5); s.send(b\"x\"); ' \\
            'import json, os; print(json.dumps(s.recv(600).decode().strip() + f\" {os.getpid()}\"), flush=True)'
        threading.Thread(target=lambda: os.execv(sys.executable, [sys.executable, '-c', program])).start()
        threading.Event().wait()
    ";
    let answer = agent.does(code, &json!({}));
    assert!(says("taken", "198.18.0.1:443", HELD, &answer), "{answer}");
}

/// A program that can be told to become another one: each line is a path to execute.
const CHAMELEON: &str = "import os, sys\nprint('ready', flush=True)\nsys.stdin.readline()\n\
    os.execv(sys.executable, [sys.executable, '-c', sys.argv[1], sys.argv[1]])";

#[test]
fn an_exec_changes_what_an_assignment_was_made_for() {
    let Some(host) = Installation::open("an_exec_changes_what_an_assignment_was_made_for") else { return };
    let (foreign, _agent) = scene(&host);
    let (events, mut receiver) = Events::new(&host.capture).unwrap();
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", CHAMELEON, CHAMELEON])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut input = child.stdin.take().unwrap();
    let mut turn = || {
        assert_eq!(output.next().unwrap().unwrap(), "ready");
    };
    turn();
    move_into(&foreign.0, child.id());
    let handle = rustix::process::Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(handle, rustix::process::PidfdFlags::empty()).unwrap();
    let look = || host.capture.process(child.id(), pidfd.as_fd()).unwrap();
    let first = look();
    assert_eq!(first.exec_generation, 0);
    // It executes between the look and the assignment.
    std::io::Write::write_all(&mut input, b"\n").unwrap();
    turn();
    let run = RunId::from_bits(3);
    let error = host.capture.assign(pidfd.as_fd(), &first, run).unwrap_err();
    assert!(error.to_string().contains("executed another program"), "{error}");
    assert_eq!(host.capture.run_of(pidfd.as_fd()), None);
    let executed = |who: Who| move |event: KernelEvent| matches!(event, KernelEvent::Executed { who: w, process, .. } if w == who && process.exec_generation > 0);
    events.drain();
    let mut seen = || std::iter::from_fn(|| receiver.try_recv().ok()).collect::<Vec<_>>();
    assert!(seen().into_iter().any(executed(Who::Unassigned(id()))));

    // Looked at again, it is given a run, and an exec afterwards keeps that; the event tells.
    let second = look();
    assert_eq!(second, Process { exec_generation: 1, ..first });
    host.capture.assign(pidfd.as_fd(), &second, run).unwrap();
    std::io::Write::write_all(&mut input, b"\n").unwrap();
    turn();
    events.drain();
    assert!(seen().into_iter().any(executed(Who::Run(run.tag()))));
    assert_eq!((host.capture.run_of(pidfd.as_fd()), look().exec_generation), (Some(run.tag()), 2));
    host.capture.unassign(pidfd.as_fd(), child.id());
    assert_eq!(host.capture.run_of(pidfd.as_fd()), None);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn another_process_under_the_pid_is_not_assigned() {
    let Some(host) = Installation::open("another_process_under_the_pid_is_not_assigned") else { return };
    let (_foreign, mut agent) = scene(&host);
    let mut earlier = agent.process(&host.capture);
    earlier.start_us -= 10_000;
    host.capture.assign(agent.pidfd.as_fd(), &earlier, agent.run).unwrap_err();
    assert!(is_held(&mut agent));
    // And nobody outside of every subtree.
    let outside = Agent::spawn(RunId::from_bits(2));
    move_into(&Installation::root_cgroup(), outside.child.id());
    let process = outside.process(&host.capture);
    host.capture.assign(outside.pidfd.as_fd(), &process, outside.run).unwrap_err();
    assert_eq!(host.capture.run_of(outside.pidfd.as_fd()), None);
}

#[test]
fn a_restart_keeps_what_is_governed_and_assigned() {
    let Some(host) = Installation::open("a_restart_keeps_what_is_governed_and_assigned") else { return };
    let (foreign, mut agent) = scene(&host);
    let mut held = foreign.agent(2);
    assign(&host, &agent);
    assert_eq!(agent.does("sys.kept = tcp('198.18.0.1', 443)", &json!({})), "None");
    let next = Capture::open(&host.settings).unwrap();
    assert_eq!(next.governed(), [Subtree { id: id(), path: foreign.0.clone() }]);
    assert!(acts_for_its_run(&mut agent) && is_held(&mut held));
    // The daemon says it again; what goes on is not cut.
    let governed = next.govern(&foreign.0, id()).unwrap();
    assert_eq!((governed.connections.cut, governed.processes.len()), (0, 2));
    let answer = agent.does("return ask(sys.kept)", &json!({}));
    assert!(agent.is_answer("taken", "198.18.0.1:443", &answer), "{answer}");
}

#[test]
fn connections_of_before_are_cut() {
    let Some(host) = Installation::open("connections_of_before_are_cut") else { return };
    let neighbour = Installation::neighbour();
    let foreign = Foreign::make(&host);
    let mut agent = foreign.agent(1);
    let open = "
        sys.kept = [tcp('127.0.0.1', neighbour), tcp('::ffff:127.0.0.1', neighbour, socket.AF_INET6)]
        for s in sys.kept: s.recv(9)
        sys.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sys.udp.connect(('127.0.0.1', 9))
        sys.listener = socket.create_server(('127.0.0.1', 0))
    ";
    assert_eq!(agent.does(open, &json!({ "neighbour": neighbour })), "None");
    let governed = host.capture.govern(&foreign.0, id()).unwrap();
    assert_eq!(governed.processes, [agent.process(&host.capture)]);
    if governed.connections.cut == 0 {
        println!("skipped: this kernel cannot cut connections: {:?}", governed.connections.trouble);
        assert!(governed.connections.trouble.is_some());
        return;
    }
    assert_eq!((governed.connections.cut, governed.connections.left.len()), (3, 0), "{governed:?}");
    let read = "
        out = []
        for s in sys.kept:
            try: out.append(s.recv(9))
            except OSError as error: out.append(errno.errorcode[error.errno])
        return out, sys.listener.fileno() >= 0
    ";
    assert_eq!(agent.does(read, &json!({})), "(['ECONNABORTED', 'ECONNABORTED'], True)");
    // Its sockets of before are held as well when they are used.
    host.listen();
    host.capture.set_destinations(&[take("198.18.0.1", 443)]).unwrap();
    assert!(is_held(&mut agent));
}

#[test]
fn who_moves_in_is_held_and_what_it_brings_is_cut() {
    let Some(host) = Installation::open("who_moves_in_is_held_and_what_it_brings_is_cut") else { return };
    let (foreign, mut agent) = scene(&host);
    let (events, mut receiver) = Events::new(&host.capture).unwrap();
    let neighbour = Installation::neighbour();
    let mut outside = Agent::spawn(RunId::from_bits(2));
    move_into(&Installation::root_cgroup(), outside.child.id());
    let open = "
        sys.kept = tcp('127.0.0.1', neighbour)
        sys.kept.recv(9)
    ";
    assert_eq!(outside.does(open, &json!({ "neighbour": neighbour })), "None");
    assert_eq!(agent.does("sys.kept = tcp('198.18.0.1', 443)", &json!({})), "None");
    move_into(&foreign.0, outside.child.id());
    events.drain();
    let mut seen = std::iter::from_fn(|| receiver.try_recv().ok());
    let entered = seen.find_map(|event| {
        let KernelEvent::Entered { subtree, process } = event else { return None };
        (subtree == id()).then_some(process)
    });
    let entered = entered.unwrap();
    assert_eq!(entered.pid, outside.child.id());
    let cut = host.capture.cut_foreign(&entered).unwrap();
    assert_eq!((cut.cut, cut.left.len()), (1, 0), "{cut:?}");
    assert_eq!(outside.does("return sys.kept.recv(9)", &json!({})), "ECONNABORTED");
    assert!(is_held(&mut outside));
    let answer = agent.does("return ask(sys.kept)", &json!({}));
    assert!(says("taken", "198.18.0.1:443", HELD, &answer), "{answer}");
}

#[test]
fn who_is_born_in_a_subtree_has_entered_it() {
    let Some(host) = Installation::open("who_is_born_in_a_subtree_has_entered_it") else { return };
    let (foreign, _agent) = scene(&host);
    let (events, mut receiver) = Events::new(&host.capture).unwrap();
    events.drain();
    while receiver.try_recv().is_ok() {}
    let mut outside = Agent::spawn(RunId::from_bits(2));
    // `struct clone_args`, with CLONE_INTO_CGROUP and SIGCHLD: as service managers start a service.
    let born = "
        folder = os.open(foreign, os.O_RDONLY)
        pid = libc.syscall(435, struct.pack('11Q', 0x200000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, folder), 88)
        if pid == 0: os._exit(0)
        os.waitpid(pid, 0)
        return pid
    ";
    let pid: u32 = outside.does(born, &json!({ "foreign": foreign.0 })).parse().unwrap();
    events.drain();
    let entered = std::iter::from_fn(|| receiver.try_recv().ok())
        .any(|event| matches!(event, KernelEvent::Entered { subtree, process } if subtree == id() && process.pid == pid));
    assert!(entered);
}

#[test]
fn nested_cgroups_belong_to_the_subtree_and_leaving_it_is_reported() {
    let Some(host) = Installation::open("nested_cgroups_belong_to_the_subtree_and_leaving_it_is_reported")
    else {
        return;
    };
    let (foreign, mut agent) = scene(&host);
    let (deep, deeper) = (foreign.below("inner"), foreign.below("inner/deeper"));
    move_into(&deeper, agent.child.id());
    assert!(is_held(&mut agent));
    assign(&host, &agent);
    let (events, mut receiver) = Events::new(&host.capture).unwrap();
    events.drain();
    while receiver.try_recv().is_ok() {}
    move_into(&deep, agent.child.id());
    assert!(acts_for_its_run(&mut agent));
    events.drain();
    assert!(receiver.try_recv().is_err());
    move_into(&Installation::root_cgroup(), agent.child.id());
    let left = until("the event", || {
        events.drain();
        receiver.try_recv().ok()
    });
    let KernelEvent::LeftCgroup { run, process } = left else { panic!("{left:?}") };
    assert_eq!((run, process.pid), (agent.run.tag(), agent.child.id()));
}

#[test]
fn a_subtree_is_let_go_and_taken_again() {
    let Some(host) = Installation::open("a_subtree_is_let_go_and_taken_again") else { return };
    let (foreign, mut agent) = scene(&host);
    let names = json!({ "neighbour": Installation::neighbour() });
    let direct = "return tcp('127.0.0.1', neighbour).recv(9)";
    assign(&host, &agent);
    assert_eq!(agent.does(direct, &names), "EPERM");
    host.capture.ungovern(id()).unwrap();
    assert_eq!(agent.does(direct, &names), "b'direct\\n'");
    assert!(host.capture.governed().is_empty());
    host.capture.ungovern(id()).unwrap_err();
    // What was assigned before does not come back.
    host.capture.govern(&foreign.0, id()).unwrap();
    assert_eq!(agent.does(direct, &names), "EPERM");
    assert!(is_held(&mut agent));
    // The unit ends, and starts again in a cgroup of the same name.
    drop(agent);
    foreign.remove();
    assert!(host.capture.governed().is_empty());
    fs::create_dir(&foreign.0).unwrap();
    assert!(host.capture.governed().is_empty());
    let mut agent = foreign.agent(1);
    assert_eq!(agent.does(direct, &names), "b'direct\\n'");
    host.capture.govern(&foreign.0, id()).unwrap();
    assert!(is_held(&mut agent));
    assert_eq!(agent.does(direct, &names), "EPERM");
}

#[test]
fn what_may_not_be_governed_is_refused() {
    let Some(host) = Installation::open("what_may_not_be_governed_is_refused") else { return };
    let foreign = Foreign::make(&host);
    let inner = foreign.below("inner");
    let refused = |path: &Path, id| host.capture.govern(path, id).unwrap_err().to_string();
    let installation = Installation::root_cgroup().join(&host.settings.cgroup);
    for path in
        [&Installation::root_cgroup(), &installation, &installation.join("daemon"), &installation.join("run")]
    {
        assert!(refused(path, id()).contains("cannot be governed"), "{}", path.display());
    }
    refused(host.folder.path(), id());
    refused(&foreign.0.join("missing"), id());
    refused(&foreign.0.join("cgroup.procs"), id());
    host.capture.govern(&foreign.0, id()).unwrap();
    let other = GovernId::new(8).unwrap();
    assert!(refused(&inner, other).contains("overlaps"));
    assert!(refused(&inner, id()).contains("overlaps"));
    assert!(refused(&foreign.0, other).contains("under another name"));
    host.capture.ungovern(id()).unwrap();
    host.capture.govern(&inner, id()).unwrap();
    assert!(refused(&foreign.0, other).contains("overlaps"));
    // A relative path is one below the mount.
    let relative = inner.strip_prefix(Installation::root_cgroup()).unwrap();
    host.capture.govern(relative, id()).unwrap();
    assert_eq!(host.capture.governed().len(), 1);
}

#[test]
fn a_run_is_taken_from_everyone_who_has_it() {
    let Some(host) = Installation::open("a_run_is_taken_from_everyone_who_has_it") else { return };
    let (_foreign, mut agent) = scene(&host);
    assign(&host, &agent);
    let fork = "
        sys.pipes = os.pipe() + os.pipe()
        if os.fork() == 0:
            os.read(sys.pipes[0], 1)
            os.write(sys.pipes[3], ask(tcp('198.18.0.1', 443)).encode())
            os._exit(0)
    ";
    assert_eq!(agent.does(fork, &json!({})), "None");
    assert_eq!(host.capture.assigned(agent.run).unwrap().len(), 2);
    host.capture.unassign_run(agent.run).unwrap();
    assert!(host.capture.assigned(agent.run).unwrap().is_empty());
    let of_child = "
        os.write(sys.pipes[1], b'x')
        return os.read(sys.pipes[2], 600).decode()
    ";
    let answer = agent.does(of_child, &json!({}));
    assert!(says("taken", "198.18.0.1:443", HELD, &answer), "{answer}");
    assert!(is_held(&mut agent));
}

#[test]
fn revocation_cuts_what_passes_by_and_nothing_else() {
    let Some(host) = Installation::open("revocation_cuts_what_passes_by_and_nothing_else") else { return };
    let _course = Course::lay_out(&host);
    let (mut one, mut other) = (host.agent(1), host.agent(2));
    let foreign = Foreign::make(&host);
    let mut unlaunched = foreign.agent(3);
    host.capture.govern(&foreign.0, id()).unwrap();
    assign(&host, &unlaunched);
    let open = "
        sys.passed = [tcp('198.18.0.3', 80), tcp('::ffff:198.18.0.3', 80, socket.AF_INET6)]
        for s in sys.passed: s.recv(9)
        sys.taken = tcp('198.18.0.1', 443)
        listener = socket.create_server(('127.0.0.1', 0))
        sys.own = tcp(*listener.getsockname())
        sys.accepted = listener.accept()[0]
    ";
    let look = "
        out = []
        for s in sys.passed:
            s.setblocking(False)
            try: out.append(s.recv(9))
            except OSError as error: out.append(errno.errorcode[error.errno])
        sys.own.send(b'own')
        return out, sys.accepted.recv(9), ask(sys.taken).split()[0]
    ";
    for agent in [&mut one, &mut other, &mut unlaunched] {
        assert_eq!(agent.does(open, &json!({})), "None");
    }
    let open = "(['EAGAIN', 'EAGAIN'], b'own', 'taken')";
    let cut = "(['ECONNABORTED', 'ECONNABORTED'], b'own', 'taken')";
    for agent in [&mut one, &mut unlaunched] {
        let result = host.capture.cut_run(agent.run).unwrap();
        if result.cut == 0 {
            println!("skipped: this kernel cannot cut connections: {:?}", result.trouble);
            assert!(result.trouble.is_some());
            return;
        }
        assert_eq!((result.cut, result.left.len()), (2, 0), "{result:?}");
        assert_eq!(agent.does(look, &json!({})), cut);
    }
    assert_eq!(other.does(look, &json!({})), open);
    assert_eq!(host.capture.cut_run(one.run).unwrap().cut, 0);
    // Nor does anything new pass: the relay has the say.
    let again = "return ask(tcp('198.18.0.3', 80))";
    let answer = one.does(again, &json!({}));
    assert!(one.is_answer("taken", "198.18.0.3:80", &answer), "{answer}");
    let answer = unlaunched.does(again, &json!({}));
    assert!(says("taken", "198.18.0.3:80", HELD, &answer), "{answer}");
    assert_eq!(other.does("return tcp('198.18.0.3', 80).recv(9)", &json!({})), "b'direct\\n'");
}

#[test]
fn a_process_in_a_network_of_its_own_is_held_there() {
    let Some(host) = Installation::open("a_process_in_a_network_of_its_own_is_held_there") else { return };
    let foreign = Foreign::make(&host);
    let mut agent = foreign.agent(1);
    let unshare = "
        assert libc.unshare(0x40000000) == 0
        subprocess.check_call(['ip', 'link', 'set', 'lo', 'up'])
        sys.old = socket.create_server(('127.0.0.1', 9))
        sys.kept = tcp('127.0.0.1', 9)
    ";
    assert_eq!(agent.does(unshare, &json!({})), "None");
    host.listen();
    host.capture.set_destinations(&[take("198.18.0.1", 443)]).unwrap();
    let governed = host.capture.govern(&foreign.0, id()).unwrap();
    if governed.connections.trouble.is_none() {
        // Both ends were the process's own.
        assert!(governed.connections.cut >= 1, "{governed:?}");
        // Whichever end is cut first resets the other.
        let cut = agent.does("return sys.kept.recv(9)", &json!({}));
        assert!(["ECONNABORTED", "ECONNRESET"].contains(&cut.as_str()), "{cut}");
    }
    // Nobody listens there yet: it waits, and that is told.
    let (events, mut receiver) = Events::new(&host.capture).unwrap();
    events.drain();
    while receiver.try_recv().is_ok() {}
    agent.tell(CONNECT, &json!({}));
    let unheard = until("the event", || {
        events.drain();
        receiver.try_recv().ok()
    });
    assert!(
        matches!(&unheard, KernelEvent::Unheard { process } if process.pid == agent.child.id()),
        "{unheard:?}"
    );
    let network = Network::of(agent.child.id()).unwrap();
    assert_ne!(network.id().unwrap(), Network::here().unwrap().id().unwrap());
    network
        .within(|| {
            host.make_ears();
            Ok(())
        })
        .unwrap();
    let heard = host.capture.hear(&network).unwrap();
    let answer = agent.hear();
    assert!(says("taken", "198.18.0.1:443", HELD, &answer), "{answer}");
    assert!(is_held(&mut agent));
    // A datagram is lost without an error.
    host.capture.unhear(heard);
    let lost = "
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        return s.sendto(b'q', ('8.8.8.8', 53))
    ";
    assert_eq!(agent.does(lost, &json!({})), "1");
    assert_eq!(host.capture.hear(&network).unwrap(), heard);
    let answer = agent.does("return udp('8.8.8.8', 53, False)", &json!({}));
    assert!(says("asked", "8.8.8.8:53", HELD, &answer), "{answer}");
    assign(&host, &agent);
    assert!(acts_for_its_run(&mut agent));
}
