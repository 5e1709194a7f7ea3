//! One whole installation of the kernel's part in a network of its own, with both of the daemon's ears, and agents.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::{Value, json};
use writ_capture::{Capture, CaptureSettings, DestinationRule, Origin, Verdict};
use writ_core::{Process, RunId};

/// A process is in one daemon's cgroup only; where tests share a process they take turns.
static ONE: Mutex<()> = Mutex::new(());

pub(crate) const RELAY: u16 = 15_001;
pub(crate) const RESOLVER: u16 = 15_053;

pub(crate) struct Installation {
    pub(crate) capture: Arc<Capture>,
    pub(crate) settings: CaptureSettings,
    pub(crate) folder: tempfile::TempDir,
    before: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Installation {
    /// `None` where this process may not.
    pub(crate) fn open(test: &str) -> Option<Self> {
        if !writ_testkit::isolation::enter(test) {
            return None;
        }
        Some(Self::resume(tempfile::tempdir().unwrap()))
    }

    /// Opens what an earlier daemon may have left. This thread is isolated already.
    pub(crate) fn resume(folder: tempfile::TempDir) -> Self {
        let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = settings(folder.path());
        let before = cgroup_of_this_process();
        let capture = Arc::new(Capture::open(&settings).unwrap());
        Self { capture, settings, folder, before, _turn: turn }
    }

    /// Listens as the daemon does, and tells the kernel.
    pub(crate) fn listen(&self) {
        for address in ["127.0.0.1", "::1"] {
            for port in [RELAY, RESOLVER] {
                let listener = TcpListener::bind((address, port)).unwrap();
                rustix::net::listen(&listener, 4096).unwrap();
                let capture = Arc::clone(&self.capture);
                thread::spawn(move || relay(&listener, &capture));
            }
            let socket = UdpSocket::bind((address, RESOLVER)).unwrap();
            let capture = Arc::clone(&self.capture);
            thread::spawn(move || resolver(&socket, &capture));
        }
        self.capture.set_ports(RELAY, RESOLVER).unwrap();
    }

    /// A listener that says `direct` to whoever comes.
    pub(crate) fn neighbour() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().flatten() {
                (&stream).write_all(b"direct\n").unwrap();
                kept.push(stream);
            }
        });
        port
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A run of its own with one agent in it.
    pub(crate) fn agent(&self, number: u128) -> Agent {
        let run = RunId::from_bits(number);
        self.capture.create_run(run).unwrap();
        let agent = Agent::spawn(run);
        self.capture.adopt(run, agent.pidfd.as_fd(), &agent.process()).unwrap();
        agent
    }

    pub(crate) fn root_cgroup() -> PathBuf {
        mount()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        move_into(&self.before, std::process::id());
        Capture::purge(&self.settings).unwrap();
    }
}

pub(crate) fn settings(folder: &Path) -> CaptureSettings {
    let name = folder.file_name().unwrap().to_str().unwrap().trim_start_matches('.');
    CaptureSettings { cgroup: format!("writ-test-{name}"), bpffs: folder.join("bpf") }
}

pub(crate) fn take(address: &str, port: u16) -> DestinationRule {
    DestinationRule { address: address.parse().unwrap(), port, verdict: Verdict::Take }
}

pub(crate) fn move_into(cgroup: &Path, pid: u32) {
    let mut file = fs::File::options().write(true).open(cgroup.join("cgroup.procs")).unwrap();
    file.write_all(pid.to_string().as_bytes()).unwrap();
}

fn mount() -> PathBuf {
    let text = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = text.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
    PathBuf::from(line.split(' ').nth(1).unwrap())
}

fn cgroup_of_this_process() -> PathBuf {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    mount().join(path)
}

/// The line by which both ears say who came: `taken` or `asked`, then address, run and pid; or `miss`.
pub(crate) fn line(verb: &str, origin: Option<&Origin>) -> String {
    origin.map_or_else(
        || "miss".to_owned(),
        |o| format!("{verb} {} {:x} {}", o.address, o.run.map_or(0, writ_core::RunTag::get), o.process.pid),
    )
}

fn relay(listener: &TcpListener, capture: &Capture) {
    // Kept open: what the other side has sent is not read, so closing would reset the connection.
    let mut kept = Vec::new();
    for stream in listener.incoming().flatten() {
        let text = line("taken", capture.origin(stream.as_fd()).as_ref());
        drop((&stream).write_all(format!("{text}\n").as_bytes()));
        kept.push(stream);
    }
}

fn resolver(socket: &UdpSocket, capture: &Capture) {
    let mut question = [0u8; 512];
    while let Ok((_, peer)) = socket.recv_from(&mut question) {
        let text = line("asked", capture.question(peer).as_ref());
        drop(socket.send_to(text.as_bytes(), peer));
    }
}

/// A program that does what it is told; it is ended when this is dropped.
pub(crate) struct Agent {
    pub(crate) run: RunId,
    pub(crate) child: Child,
    pub(crate) pidfd: OwnedFd,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Agent {
    /// Started, and in no run yet.
    pub(crate) fn spawn(run: RunId) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", include_str!("agent.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut agent = Self { run, child, pidfd, input, output };
        // Its own exec is over then, and not seen by the kernel's part.
        assert_eq!(agent.hear(), "ready");
        agent
    }

    pub(crate) fn process(&self) -> Process {
        Process { exec_generation: 0, pid: self.child.id(), start_us: 0 }
    }

    /// Runs the code in the agent with these names.
    pub(crate) fn tell(&mut self, code: &str, names: &Value) {
        let mut case = names.clone();
        case["code"] = json!(code);
        writeln!(self.input, "{case}").unwrap();
    }

    /// What the code returned, or the name of its error.
    pub(crate) fn hear(&mut self) -> String {
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    pub(crate) fn does(&mut self, code: &str, names: &Value) -> String {
        self.tell(code, names);
        self.hear()
    }

    /// Whether this answer says that the connection was taken from this agent's run, and from the right process.
    pub(crate) fn is_answer(&self, verb: &str, address: &str, answer: &str) -> bool {
        let words: Vec<_> = answer.split(' ').collect();
        let tag = format!("{:x}", self.run.tag().get());
        matches!(words[..], [v, a, run, named, real] if v == verb && a == address && run == tag && named == real)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
