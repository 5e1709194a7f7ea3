//! Containers that a real Docker starts, governed by their label.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::process::Output;

use writ_e2e::World;
use writ_e2e::docker::Docker;
use writ_e2e::place::{CURL, Place, governing};
use writ_testkit::{AGENT_UID, Host, wait};

const ISSUES: &str = "https://forge.test/api/repos/acme/site/issues";

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The agent `worker` is whoever is in a container of this team, as the agents' user.
fn configure(host: &Host, docker: &Docker) {
    let settings = fs::read_to_string(host.path("etc/writ/writd.toml")).unwrap();
    let asked = format!("[attest]\ndocker_socket = \"{}\"\n", docker.socket().display());
    host.configure("writd.toml", &format!("{settings}{asked}"));
    let label = "container:label:team=platform";
    let worker = format!(
        "owner = \"x\"\n[[match]]\nselectors = [\"{label}\", \"unix:uid:{AGENT_UID}\"]\n[[govern]]\n\
         processes = {{ container_label = \"team=platform\" }}\n"
    );
    host.configure("agents/worker.toml", &worker);
}

/// What a container is given besides its network and label.
fn given(world: &Host) -> Vec<String> {
    let agents = world.path("run/writ/agents");
    let user = AGENT_UID.to_string();
    let given = ["--user", &user, "-e", "CURL_CA_BUNDLE=/run/agents/worker/bundle.pem"];
    let trust = format!("{}:/run/agents:ro", agents.display());
    given.iter().map(|text| (*text).to_owned()).chain(["-v".to_owned(), trust]).collect()
}

#[test]
fn a_container_is_governed_by_its_label_in_a_network_of_its_own() {
    let test = "a_container_is_governed_by_its_label_in_a_network_of_its_own";
    let Some(place) = Place::new("docker") else { return };
    let mut docker = None;
    let Some(world) = governing(test, &place, |host| {
        configure(host, docker.insert(Docker::start(place.slice())));
    }) else {
        return;
    };
    let docker = docker.as_ref().unwrap();
    let given = given(&world.host);
    let container = |network: &str, label: &str, command: &[&str]| {
        let mut more = vec!["--rm", "--network", network, "--label", label];
        more.extend(given.iter().map(String::as_str));
        said(&docker.run(Docker::container(&more, command)))
    };
    let get = [CURL, "-sS", "--max-time", "20", ISSUES];
    for _ in 0..3 {
        assert_eq!(container("none", "team=platform", &get).trim(), "[]", "{}", world.host.daemon_log());
    }
    let opened = world.records("session.opened");
    assert_eq!(opened.len(), 3, "each container is a run of its own");
    assert!(opened.iter().all(|record| record["actor"]["agent"] == "worker" && record["exe"] == CURL));
    assert_eq!(world.records("action.intended").len(), 3);

    // In the host's own network the forge could be reached past Writ, and never is, however early it is tried.
    let direct = format!("https://{}/api/health", world.forge.address());
    let past = [CURL, "-sk", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", &direct];
    for start in 0..5 {
        assert_ne!(container("host", "team=platform", &past), "200", "start {start}");
    }
    assert_eq!(container("host", "team=other", &past), "200", "it is nobody's business");
    assert_eq!(container("host", "team=platform", &get).trim(), "[]");

    // Its label alone makes nobody the agent.
    let root = container("none", "team=platform", &["/usr/bin/id", "-u"]);
    assert_eq!(root.trim(), AGENT_UID.to_string());
    let trust = given.last().unwrap();
    let more = ["--rm", "--network", "none", "--label", "team=platform", "-v", trust.as_str()];
    let answer = said(&docker.run(Docker::container(&more, &get)));
    assert!(!answer.contains("[]"), "{answer}");
    world.record("agent.refused", |record| record["uid"] == 0);
    world.verify();
}

#[test]
fn a_container_that_runs_already_is_governed_and_goes_on_over_a_restart() {
    let test = "a_container_that_runs_already_is_governed_and_goes_on_over_a_restart";
    let Some(place) = Place::new("docker-before") else { return };
    let start = |docker: &Docker, host: &Host, name: &str| {
        let work = host.path(name);
        fs::create_dir(&work).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, work.join("go"), 0o666.into()).unwrap();
        fs::set_permissions(work.join("go"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let (given, volume) = (given(host), format!("{}:/data", work.display()));
        let mut more =
            vec!["-d", "--network", "none", "--label", "team=platform", "--name", name, "-v", &volume];
        more.extend(given.iter().map(String::as_str));
        let script = format!("read go < /data/go; exec {CURL} -sS --max-time 20 {ISSUES}");
        let started = docker.run(Docker::container(&more, &["/usr/bin/bash", "-c", &script]));
        assert!(started.status.success(), "{}", said(&started));
    };
    let mut docker = None;
    let Some(mut world) = governing(test, &place, |host| {
        let docker = docker.insert(Docker::start(place.slice()));
        configure(host, docker);
        fs::create_dir_all(host.path("run/writ/agents")).unwrap();
        start(docker, host, "first");
        start(docker, host, "second");
    }) else {
        return;
    };
    let docker = docker.as_ref().unwrap();
    let go = |world: &World, name: &str| {
        let pipe = fs::File::options().write(true).open(world.host.path(name).join("go"));
        pipe.unwrap().write_all(b"go\n").unwrap();
        docker.run(["wait", name]);
        said(&docker.run(["logs", name]))
    };
    wait::until("both are governed", || (listening(&world) == 2).then_some(()));
    assert_eq!(go(&world, "first").trim(), "[]", "{}", world.host.daemon_log());
    world.host.kill();
    world.host.start();
    wait::until("the second one is heard again", || (listening(&world) >= 3).then_some(()));
    assert_eq!(go(&world, "second").trim(), "[]", "{}", world.host.daemon_log());
    world.verify();
}

/// In how many networks the daemons have listened.
fn listening(world: &World) -> usize {
    world.host.daemon_log().matches("listening in its network").count()
}
