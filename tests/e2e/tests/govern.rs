//! Programs that Writ did not launch: governed where they are, from the moment their agent's file says so.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use writ_e2e::World;
use writ_e2e::place::{CURL, Place, governing};
use writ_e2e::systemd::Systemd;
use writ_testkit::{AGENT_UID, Host, wait};

const ISSUES: &str = "https://forge.test/api/repos/acme/site/issues";

fn told(mut child: Child) -> String {
    child.stdin.take().unwrap().write_all(format!("url = \"{ISSUES}\"\n").as_bytes()).unwrap();
    said(&child.wait_with_output().unwrap())
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A host whose agent `worker` is curl in this place.
fn configured(test: &str, place: &Place, before: impl FnOnce(&Host)) -> Option<World> {
    governing(test, place, |host| {
        let worker = format!(
            "owner = \"x\"\n[[match]]\nselectors = [\"exe:path:{CURL}\", \"cgroup:under:{0}/place\"]\n[[govern]]\n\
             processes = {{ cgroup = \"{0}/place\" }}\n",
            place.watch()
        );
        host.configure("agents/worker.toml", &worker);
        before(host);
    })
}

fn of_pid(records: &[Value], pid: u32) -> Vec<&Value> {
    records.iter().filter(|record| record["process"]["pid"] == pid).collect()
}

#[test]
fn a_program_that_nobody_launched_acts_as_its_agent_and_another_one_gets_nothing() {
    let test = "a_program_that_nobody_launched_acts_as_its_agent_and_another_one_gets_nothing";
    let Some(place) = Place::new("first") else { return };
    let Some(world) = configured(test, &place, |_| {}) else { return };
    let curl = place.command(&world.host, &[CURL, "-sS", ISSUES]).spawn().unwrap();
    let pid = curl.id();
    assert_eq!(said(&curl.wait_with_output().unwrap()).trim(), "[]");
    let opened = world.record("session.opened", |r| r["process"]["pid"] == pid);
    assert_eq!((&opened["actor"]["agent"], &opened["exe"]), (&"worker".into(), &CURL.into()));
    assert_eq!(
        (opened["dangers"].to_string(), &opened["uid"]),
        ("[\"io_uring\",\"without_namespaces\"]".into(), &AGENT_UID.into())
    );
    let intended = world.record("action.intended", |_| true);
    assert_eq!(intended["actor"], opened["actor"], "agent, run and human are on record");
    assert!(intended["actor"]["human"].as_str().unwrap().starts_with("unix:"));
    world.record("session.ended", |r| r["actor"] == opened["actor"] && r["cause"] == "exited");

    // What its agent may not do, it may not either.
    let deleted =
        place.run(&world.host, &[CURL, "-sSf", "-X", "DELETE", "https://forge.test/api/repos/acme/site"]);
    assert!(!deleted.status.success(), "{}", said(&deleted));

    let get = "import urllib.request as u; print(u.urlopen('https://forge.test/api/repos/acme/site/issues').read())";
    let python = place.command(&world.host, &["/usr/bin/python3", "-c", get]).spawn().unwrap();
    let pid = python.id();
    let output = python.wait_with_output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{}", said(&output));
    let refused = world.record("agent.refused", |r| r["process"]["pid"] == pid);
    assert!(refused["exe"].as_str().unwrap().contains("python3") && refused["uid"] == AGENT_UID, "{refused}");
    world.record("connection.refused", |r| r["destination"] == "forge.test" && r["transport"] == "dns");

    // Past the resolver it gets no further, and that is told with its reason.
    let shown = place.run(&world.host, &[CURL, "-sS", "-o", "/dev/null", "-w", "%{remote_ip}", ISSUES]);
    let direct = "import socket, sys; s = socket.create_connection((sys.argv[1], 443), 5); s.sendall(b'x'); print(s.recv(9))";
    let argv = ["/usr/bin/python3", "-c", direct, &said(&shown)];
    let python = place.command(&world.host, &argv).spawn().unwrap();
    let pid = python.id();
    drop(python.wait_with_output().unwrap());
    let refused = world.record("connection.refused", |r| r["process"]["pid"] == pid);
    assert!(refused["reason"].as_str().unwrap().starts_with("identity."), "{refused}");

    // Root is nobody's agent, whatever it runs.
    let as_root = "echo $$ > \"$0/cgroup.procs\"; exec /usr/bin/curl -sS --max-time 5 \"$1\"";
    let root = Command::new("bash").args(["-c", as_root]).arg(&place.0).arg(ISSUES).output().unwrap();
    assert!(!root.status.success());
    world.record("agent.refused", |r| r["uid"] == 0);
    let python_opened = of_pid(&world.records("session.opened"), pid).len();
    assert_eq!((python_opened, world.records("session.opened").len()), (0, 3));
    world.verify();
}

#[test]
fn who_was_there_before_is_governed_and_goes_on_over_a_restart() {
    let test = "who_was_there_before_is_governed_and_goes_on_over_a_restart";
    let Some(place) = Place::new("before") else { return };
    let mut early = None;
    let Some(mut world) = configured(test, &place, |host| {
        early = Some((place.waiting(host), place.waiting(host)));
    }) else {
        return;
    };
    let (first, second) = early.unwrap();
    let opened = |world: &World, pid: u32| world.record("session.opened", |r| r["process"]["pid"] == pid);
    let (run, later) = (opened(&world, first.id()), opened(&world, second.id()));
    assert_ne!(run["actor"]["run"], later["actor"]["run"]);
    assert_eq!(told(first).trim(), "[]");
    assert_eq!(world.record("action.intended", |_| true)["actor"], run["actor"]);

    world.host.kill();
    world.host.start();
    assert_eq!(told(second).trim(), "[]", "{}", world.host.daemon_log());
    world.record("action.intended", |r| r["actor"] == later["actor"]);
    world.record("session.ended", |r| r["actor"] == later["actor"] && r["cause"] == "exited");
    assert_eq!(world.records("session.opened").len(), 2, "it has the run of before");
    // The rules are enforced as before, on whoever comes now.
    assert_eq!(said(&place.run(&world.host, &[CURL, "-sS", ISSUES])).trim(), "[]");
    world.verify();
}

#[test]
fn a_child_from_before_belongs_to_the_run_of_its_parent() {
    let test = "a_child_from_before_belongs_to_the_run_of_its_parent";
    let Some(place) = Place::new("family") else { return };
    let mut shell = None;
    let Some(world) = configured(test, &place, |host| {
        let worker = host.path("etc/writ/agents/worker.toml");
        let block = "[[match]]\nselectors = [\"exe:path:/usr/bin/bash\"]\n[[govern]]";
        let more = fs::read_to_string(worker).unwrap().replace("[[govern]]", block);
        host.configure("agents/worker.toml", &more);
        let script = format!("{CURL} -sS --max-time 20 -K -; echo; {CURL} -sS {ISSUES}");
        let mut command = place.command(host, &["/usr/bin/bash", "-c", &script]);
        shell = Some(command.stdin(Stdio::piped()).spawn().unwrap());
        // The child that was forked before anybody looked has no label of its parent's.
        let children = format!("/proc/{0}/task/{0}/children", shell.as_ref().unwrap().id());
        wait::until("curl runs", || {
            let child = fs::read_to_string(&children).ok()?.trim().to_owned();
            fs::read_link(format!("/proc/{child}/exe")).is_ok_and(|exe| exe == Path::new(CURL)).then_some(())
        });
    }) else {
        return;
    };
    let shell = shell.unwrap();
    let opened = world.record("session.opened", |r| r["process"]["pid"] == shell.id());
    assert_eq!(told(shell).split_whitespace().collect::<Vec<_>>(), ["[]", "[]"]);
    world.record("session.ended", |r| r["actor"] == opened["actor"]);
    assert_eq!(world.records("session.opened").len(), 1);
    assert!(world.records("action.intended").iter().all(|r| r["actor"] == opened["actor"]));
    world.verify();
}

#[test]
fn a_run_that_was_revoked_is_not_given_again() {
    let test = "a_run_that_was_revoked_is_not_given_again";
    let Some(place) = Place::new("revoked") else { return };
    let Some(mut world) = configured(test, &place, |_| {}) else { return };
    let (waiting, later) = (place.waiting(&world.host), place.waiting(&world.host));
    let is_of = |child: &Child| {
        let pid = child.id();
        move |record: &Value| record["process"]["pid"] == pid
    };
    let opened = [&waiting, &later].map(|child| world.record("session.opened", is_of(child)));
    // It is on record before it is alive.
    wait::until("both are alive", || {
        let alive = world.host.json(["ps"]);
        let is_alive = |opened: &Value| {
            alive.iter().any(|one| one.to_string().contains(opened["actor"]["session"].as_str().unwrap()))
        };
        opened.iter().all(is_alive).then_some(())
    });
    world.host.writ(["revoke", "agent", "worker"]).ok();
    let file = world.host.path("var/lib/writ/barred.json");
    let kept = || fs::read_to_string(&file).ok().filter(|text| text.contains(&later.id().to_string()));
    wait::until("both are barred", || kept()?.contains(&waiting.id().to_string()).then_some(()));
    let pid = waiting.id();
    let answer = told(waiting);
    assert!(!answer.contains("[]"), "{answer}");
    let refused = world.record("agent.refused", |r| r["process"]["pid"] == pid);
    assert_eq!(refused["reason"], "session.revoked");

    world.host.kill();
    world.host.start();
    let answer = told(later);
    assert!(!answer.contains("[]"), "{answer}");
    assert_eq!((world.records("session.opened").len(), world.records("action.intended").len()), (2, 0));
    world.verify();
}

#[test]
fn outside_the_subtree_nothing_is_touched_and_letting_go_opens_it_again() {
    let test = "outside_the_subtree_nothing_is_touched_and_letting_go_opens_it_again";
    let Some(place) = Place::new("inside") else { return };
    let other = place.beside("outside");
    let Some(world) = configured(test, &place, |_| {}) else { return };
    let forge = format!("https://{}/api/health", world.forge.address());
    let get = [CURL, "-sk", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", &forge];
    let inside = || said(&place.run(&world.host, &get));
    assert_eq!(said(&other.run(&world.host, &get)), "200", "nobody governs it");
    assert_ne!(inside(), "200");
    world.host.configure("agents/worker.toml", "owner = \"x\"\n");
    world.host.writ(["reload"]).ok();
    assert_eq!(inside(), "200", "it is let go");
    world.verify();
}

/// curl under another name, which is another program.
fn another_curl(host: &Host, name: &str) -> PathBuf {
    let path = host.path(name);
    fs::copy(CURL, &path).unwrap();
    path
}

/// What the forge says to whoever goes there past Writ.
fn direct(world: &World) -> Vec<String> {
    let forge = format!("https://{}/api/health", world.forge.address());
    ["-sk", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", &forge].map(str::to_owned).to_vec()
}

fn argv<'a>(program: &'a str, more: &'a [String]) -> Vec<&'a str> {
    std::iter::once(program).chain(more.iter().map(String::as_str)).collect()
}

#[test]
fn a_program_is_governed_wherever_it_is_executed() {
    let test = "a_program_is_governed_wherever_it_is_executed";
    let Some(place) = Place::new("program") else { return };
    let mut program = None;
    let Some(world) = governing(test, &place, |host| {
        let coder = another_curl(host, "coder");
        let worker = format!("owner = \"x\"\n[[match]]\nselectors = [\"exe:path:{}\"]\n", coder.display());
        host.configure("agents/worker.toml", &worker);
        // The daemon's own settings name it, not the agent's file.
        let settings = fs::read_to_string(host.path("etc/writ/writd.toml")).unwrap();
        let block = format!("[[govern]]\nprocesses = {{ program = \"{}\" }}\n", coder.display());
        host.configure("writd.toml", &format!("{settings}{block}"));
        program = Some(coder);
    }) else {
        return;
    };
    let program = program.unwrap();
    let coder = program.to_str().unwrap();
    let elsewhere = place.beside("anywhere");
    for place in [&place, &*elsewhere] {
        assert_eq!(said(&place.run(&world.host, &[coder, "-sS", ISSUES])).trim(), "[]");
        assert_ne!(said(&place.run(&world.host, &argv(coder, &direct(&world)))), "200");
        assert_eq!(said(&place.run(&world.host, &argv(CURL, &direct(&world)))), "200", "another program");
    }
    let acted = world.records("action.intended");
    assert!(
        acted.len() == 2 && acted[0]["actor"]["run"] != acted[1]["actor"]["run"],
        "each start is looked at"
    );
    // A new version is governed from its first instruction, and is the agent if the rules still say so.
    fs::rename(another_curl(&world.host, "coder.new"), &program).unwrap();
    assert_ne!(said(&place.run(&world.host, &argv(coder, &direct(&world)))), "200");
    assert_eq!(said(&place.run(&world.host, &[coder, "-sS", ISSUES])).trim(), "[]");
    world.verify();
}

#[test]
fn a_unit_that_starts_again_is_governed_from_its_first_moment() {
    let test = "a_unit_that_starts_again_is_governed_from_its_first_moment";
    let Some(place) = Place::new("unit") else { return };
    let Some(world) = governing(test, &place, |host| {
        let unit = "[[govern]]\nprocesses = { unit = \"coder.service\" }\n";
        let worker = format!("owner = \"x\"\n[[match]]\nselectors = [\"exe:path:{CURL}\"]\n{unit}");
        host.configure("agents/worker.toml", &worker);
    }) else {
        return;
    };
    for start in 0..10 {
        // Nobody waits for the daemon between the making of the cgroup and the first connection in it.
        let unit = place.beside("coder.service");
        let open = said(&unit.run(&world.host, &argv(CURL, &direct(&world))));
        assert_ne!(open, "200", "start {start}");
        assert_eq!(said(&unit.run(&world.host, &[CURL, "-sS", ISSUES])).trim(), "[]", "start {start}");
    }
    let other = place.beside("other.service");
    assert_eq!(said(&other.run(&world.host, &argv(CURL, &direct(&world)))), "200", "another unit");
    world.verify();
}

#[test]
fn a_script_cannot_be_governed_as_a_program_and_that_is_said() {
    let test = "a_script_cannot_be_governed_as_a_program_and_that_is_said";
    let Some(place) = Place::new("script") else { return };
    let Some(world) = configured(test, &place, |_| {}) else { return };
    let script = world.host.path("agent.py");
    writ_host::durable::replace(&script, b"#!/usr/bin/python3\n", 0o755).unwrap();
    let worker = fs::read_to_string(world.host.path("etc/writ/agents/worker.toml")).unwrap();
    let block = format!("[[govern]]\nprocesses = {{ program = \"{}\" }}\n", script.display());
    world.host.configure("agents/worker.toml", &format!("{worker}{block}"));
    let refused = world.host.writ(["reload"]);
    assert_ne!(refused.code, 0);
    let refused = refused.stderr;
    assert!(refused.contains("worker.toml:7") && refused.contains("executes its interpreter"), "{refused}");
    // What was in force still is.
    assert_eq!(said(&place.run(&world.host, &[CURL, "-sS", ISSUES])).trim(), "[]");
    world.verify();
}

#[test]
fn a_unit_of_a_real_service_manager_is_governed_at_each_start() {
    let test = "a_unit_of_a_real_service_manager_is_governed_at_each_start";
    let Some(place) = Place::new("systemd") else { return };
    let mut systemd = None;
    let Some(world) = governing(test, &place, |host| {
        let unit = "[[govern]]\nprocesses = { unit = \"coder.service\" }\n";
        let selectors = format!("\"exe:path:{CURL}\", \"systemd:unit:coder.service\"");
        let worker = format!("owner = \"x\"\n[[match]]\nselectors = [{selectors}]\n{unit}");
        host.configure("agents/worker.toml", &worker);
        systemd = Some(Systemd::start(place.slice()));
    }) else {
        return;
    };
    let systemd = systemd.as_ref().unwrap();
    let bundle = world.host.path("run/writ/agents/worker/bundle.pem");
    let start = |name: &str, arguments: &str| {
        let out = world.host.path(name);
        let user = format!("setpriv --reuid {AGENT_UID} --regid {AGENT_UID} --clear-groups --");
        let service = format!(
            "[Service]\nType=oneshot\nEnvironment=CURL_CA_BUNDLE={}\nStandardOutput=truncate:{}\n\
             ExecStart={user} {CURL} {arguments}\n",
            bundle.display(),
            out.display()
        );
        systemd.unit(name, &service);
        systemd.control(["daemon-reload"]);
        systemd.control(["start", name]);
        fs::read_to_string(out).unwrap()
    };
    // A percent sign means something to systemd.
    let past = direct(&world).join(" ").replace('%', "%%");
    for _ in 0..3 {
        assert_eq!(start("coder.service", &format!("-sS {ISSUES}")).trim(), "[]");
        assert_ne!(start("coder.service", &past), "200");
    }
    assert_eq!(start("other.service", &past), "200", "another unit");
    let opened = world.records("session.opened");
    assert!(opened.iter().all(|record| record["actor"]["agent"] == "worker"), "{opened:?}");
    world.verify();
}
