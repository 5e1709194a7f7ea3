//! The installation that the scripts are run in, and what its daemon knows.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use writ_control::api::{AgentRow, PolicyText, PolicyView, SessionRow};
use writ_control::{Access, Server};
use writ_core::config::{Place, Problems};
use writ_core::event::{
    ActionClosed, ActionIntended, ActionRefused, Actor, ConnectionRefused, Hop, HopKind, Key, Keys, Known,
    LeaseFate, NodeStarted, NodeStopped, Outcome, Request, SecretSet, SessionOpened,
};
use writ_core::{
    ActionId, ActsFor, Argument, Assurance, ConnId, Effect, Grants, Layout, LeaseId, Process, Reason, RunId,
    SessionId, SpiffeId, Timestamp,
};

use crate::memory::Memory;

/// 2026-09-21 14:13:20 UTC.
const START: u64 = 1_790_000_000;

const SERVICE: &str = r#"name = "forge"
hosts = ["forge.test", "*.pages.forge.test"]
ports = [443, 8443]
protocol = "https"

[credential]
secret = "forge"
place = "bearer"

[[operation]]
name = "issues.list"
effect = "read"
methods = ["GET"]
path = "/repos/{owner}/issues"
arguments = { page = "query:page integer?" }

[[operation]]
name = "issues.close"
effect = "write"
methods = ["POST"]
path = "/graphql"
graphql = "mutation closeIssue"
arguments = { issue = "graphql:/input/issueId string" }

[[operation]]
name = "repo.delete"
effect = "delete"
methods = ["DELETE"]
path = "/repos/{owner}"
"#;

const POLICY: &str = r#"@id("coder-reads")
permit (
  principal == Writ::Agent::"coder",
  action in Writ::Action::"read",
  resource == Writ::Service::"forge"
);

@id("people-read")
permit (
  principal is Writ::Human,
  action in Writ::Action::"read",
  resource
);
"#;

const SAMPLES: &str = r#"[[sample]]
title = "the agent lists issues"
agent = "coder"
human = "unix:ann"
operation = "forge/issues.list"
arguments = { owner = "acme", page = 2 }
expect = "permit"

[[sample]]
title = "nobody deletes"
agent = "coder"
human = "unix:ann"
operation = "forge/repo.delete"
arguments = { owner = "acme" }
expect = "permit"
"#;

/// An installation below a folder of its own.
pub(crate) struct Fixture {
    folder: tempfile::TempDir,
    daemon: Option<Arc<Memory>>,
    stop: CancellationToken,
    server: Option<std::thread::JoinHandle<()>>,
}

impl Fixture {
    /// Files, and no daemon.
    pub(crate) fn quiet() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let layout = Layout::new(folder.path());
        for made in [layout.services(), layout.policies().join("samples"), layout.run()] {
            writ_host::durable::folder(&made, 0o755).unwrap();
        }
        write(&layout.services().join("forge.toml"), SERVICE);
        write(&layout.policies().join("forge.cedar"), POLICY);
        write(&layout.policies().join("samples/forge.toml"), SAMPLES);
        for (name, text) in [("bad.toml", "nmae = \"x\"\nports = [0]\n"), ("good.toml", SERVICE)] {
            let folder = folder.path().join(name.trim_end_matches(".toml"));
            writ_host::durable::folder(&folder, 0o755).unwrap();
            write(&folder.join(name), text);
            write(
                &folder.join("policy.cedar"),
                "permit (principal, action == Writ::Action::\"fly\", resource);\n",
            );
        }
        Self { folder, daemon: None, stop: CancellationToken::new(), server: None }
    }

    /// Files, and a daemon that answers.
    pub(crate) fn served() -> Self {
        let mut fixture = Self::quiet();
        let daemon = Arc::new(known());
        let socket = Layout::new(fixture.root()).control_socket();
        let (stop, answering) = (fixture.stop.clone(), Arc::clone(&daemon));
        let (bound, wait) = std::sync::mpsc::channel();
        fixture.server = Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listening = Server::bind(&socket).unwrap();
                bound.send(()).unwrap();
                listening.serve(answering, Access::default(), stop).await;
            });
        }));
        wait.recv().unwrap();
        fixture.daemon = Some(daemon);
        fixture
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn daemon(&self) -> &Memory {
        self.daemon.as_ref().unwrap()
    }

    /// From here on every caller belongs to a run.
    pub(crate) fn govern_everyone(&self) {
        self.daemon().everyone_is_governed.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// The program where a user without rights can execute it.
    pub(crate) fn copied_program(&self) -> PathBuf {
        let copy = self.root().join("writ");
        if !copy.exists() {
            std::fs::copy(env!("CARGO_BIN_EXE_writ"), &copy).unwrap();
        }
        copy
    }

    /// A real log of three events, a copy of it in which one byte is different, and its checkpoint.
    pub(crate) fn evidence(&self) {
        self.log(async |record| {
            record.fact(started().into()).await.unwrap();
            record.fact(SecretSet { name: "forge".into(), uid: 0 }.into()).await.unwrap();
            record.fact(NodeStopped { cut: 0 }.into()).await.unwrap();
        });
        self.damage();
    }

    /// A real log, made of what `work` records.
    pub(crate) fn log(&self, work: impl AsyncFnOnce(&dyn writ_gate::Record)) {
        let layout = Layout::new(self.root());
        writ_host::durable::folder(&layout.state(), 0o700).unwrap();
        let clock = Arc::new(writ_core::clock::ManualClock::new(Timestamp::from_micros(START * 1_000_000)));
        let settings = writ_evidence::LogSettings {
            dir: layout.evidence(),
            origin: "writ.test/evidence".into(),
            key_file: layout.state().join("evidence.key"),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let log = writ_evidence::Log::open(settings, clock).unwrap();
            let record = log.recorder();
            work(&*record).await;
            drop(record);
            log.close().await.unwrap();
            write(&self.root().join("checkpoint"), &log.checkpoint().unwrap().1);
        });
    }

    /// A copy of the log in which bytes are different.
    pub(crate) fn damage(&self) {
        let damaged = self.root().join("damaged");
        copy(&Layout::new(self.root()).evidence(), &damaged);
        for path in files_below(&damaged) {
            let mut bytes = std::fs::read(&path).unwrap();
            if let Some(at) = bytes.windows(5).position(|window| window == b"forge") {
                bytes[at] = b'F';
                writ_host::durable::replace(&path, &bytes, 0o600).unwrap();
            }
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

pub(crate) fn write(path: &Path, text: &str) {
    writ_host::durable::replace(path, text.as_bytes(), 0o644).unwrap();
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn copy(from: &Path, to: &Path) {
    for path in files_below(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&path, &target).unwrap();
    }
}

pub(crate) fn started() -> NodeStarted {
    NodeStarted { assurance: Assurance::Kernel, dangers: Vec::new(), version: "1.2.3".into() }
}

pub(crate) fn actor(number: u128, human: &str) -> Actor {
    let run = RunId::from_bits(100 + number);
    Actor {
        agent: "coder".parse().unwrap(),
        human: human.parse().unwrap(),
        run,
        session: SessionId::from_bits(200 + number),
        spiffe_id: SpiffeId::new(&format!("spiffe://writ.test/agent/coder/run/{run}")).unwrap(),
    }
}

fn session(number: u128, human: &str, uid: u32) -> SessionRow {
    let actor = actor(number, human);
    SessionRow {
        actions: 12,
        agent: actor.agent,
        assurance: Assurance::Kernel,
        below: None,
        display: Some("Ann".into()),
        command: vec!["/usr/bin/python3".into(), "agent.py".into(), "\u{1b}[2Jhide".into()],
        connections: 2,
        expires: Timestamp::from_micros((START + 3600) * 1_000_000).into(),
        human: actor.human,
        opened: Timestamp::from_micros(START * 1_000_000).into(),
        pid: 4242,
        purpose: "mend the build".into(),
        refused: u64::from(uid == 0),
        run: actor.run,
        session: actor.session,
        spiffe_id: actor.spiffe_id,
        uid,
    }
}

pub(crate) fn process() -> Process {
    Process { exec_generation: 1, pid: 4242, start_us: 77 }
}

pub(crate) fn request(operation: &str, method: &str, path: &str) -> Request {
    Request {
        arguments: [("owner".to_owned(), "acme".into()), ("page".to_owned(), Argument::Integer(2))].into(),
        effect: Effect::Read,
        host: "forge.test".into(),
        method: method.into(),
        operation: operation.parse().unwrap(),
        path: path.into(),
        service: "forge".parse().unwrap(),
    }
}

fn keys(permitted: bool) -> Keys {
    let key = |id: &str| Key { permitted, policies: permitted.then(|| id.to_owned()).into_iter().collect() };
    Keys { agent: key("coder-reads"), human: key("people-read"), policy_digest: "00ff".repeat(16) }
}

fn known() -> Memory {
    let mut problems = Problems::default();
    let services = writ_catalog::Services::read([("forge.toml", SERVICE)], &mut problems).unwrap();
    let policy = PolicyText { id: "coder-reads".into(), text: POLICY.split("\n\n").next().unwrap().into() };
    let memory = Memory {
        services: services.iter().map(|service| service.as_ref().clone()).collect(),
        policies: PolicyView { digest: "0123456789abcdef".repeat(4), policies: vec![policy] },
        ..Memory::default()
    };
    *memory.sessions.lock().unwrap() = vec![session(1, "unix:ann", 0), session(2, "unix:nobody", 65_534)];
    memory.agents.lock().unwrap().agents.push(AgentRow {
        acts_for: ActsFor::Starter,
        held: vec!["ff".repeat(32)],
        name: "coder".parse().unwrap(),
        owner: "platform".into(),
        pinned: vec!["ab".repeat(32)],
        sessions: 1,
    });
    let place = Place { file: "services/forge.toml".into(), line: 3, column: 1, key: "prots".into() };
    let problem = (place, "unknown key".to_owned(), Some("did you mean `ports`?".to_owned()));
    memory.problems.lock().unwrap().push(problem);
    events(&memory);
    memory
}

fn events(memory: &Memory) {
    let (ann, action) = (actor(1, "unix:ann"), ActionId::from_bits(300));
    memory.record(START, NodeStarted { dangers: vec!["danger.example".into()], ..started() });
    memory.record(START + 1, opened(1, "unix:ann"));
    memory.record(START + 2, opened(2, "unix:nobody"));
    memory.record(
        START + 3,
        ActionIntended {
            action,
            actor: ann.clone(),
            assurance: Assurance::Kernel,
            conn: ConnId::from_bits(400),
            keys: keys(true),
            observed: None,
            process: process(),
            request: request("forge/issues.list", "GET", "/repos/acme/issues"),
            tool_path: vec![Hop { how: Known::Observed, kind: HopKind::Human, name: "unix:ann".into() }],
            terms: writ_core::event::Terms::default(),
        },
    );
    memory.record(
        START + 4,
        ActionClosed {
            action,
            actor: ann.clone(),
            bytes_down: 2048,
            bytes_up: 0,
            duration_us: 12_345,
            lease: Some(LeaseId::from_bits(500)),
            lease_fate: LeaseFate::Echoed,
            operation: "forge/issues.list".parse().unwrap(),
            outcome: Outcome::Completed,
            reason: None,
            scrubbed: 1,
            service: "forge".parse().unwrap(),
            status: Some(200),
        },
    );
    memory.record(
        START + 5,
        ActionRefused {
            action: ActionId::from_bits(301),
            actor: ann.clone(),
            assurance: Assurance::Kernel,
            conn: ConnId::from_bits(400),
            keys: Some(keys(false)),
            process: process(),
            reason: Reason::AgentNotPermitted,
            request: Some(request("forge/repo.delete", "DELETE", "/repos/\u{1b}[31macme\r\nfaked line")),
            tool_path: Vec::new(),
            labels: std::collections::BTreeSet::new(),
        },
    );
    memory.record(
        START + 6,
        ConnectionRefused {
            actor: Some(ann),
            conn: None,
            destination: "exfil.test".into(),
            process: Some(process()),
            reason: Reason::NameRefused,
            transport: "dns".into(),
        },
    );
}

pub(crate) fn opened(number: u128, human: &str) -> SessionOpened {
    SessionOpened {
        acts_for: ActsFor::Starter,
        display: None,
        grants: Grants::default(),
        groups: Some(vec!["unix:dev".into()]),
        parents: Vec::new(),
        actor: actor(number, human),
        assurance: Assurance::Kernel,
        audit_session: None,
        dangers: Vec::new(),
        exe: "/usr/bin/python3.13".into(),
        exe_sha256: "ab".repeat(32),
        expires_us: Timestamp::from_micros(START * 1_000_000).plus(Duration::from_hours(1)),
        login_uid: Some(1000),
        process: process(),
        purpose: "mend the build".into(),
        script: None,
        uid: 1000,
    }
}
