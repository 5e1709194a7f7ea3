//! What the kernel governs by itself: cgroups that are made later, and programs wherever they are executed.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use serde_json::json;
use writ_capture::{Awaited, Capture, CaptureSettings, Events, GovernId, KernelEvent, Subtree, Who};
use writ_core::RunId;

use crate::installation::{Agent, Foreign, Installation, move_into, says, take, watched};

/// All but the first digit of a container's id.
const ID: &str = "123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const CONNECT: &str = "return ask(tcp('198.18.0.1', 443))";
const DIRECT: &str = "return tcp('127.0.0.1', neighbour).recv(9)";

fn cgroups(number: u32) -> GovernId {
    GovernId::new(number).unwrap()
}

fn program() -> GovernId {
    GovernId::of_program(9).unwrap()
}

fn is_held(agent: &mut Agent, id: GovernId) -> bool {
    let answer = agent.does(CONNECT, &json!({}));
    says("taken", "198.18.0.1:443", &format!("held-{id}"), &answer)
        && agent.does(DIRECT, &json!({ "neighbour": Installation::neighbour() })) == "EPERM"
}

fn acts_for_its_run(agent: &mut Agent) -> bool {
    let answer = agent.does(CONNECT, &json!({}));
    agent.is_answer("taken", "198.18.0.1:443", &answer)
}

fn is_open(agent: &mut Agent) -> bool {
    agent.does(DIRECT, &json!({ "neighbour": Installation::neighbour() })) == "b'direct\\n'"
}

fn listening(host: &Installation) {
    host.listen();
    host.capture.set_destinations(&[take("198.18.0.1", 443)]).unwrap();
}

/// As the kernel names the cgroup: from the root of the hierarchy.
fn from_root(folder: &Path) -> PathBuf {
    Path::new("/").join(folder.strip_prefix(Installation::root_cgroup()).unwrap())
}

/// A Python of the test's own.
fn python(host: &Installation, name: &str) -> PathBuf {
    let path = host.path(name);
    fs::copy("/usr/bin/python3", &path).unwrap();
    path
}

#[test]
fn a_cgroup_that_is_awaited_is_governed_from_the_moment_it_is_made() {
    let test = "a_cgroup_that_is_awaited_is_governed_from_the_moment_it_is_made";
    let Some(host) = Installation::open(test) else { return };
    listening(&host);
    let place = watched(&host.settings).join("later");
    let (events, mut receiver) = Events::new(&host.capture).unwrap();
    host.capture.await_cgroups(&[(Awaited::Path(from_root(&place)), cgroups(7))], None).unwrap();
    let elsewhere = Foreign::named(&host, "other");
    let mut other = elsewhere.agent(2);
    // Nobody but the kernel does anything from here on. It starts once more, under the same name.
    for _ in 0..2 {
        let foreign = Foreign::named(&host, "later");
        let mut agent = foreign.agent(1);
        assert!(is_held(&mut agent, cgroups(7)) && is_open(&mut other));
        assert_eq!(host.capture.governed(), [Subtree { id: cgroups(7), path: place.clone() }]);
        // What is made in it is its own.
        let inner = foreign.below("later");
        move_into(&inner, agent.child.id());
        assert!(is_held(&mut agent, cgroups(7)));
        let governed = host.capture.govern(&place, cgroups(7)).unwrap();
        assert_eq!((governed.processes.len(), governed.connections.cut), (1, 0), "what is held is not cut");
        drop(agent);
        foreign.remove();
        assert!(host.capture.governed().is_empty());
    }
    events.drain();
    let seen: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
    let changed = |event: &&KernelEvent| **event == KernelEvent::Changed { subtree: cgroups(7) };
    assert_eq!(seen.iter().filter(changed).count(), 4, "made and removed, twice: {seen:?}");
    // Awaited no more.
    host.capture.await_cgroups(&[], None).unwrap();
    let foreign = Foreign::named(&host, "later");
    assert!(is_open(&mut foreign.agent(1)));
}

#[test]
fn a_unit_is_awaited_below_slices_and_nowhere_else() {
    let Some(host) = Installation::open("a_unit_is_awaited_below_slices_and_nowhere_else") else { return };
    listening(&host);
    let unit = Awaited::Unit("coder.service".to_owned());
    host.capture.await_cgroups(&[(unit, cgroups(7))], None).unwrap();
    for (name, is_unit) in [
        ("coder.service", true),
        ("a.slice/coder.service", true),
        ("a.slice/a-b.slice/coder.service", true),
        ("other.service/coder.service", false),
        ("a.slice/user@7.service/app.slice/coder.service", false),
        ("other.slice/coder.services", false),
        ("other.slice/xcoder.service", false),
    ] {
        let top = Foreign::named(&host, name.split('/').next().unwrap());
        let foreign = Foreign::named(&host, name);
        let mut agent = foreign.agent(1);
        assert!(if is_unit { is_held(&mut agent, cgroups(7)) } else { is_open(&mut agent) }, "{name}");
        drop((agent, foreign));
        drop(top);
    }
}

#[test]
fn a_new_container_is_held_until_it_is_known() {
    let Some(host) = Installation::open("a_new_container_is_held_until_it_is_known") else { return };
    listening(&host);
    let doubt = cgroups(99);
    host.capture.await_cgroups(&[], Some(doubt)).unwrap();
    for name in [format!("docker-0{ID}.scope"), format!("libpod-0{ID}"), format!("0{ID}")] {
        let foreign = Foreign::named(&host, &name);
        let mut agent = foreign.agent(1);
        assert!(is_held(&mut agent, doubt), "{name}");
        host.capture.let_go(&foreign.0).unwrap();
        assert!(is_open(&mut agent), "{name}");
    }
    for name in [format!("docker-0{ID}.service"), format!("{ID}.scope"), format!("0{}", ID.to_uppercase())] {
        let foreign = Foreign::named(&host, &name);
        assert!(is_open(&mut foreign.agent(1)), "{name}");
    }
    // Two containers of one name.
    let containers = ["1", "2"].map(|first| Foreign::named(&host, &format!("docker-{first}{ID}.scope")));
    let mut agents = [containers[0].agent(1), containers[1].agent(2)];
    for (container, agent) in containers.iter().zip(&mut agents) {
        host.capture.govern(&container.0, cgroups(7)).unwrap();
        assert!(is_held(agent, cgroups(7)));
        let process = agent.process(&host.capture);
        assert_eq!(host.capture.assign(agent.pidfd.as_fd(), &process, agent.run).unwrap(), cgroups(7));
    }
    assert_eq!(host.capture.members().unwrap().len(), 2);
    let listen = "
        sys.listener = socket.create_server(('127.0.0.1', 0))
        return sys.listener.getsockname()[1]
    ";
    let port: u16 = agents[0].does(listen, &json!({})).parse().unwrap();
    let connect = "return tcp('127.0.0.1', port) is not None";
    assert_eq!(agents[0].does(connect, &json!({ "port": port })), "True");
    assert_eq!(agents[1].does(connect, &json!({ "port": port })), "EPERM", "each is a place of its own");
    host.capture.ungovern(cgroups(7)).unwrap();
    assert!(agents.iter_mut().all(is_open));
}

fn a_program_is_governed(host: &Installation) {
    listening(host);
    let coder = python(host, "coder");
    let foreign = Foreign::make(host);
    let executed = |program: &Path| Agent::executed(program, &foreign.0, RunId::from_bits(1));
    assert!(is_open(&mut executed(&coder)));
    let (events, mut receiver) = Events::new(&host.capture).unwrap();
    assert!(host.capture.govern_program(&coder, program()).unwrap().processes.is_empty());
    let mut agent = executed(&coder);
    assert!(is_held(&mut agent, program()));
    events.drain();
    let pid = agent.child.id();
    let seen = std::iter::from_fn(|| receiver.try_recv().ok()).find(|event| {
        matches!(event, KernelEvent::Executed { who, process, .. } if *who == Who::Unassigned(program()) && process.pid == pid)
    });
    assert!(seen.is_some());
    // Whatever it starts is governed, in whichever cgroup.
    let child = "return subprocess.run(['/usr/bin/python3', '-c', script], capture_output=True, text=True).stdout.strip()";
    let code = "import socket\ntry: socket.create_connection(('127.0.0.1', PORT))\nexcept OSError as e: print(e.errno)";
    let code = code.replace("PORT", &Installation::neighbour().to_string());
    assert_eq!(agent.does(child, &json!({ "script": code })), "1");
    let elsewhere = Foreign::named(host, "elsewhere");
    move_into(&elsewhere.0, pid);
    assert!(is_held(&mut agent, program()));
    // It acts for a run once it is assigned one, and is held again when that is taken away.
    let process = agent.process(&host.capture);
    assert_eq!(host.capture.assign(agent.pidfd.as_fd(), &process, agent.run).unwrap(), program());
    assert!(acts_for_its_run(&mut agent));
    assert_eq!(host.capture.assigned(agent.run).unwrap(), [process]);
    host.capture.unassign_run(agent.run).unwrap();
    assert!(is_held(&mut agent, program()));
    // A new version in its place is the same program; a copy elsewhere is another one.
    fs::rename(python(host, "coder.new"), &coder).unwrap();
    assert!(is_held(&mut executed(&coder), program()));
    assert!(is_open(&mut executed(&python(host, "copy"))));
    let mut outside = Agent::executed(&coder, &Installation::root_cgroup(), RunId::from_bits(2));
    assert!(is_open(&mut outside), "below the cgroup that is watched and nowhere else");
    // Nor a run that Writ launched.
    let mut launched = host.agent(5);
    let code = format!("os.execv({0:?}, [{0:?}, '-c', script])", coder.to_str().unwrap());
    launched.tell(&code, &json!({ "script": include_str!("agent.py") }));
    assert_eq!(launched.hear(), "ready");
    assert!(acts_for_its_run(&mut launched));
    assert_eq!(host.capture.members().unwrap().len(), 1);
    host.capture.ungovern(program()).unwrap();
    assert!(is_open(&mut agent) && is_open(&mut executed(&coder)));
    assert!(host.capture.members().unwrap().is_empty());
}

#[test]
fn a_program_is_governed_from_its_first_instruction() {
    let Some(host) = Installation::open("a_program_is_governed_from_its_first_instruction") else { return };
    a_program_is_governed(&host);
}

#[test]
fn a_program_is_governed_on_older_kernels() {
    let Some(host) = Installation::open_bare("a_program_is_governed_on_older_kernels") else { return };
    a_program_is_governed(&host);
}

#[test]
fn who_runs_a_program_already_is_held_with_all_that_it_started() {
    let test = "who_runs_a_program_already_is_held_with_all_that_it_started";
    let Some(host) = Installation::open(test) else { return };
    listening(&host);
    let (coder, foreign) = (python(&host, "coder"), Foreign::make(&host));
    let neighbour = Installation::neighbour();
    let mut agent = Agent::executed(&coder, &foreign.0, RunId::from_bits(1));
    let mut other = foreign.agent(2);
    let open = "
        sys.kept = tcp('127.0.0.1', neighbour)
        sys.kept.recv(9)
        sys.child = subprocess.Popen(['/usr/bin/python3', '-c', 'import time; time.sleep(600)'])
        return sys.child.pid
    ";
    let child: u32 = agent.does(open, &json!({ "neighbour": neighbour })).parse().unwrap();
    assert_eq!(
        other.does("sys.kept = tcp('127.0.0.1', neighbour)", &json!({ "neighbour": neighbour })),
        "None"
    );
    let governed = host.capture.govern_program(&coder, program()).unwrap();
    let mut pids: Vec<_> = governed.processes.iter().map(|process| process.pid).collect();
    pids.sort_unstable();
    let mut both = [agent.child.id(), child];
    both.sort_unstable();
    assert_eq!(pids, both);
    if governed.connections.trouble.is_none() {
        assert_eq!(governed.connections.cut, 1, "{:?}", governed.connections);
        assert_eq!(agent.does("return sys.kept.recv(9)", &json!({})), "ECONNABORTED");
    }
    assert_eq!(other.does("return sys.kept.recv(9)", &json!({})), "b'direct\\n'");
    assert!(is_held(&mut agent, program()) && is_open(&mut other));
    // Said again, nothing changes; after a restart it goes on.
    assert!(host.capture.govern_program(&coder, program()).unwrap().processes.is_empty());
    let next = Capture::open(&host.settings).unwrap();
    assert_eq!(next.members().unwrap().len(), 2);
    assert!(is_held(&mut agent, program()));
    assert!(is_held(&mut Agent::executed(&coder, &foreign.0, RunId::from_bits(3)), program()));
    agent.does("sys.child.kill(); sys.child.wait()", &json!({}));
}

#[test]
fn what_a_program_brings_over_its_start_is_cut() {
    let Some(host) = Installation::open("what_a_program_brings_over_its_start_is_cut") else { return };
    listening(&host);
    let (coder, foreign) = (python(&host, "coder"), Foreign::make(&host));
    host.capture.govern_program(&coder, program()).unwrap();
    let mut agent = foreign.agent(1);
    let start = "
        kept = tcp('127.0.0.1', neighbour)
        kept.recv(9)
        os.set_inheritable(kept.fileno(), True)
        os.execv(coder, [coder, '-c', script])
    ";
    let names =
        json!({ "neighbour": Installation::neighbour(), "coder": coder, "script": include_str!("agent.py") });
    agent.tell(start, &names);
    assert_eq!(agent.hear(), "ready");
    assert_eq!(agent.does("sys.own = tcp('198.18.0.1', 443)", &json!({})), "None");
    let cut = host.capture.cut_foreign(&agent.process(&host.capture)).unwrap();
    if cut.trouble.is_none() {
        assert_eq!((cut.cut, cut.left.len()), (1, 0), "{cut:?}");
    }
    let answer = agent.does("return ask(sys.own)", &json!({}));
    assert!(says("taken", "198.18.0.1:443", &format!("held-{}", program()), &answer), "{answer}");
}

#[test]
fn another_cgroup_is_watched_after_a_restart_if_that_is_set() {
    let Some(host) = Installation::open("another_cgroup_is_watched_after_a_restart_if_that_is_set") else {
        return;
    };
    listening(&host);
    let first = Foreign::named(&host, "first.slice");
    let second = Foreign::named(&host, "second.slice");
    let coder = python(&host, "coder");
    host.capture.govern_program(&coder, program()).unwrap();
    let settings = CaptureSettings { watch: from_root(&second.0), ..host.settings.clone() };
    let next = Capture::open(&settings).unwrap();
    next.govern_program(&coder, program()).unwrap();
    assert!(is_held(&mut Agent::executed(&coder, &second.0, RunId::from_bits(1)), program()));
    assert!(is_open(&mut Agent::executed(&coder, &first.0, RunId::from_bits(2))));
    next.ungovern(program()).unwrap();
    assert_eq!(
        fs::read_dir(host.settings.bpffs.join("links"))
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .count(),
        1
    );
}

#[test]
fn hooks_are_attached_while_something_is_governed() {
    let Some(host) = Installation::open("hooks_are_attached_while_something_is_governed") else { return };
    let links = || fs::read_dir(host.settings.bpffs.join("links/watch")).unwrap().count();
    assert_eq!(links(), 0);
    let coder = python(&host, "coder");
    host.capture.govern_program(&coder, program()).unwrap();
    host.capture.await_cgroups(&[(Awaited::Path("/x".into()), cgroups(7))], None).unwrap();
    assert!(links() > 10);
    host.capture.ungovern(program()).unwrap();
    assert!(links() > 10);
    host.capture.await_cgroups(&[], None).unwrap();
    assert_eq!(links(), 0);
    let path = |length: usize| Awaited::Path(format!("/{}", "x".repeat(length - 1)).into());
    host.capture.await_cgroups(&[(path(255), cgroups(7))], None).unwrap();
    host.capture.await_cgroups(&[(path(256), cgroups(7))], None).unwrap_err();
    host.capture.govern_program(&host.path("missing/coder"), program()).unwrap_err();
    host.capture.govern_program(&coder, cgroups(7)).unwrap_err();
}
