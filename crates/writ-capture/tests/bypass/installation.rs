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
use writ_capture::resolver::Datagram;
use writ_capture::{Capture, CaptureSettings, DestinationRule, Error, Origin, Verdict};
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

    /// As on a kernel that offers only what is required.
    pub(crate) fn open_bare(test: &str) -> Option<Self> {
        if !writ_testkit::isolation::enter(test) {
            return None;
        }
        Some(Self::open_with(tempfile::tempdir().unwrap(), Capture::open_bare))
    }

    /// Opens what an earlier daemon may have left. This thread is isolated already.
    pub(crate) fn resume(folder: tempfile::TempDir) -> Self {
        Self::open_with(folder, Capture::open)
    }

    fn open_with(folder: tempfile::TempDir, open: fn(&CaptureSettings) -> Result<Capture, Error>) -> Self {
        let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = settings(folder.path());
        fs::create_dir_all(watched(&settings)).unwrap();
        let before = cgroup_of_this_process();
        let capture = Arc::new(open(&settings).unwrap());
        Self { capture, settings, folder, before, _turn: turn }
    }

    /// Listens as the daemon does, and tells the kernel.
    pub(crate) fn listen(&self) {
        self.make_ears();
        self.capture.set_ports(RELAY, RESOLVER).unwrap();
    }

    /// Listens in the calling thread's network.
    pub(crate) fn make_ears(&self) {
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
        self.capture.adopt(run, agent.pidfd.as_fd(), &agent.process(&self.capture)).unwrap();
        agent
    }

    pub(crate) fn root_cgroup() -> PathBuf {
        mount()
    }
}

/// A cgroup that Writ did not make, and will not remove. Whoever is left in it is ended with this.
pub(crate) struct Foreign(pub(crate) PathBuf);

impl Foreign {
    pub(crate) fn make(host: &Installation) -> Self {
        Self::named(host, "foreign")
    }

    pub(crate) fn named(host: &Installation, name: &str) -> Self {
        let folder = watched(&host.settings).join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn below(&self, name: &str) -> PathBuf {
        let folder = self.0.join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Somebody in it whom nobody launched.
    pub(crate) fn agent(&self, number: u128) -> Agent {
        let agent = Agent::spawn(RunId::from_bits(number));
        move_into(&self.0, agent.child.id());
        agent
    }

    /// Removes it; processes that were ended may take a moment to leave.
    pub(crate) fn remove(&self) {
        write(&self.0.join("cgroup.kill"), "1");
        let mut folders = vec![self.0.clone()];
        let mut next = 0;
        while let Some(folder) = folders.get(next) {
            let below = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            folders.extend(below.filter(|path| path.is_dir()).collect::<Vec<_>>());
            next += 1;
        }
        for folder in folders.iter().rev() {
            writ_testkit::wait::until("an empty cgroup", || fs::remove_dir(folder).ok());
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if self.0.exists() {
            self.remove();
        }
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        move_into(&self.before, std::process::id());
        Capture::purge(&self.settings).unwrap();
        // Of two that share a folder the first one removes it.
        drop(fs::remove_dir(watched(&self.settings)));
    }
}

pub(crate) fn settings(folder: &Path) -> CaptureSettings {
    let name = folder.file_name().unwrap().to_str().unwrap().trim_start_matches('.');
    CaptureSettings {
        cgroup: format!("writ-test-{name}"),
        bpffs: folder.join("bpf"),
        watch: format!("/writ-watch-{name}.slice").into(),
    }
}

/// The folder of the cgroup below which processes may be that nobody launched.
pub(crate) fn watched(settings: &CaptureSettings) -> PathBuf {
    mount().join(settings.watch.strip_prefix("/").unwrap())
}

pub(crate) fn take(address: &str, port: u16) -> DestinationRule {
    DestinationRule { address: address.parse().unwrap(), port, verdict: Verdict::Take }
}

pub(crate) fn move_into(cgroup: &Path, pid: u32) {
    write(&cgroup.join("cgroup.procs"), &pid.to_string());
}

fn write(file: &Path, text: &str) {
    fs::File::options().write(true).open(file).unwrap().write_all(text.as_bytes()).unwrap();
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

/// The line by which both ears say who came: `taken` or `asked`, then address, run (or `held-` and the subtree) and pid;
/// or `miss`.
pub(crate) fn line(verb: &str, origin: Option<&Origin>) -> String {
    let Some(origin) = origin else { return "miss".to_owned() };
    let who = match (origin.run, origin.governed) {
        (Some(run), _) => format!("{:x}", run.get()),
        (None, Some(subtree)) => format!("held-{subtree}"),
        (None, None) => "nobody".to_owned(),
    };
    format!("{verb} {} {who} {}", origin.address, origin.process.pid)
}

/// Whether an ear says this of whoever is called so, and of the process that asked.
pub(crate) fn says(verb: &str, address: &str, who: &str, answer: &str) -> bool {
    let words: Vec<_> = answer.split(' ').collect();
    matches!(words[..], [v, a, w, named, real] if v == verb && a == address && w == who && named == real)
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
    Datagram::prepare(socket.as_fd()).unwrap();
    while let Ok((_, datagram)) = Datagram::receive(socket.as_fd(), &mut question) {
        let text = line("asked", datagram.mark.and_then(|mark| capture.question(mark)).as_ref());
        drop(socket.send_to(text.as_bytes(), datagram.peer));
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
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", include_str!("agent.py")]);
        Self::started(run, &mut command)
    }

    /// The same with another Python, executed by a shell in this cgroup.
    pub(crate) fn executed(program: &Path, cgroup: &Path, run: RunId) -> Self {
        let script = "echo $$ > \"$0/cgroup.procs\"; exec \"$@\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).args([cgroup, program]).args(["-c", include_str!("agent.py")]);
        Self::started(run, &mut command)
    }

    fn started(run: RunId, command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut agent = Self { run, child, pidfd, input, output };
        // Its own exec is over then, and not seen by the kernel's part.
        assert_eq!(agent.hear(), "ready");
        agent
    }

    pub(crate) fn process(&self, capture: &Capture) -> Process {
        capture.process(self.child.id(), self.pidfd.as_fd()).unwrap()
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

    /// How the ears call the run of this agent.
    pub(crate) fn name(&self) -> String {
        format!("{:x}", self.run.tag().get())
    }

    /// Whether this answer says that the connection was taken from this agent's run, and from the right process.
    pub(crate) fn is_answer(&self, verb: &str, address: &str, answer: &str) -> bool {
        says(verb, address, &self.name(), answer)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
