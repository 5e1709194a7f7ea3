//! Programs that Writ did not launch: governed where they are, from the moment their agent's file says so.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use writ_e2e::World;
use writ_testkit::{AGENT_UID, Host, wait};

const CURL: &str = "/usr/bin/curl";
const ISSUES: &str = "https://forge.test/api/repos/acme/site/issues";

/// A cgroup of the test's own; whoever is left in it ends with it.
struct Place(PathBuf);

impl Place {
    fn make(name: &str) -> Self {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let of_line = |line: &str| {
            let (left, right) = line.split_once(" - ")?;
            right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4).map(PathBuf::from)).flatten()
        };
        let folder = text.lines().find_map(of_line).unwrap().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn name(&self) -> &str {
        self.0.file_name().unwrap().to_str().unwrap()
    }

    /// As a service manager starts it: root enters the cgroup, then becomes the user, then the program.
    fn command(&self, host: &Host, argv: &[&str]) -> Command {
        let script = "echo $$ > \"$0/cgroup.procs\"; exec setpriv --reuid \"$1\" --regid \"$1\" --clear-groups -- \"${@:2}\"";
        let mut command = Command::new("bash");
        command.args(["-c", script]).arg(&self.0).arg(AGENT_UID.to_string()).args(argv);
        command.env("CURL_CA_BUNDLE", host.path("run/writ/agents/worker/bundle.pem"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
        command
    }

    fn run(&self, host: &Host, argv: &[&str]) -> Output {
        self.command(host, argv).output().unwrap()
    }

    /// A curl that runs and asks for nothing until it is told.
    fn waiting(&self, host: &Host) -> Child {
        let mut command = self.command(host, &[CURL, "-sS", "--max-time", "20", "-K", "-"]);
        let child = command.stdin(Stdio::piped()).spawn().unwrap();
        let exe = PathBuf::from(format!("/proc/{}/exe", child.id()));
        let is_curl = || fs::read_link(&exe).is_ok_and(|path| path == Path::new(CURL)).then_some(());
        wait::until("curl runs", is_curl);
        child
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::File::options().write(true).open(self.0.join("cgroup.kill")).unwrap().write_all(b"1"));
        wait::until("an empty cgroup", || fs::remove_dir(&self.0).ok());
    }
}

fn told(mut child: Child) -> String {
    child.stdin.take().unwrap().write_all(format!("url = \"{ISSUES}\"\n").as_bytes()).unwrap();
    said(&child.wait_with_output().unwrap())
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A host whose agent `worker` is curl in this place.
fn configured(test: &str, place: &Place, before: impl FnOnce(&Host)) -> Option<World> {
    World::configured(test, |host| {
        let worker = format!(
            "owner = \"x\"\n[[match]]\nselectors = [\"exe:path:{CURL}\", \"cgroup:under:/{0}\"]\n[[govern]]\n\
             processes = {{ cgroup = \"/{0}\" }}\n",
            place.name()
        );
        host.configure("agents/worker.toml", &worker);
        host.configure("policies/worker.cedar", "@id(\"worker-reads\")\npermit (principal == Writ::Agent::\"worker\", action in Writ::Action::\"read\", resource);\n");
        before(host);
    })
}

fn place(test: &str) -> Option<Place> {
    rustix::process::geteuid()
        .is_root()
        .then(|| Place::make(&format!("writ-govern-{test}-{}", std::process::id())))
}

fn of_pid(records: &[Value], pid: u32) -> Vec<&Value> {
    records.iter().filter(|record| record["process"]["pid"] == pid).collect()
}

#[test]
fn a_program_that_nobody_launched_acts_as_its_agent_and_another_one_gets_nothing() {
    let test = "a_program_that_nobody_launched_acts_as_its_agent_and_another_one_gets_nothing";
    let Some(place) = place("first") else { return };
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
    let Some(place) = place("before") else { return };
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
    let Some(place) = place("family") else { return };
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
    let Some(place) = place("revoked") else { return };
    let Some(mut world) = configured(test, &place, |_| {}) else { return };
    let (waiting, later) = (place.waiting(&world.host), place.waiting(&world.host));
    let is_of = |child: &Child| {
        let pid = child.id();
        move |record: &Value| record["process"]["pid"] == pid
    };
    world.record("session.opened", is_of(&waiting));
    world.record("session.opened", is_of(&later));
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
    let (Some(place), Some(other)) = (place("inside"), place("outside")) else { return };
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
