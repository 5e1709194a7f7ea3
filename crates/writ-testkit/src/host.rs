//! A whole Writ below one folder: configuration, daemon, CLI, and a user who runs agents.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// The uid that runs agents in tests: no entry in the user database, no rights.
pub const AGENT_UID: u32 = 4242;

/// One installation. The daemon is killed and its cgroups are removed when this is dropped.
pub struct Host {
    dir: TempDir,
    writd: Option<Child>,
}

/// What a program printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Both streams, for searching.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Asserts success and gives standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Host {
    /// An empty installation with a home for the agents' user; nothing runs yet.
    pub fn new() -> Self {
        let dir = TempDir::with_prefix("writ-e2e-").expect("temporary folder");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
        let host = Self { dir, writd: None };
        for folder in ["etc/writ/agents", "etc/writ/services", "etc/writ/policies", "home"] {
            std::fs::create_dir_all(host.path(folder)).expect("folder");
        }
        std::os::unix::fs::chown(host.home(), Some(AGENT_UID), Some(AGENT_UID)).expect("chown");
        // A cgroup name of our own, so that hosts of parallel tests never meet.
        host.configure("writd.toml", &format!("[capture]\ncgroup = \"{}\"\n", host.cgroup_name()));
        host
    }

    /// A path below the installation's root.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// The home of the agents' user.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// The name of the installation's cgroup.
    pub fn cgroup_name(&self) -> String {
        self.dir.path().file_name().and_then(OsStr::to_str).expect("a name").to_owned()
    }

    /// Writes a file below `etc/writ`.
    pub fn configure(&self, file: &str, text: &str) {
        write(&self.path("etc/writ").join(file), text);
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub fn start(&mut self) {
        let ready = self.path("ready.sock");
        drop(std::fs::remove_file(&ready));
        let socket = UnixDatagram::bind(&ready).expect("notify socket");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
        let log =
            std::fs::File::options().create(true).append(true).open(self.path("writd.log")).expect("log");
        let child = Command::new(program("writd"))
            .arg("--root")
            .arg(self.dir.path())
            .env("NOTIFY_SOCKET", &ready)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("writd");
        self.writd = Some(child);
        let mut message = [0u8; 64];
        match socket.recv(&mut message) {
            Ok(_) => assert!(message.starts_with(b"READY=1"), "{message:?}"),
            Err(error) => panic!("writd is not ready: {error}\n{}", self.daemon_log()),
        }
    }

    /// The daemon's process id.
    pub fn writd_pid(&self) -> u32 {
        self.writd.as_ref().expect("writd runs").id()
    }

    /// Kills the daemon at once, as the kernel would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.writd.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    /// Stops the daemon in good order.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.writd.take() {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
            let status = child.wait().expect("wait");
            assert!(status.success(), "writd ended with {status}\n{}", self.daemon_log());
        }
    }

    /// Everything that the daemon printed.
    pub fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.path("writd.log")).unwrap_or_default()
    }

    /// `writ ARGS` as root.
    pub fn writ<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        self.writ_command(args).output().expect("writ").into()
    }

    /// `writ ARGS` as root, not started.
    pub fn writ_command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(program("writ"));
        command.arg("--root").arg(self.dir.path()).args(args).stdin(Stdio::null());
        command
    }

    /// `writ ARGS --json` as root; each line of the answer.
    pub fn json<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Vec<Value> {
        let mut args: Vec<&str> = args.into_iter().collect();
        args.insert(0, "--json");
        let out = self.writ(args).ok();
        serde_json::Deserializer::from_str(&out).into_iter().map(|value| value.expect("JSON")).collect()
    }

    /// `writ secret set NAME`, the value on standard input.
    pub fn secret(&self, name: &str, value: &str) {
        let mut command = self.writ_command(["secret", "set", name]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("writ");
        std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), value.as_bytes()).expect("value");
        assert!(child.wait().expect("wait").success(), "secret set");
    }

    /// `writ run --agent AGENT -- ARGV` as the agents' user, not started.
    pub fn agent<A: AsRef<OsStr>>(&self, agent: &str, argv: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.as_user(["run", "--agent", agent, "--"]);
        command.args(argv).env_remove("SSL_CERT_FILE");
        command
    }

    /// `writ ARGS` as the agents' user, outside any run, not started.
    pub fn as_user<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let uid = AGENT_UID.to_string();
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--inh-caps=-all", "--"])
            .arg(program("writ"))
            .arg("--root")
            .arg(self.dir.path())
            .args(args)
            .env("HOME", self.home())
            .current_dir(self.home())
            .stdin(Stdio::null());
        command
    }

    /// Runs an agent to its end.
    pub fn run<A: AsRef<OsStr>>(&self, agent: &str, argv: impl IntoIterator<Item = A>) -> Ran {
        self.agent(agent, argv).output().expect("setpriv").into()
    }

    /// The evidence, oldest first: `writ log` as JSON.
    pub fn log(&self) -> Vec<Value> {
        let lines = self.json(["log", "--limit", "100000"]);
        lines.into_iter().filter_map(|mut line| line.get_mut("leaf").map(Value::take)).collect()
    }

    /// Every byte of every file below the installation that an agent could ever see or that is evidence, for leak
    /// searches: logs, run files, evidence.
    pub fn written_down(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for below in ["run", "var/lib/writ/evidence", "writd.log", "home"] {
            collect(&self.path(below), &mut found);
        }
        found
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("---- writd.log\n{}", self.daemon_log());
        }
        self.kill();
        // `writd --purge` ends the holder, unpins the kernel's part and removes the cgroups of this installation.
        let purge = Command::new(program("writd")).arg("--root").arg(self.dir.path()).arg("--purge").output();
        if let Ok(output) = purge
            && !output.status.success()
        {
            println!("writd --purge: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

fn collect(path: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    if let Ok(entries) = std::fs::read_dir(path) {
        entries.flatten().for_each(|entry| collect(&entry.path(), found));
    } else if path.is_file() {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
        if read.is_ok() {
            found.push((path.to_owned(), bytes));
        }
    }
}

/// One of the project's programs, as built beside the running test.
pub fn program(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("own path");
    let found = exe.ancestors().skip(1).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not built; hint: cargo build --workspace"))
}

fn write(path: &Path, text: &str) {
    #[expect(clippy::disallowed_methods, reason = "a test's file needs no durability")]
    std::fs::write(path, text).expect("write");
}
