//! The launcher with real processes: a test plays the daemon, and what becomes of a launched program is looked at
//! from inside and outside. As root, runs are uid 4242, which has no entry in the user database; otherwise they
//! are the caller.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use writ_session::launch::{Ask, Become, Certificates, Prepared};
use writ_session::{Confinement, Error, Peer, Program, Terms};

const STRANGER: u32 = 4242;

struct World {
    dir: tempfile::TempDir,
    listener: UnixListener,
    prepared: Prepared,
}

/// A launched program, past the daemon's last word.
struct Run {
    child: Child,
    program: Result<Program, String>,
    confinement: Option<Result<Confinement, Error>>,
}

struct Done {
    status: ExitStatus,
    out: String,
    err: String,
}

fn am_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn example() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.parent().unwrap().parent().unwrap().join("examples/launch")
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (uid, gid) = if am_root() {
            (STRANGER, STRANGER)
        } else {
            (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
        };
        let home = dir.path().join("home");
        for folder in ["home", "home/work", "home/.aws", "home/.config/gh", "home/work/.secrets"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let world = Self {
            listener,
            prepared: Prepared {
                uid,
                gid,
                home: home.clone(),
                become_user: am_root().then(|| Become {
                    name: uid.to_string(),
                    uid,
                    gid,
                    groups: Vec::new(),
                }),
                terms: Terms::default(),
                hide: vec![dir.path().join("control.sock")],
                certificates: Certificates {
                    authority: dir.path().join("ca.pem"),
                    bundle: dir.path().join("bundle.pem"),
                    truststore: None,
                },
                variables: [("WRIT_RUN".to_owned(), "R".to_owned())].into(),
                nested: false,
            },
            dir,
        };
        for (name, text) in [
            ("home/.aws/credentials", "planted-aws"),
            ("home/.aws/config", "granted-config"),
            ("home/.config/gh/hosts.yml", "planted-gh"),
            ("home/.netrc", "planted-netrc"),
            ("home/work/.env", "planted-env"),
            ("home/work/code", "ordinary"),
            ("ca.pem", "ca"),
            ("bundle.pem", "the-bundle-of-the-run"),
        ] {
            world.write(name, text.as_bytes(), 0o644);
        }
        world.give_away(&home);
        world
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        writ_host::durable::replace(&path, bytes, mode).unwrap();
        path
    }

    fn give_away(&self, path: &Path) {
        if am_root() {
            let status =
                Command::new("chown").arg("-R").arg(self.prepared.uid.to_string()).arg(path).status();
            assert!(status.unwrap().success());
        }
    }

    fn command(&self, program: &[&str]) -> Command {
        let mut command = Command::new(example());
        command.arg(self.dir.path().join("control.sock")).args(program);
        command.current_dir(self.dir.path().join("home/work"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn probe(&self, what: &[&str]) -> Command {
        let example = example();
        let head = [example.to_str().unwrap(), "--probe"];
        self.command(&[&head, what].concat())
    }

    /// Plays the daemon up to its last word; the program runs when this returns, unless something was refused.
    fn launch(&self, mut command: Command) -> Run {
        let child = command.spawn().unwrap();
        // Ends the wait below if the launcher died before it called.
        let waiting = self.listener.try_clone().unwrap();
        let mut polled = [
            rustix::event::PollFd::from_borrowed_fd(waiting.as_fd(), rustix::event::PollFlags::IN),
            rustix::event::PollFd::from_borrowed_fd(
                child.stdout.as_ref().map_or(waiting.as_fd(), |out| out.as_fd()),
                rustix::event::PollFlags::HUP,
            ),
        ];
        rustix::event::poll(&mut polled, None).unwrap();
        if !polled[0].revents().contains(rustix::event::PollFlags::IN) {
            return Run { child, program: Err("never called".into()), confinement: None };
        }
        let (mut stream, _) = self.listener.accept().unwrap();
        let Ok(peer) = Peer::of(stream.as_fd()) else {
            return Run { child, program: Err("gone at once".into()), confinement: None };
        };
        assert_eq!(peer.process().pid, child.id());
        let Some(ask) = line(&stream).and_then(|line| serde_json::from_str::<Ask>(&line).ok()) else {
            return Run { child, program: Err("asked nothing".into()), confinement: None };
        };
        let program =
            writ_session::program(&peer, ask.program, ask.script).map_err(|error| error.to_string());
        let answer: Result<&Prepared, String> = Ok(&self.prepared);
        writeln!(stream, "{}", serde_json::to_string(&answer).unwrap()).unwrap();
        let confinement = line(&stream).map(|_| {
            let seen = Confinement::observe(&peer, self.prepared.uid, self.prepared.terms.without_namespaces);
            let word: Result<(), String> = seen.as_ref().map(|_| ()).map_err(ToString::to_string);
            writeln!(stream, "{}", serde_json::to_string(&word).unwrap()).unwrap();
            seen
        });
        Run { child, program, confinement }
    }

    fn run(&self, program: &[&str]) -> Done {
        self.launch(self.command(program)).done()
    }

    fn sh(&self, script: &str) -> Done {
        self.run(&["sh", "-c", script])
    }
}

fn line(stream: &UnixStream) -> Option<String> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok().filter(|read| *read > 0)?;
    Some(line)
}

impl Run {
    fn done(self) -> Done {
        let out = self.child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Done { status: out.status, out: text(out.stdout), err: text(out.stderr) }
    }

    /// Waits until the program says that it waits.
    fn waiting(mut self) -> Self {
        let mut first = [0; 8];
        self.child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        self
    }
}

impl Done {
    fn value(&self, name: &str) -> i32 {
        let found = self.out.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no `{name}` in:\n{}{}", self.out, self.err)).parse().unwrap()
    }
}

#[test]
fn the_program_runs_confined_and_the_daemon_sees_it() {
    let world = World::new();
    let run = world.launch(world.command(&["sh", "-c", "cat /proc/self/status; ulimit -c; id -u"]));
    let seen = run.confinement.as_ref().unwrap().as_ref().unwrap();
    assert!(seen.namespaces && seen.uid == world.prepared.uid);
    let done = run.done();
    assert!(done.status.success(), "{}", done.err);
    for line in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(done.out.contains(&format!("{line}:\t0000000000000000\n")), "{line} in\n{}", done.out);
    }
    assert!(done.out.contains("NoNewPrivs:\t1\n") && done.out.contains("Seccomp:\t2\n"));
    assert!(done.out.ends_with(&format!("\n0\n{}\n", world.prepared.uid)), "{}", done.out);
}

#[test]
fn credentials_on_disk_are_unreadable_unless_granted() {
    let mut world = World::new();
    world.prepared.terms.files = vec!["~/.aws/config".into()];
    let script = "cat ../.aws/* ../.config/gh/* ../.netrc .env code; ls -A ../.aws; echo x > ../.aws/new";
    let done = world.sh(script);
    assert!(!done.out.contains("planted"), "{}", done.out);
    assert!(done.out.contains("granted-config") && done.out.contains("ordinary"), "{}{}", done.out, done.err);
    assert!(done.out.ends_with("config\n"), "{}", done.out);
    assert!(done.err.contains("Read-only"), "{}", done.err);
    assert_eq!(std::fs::read(world.dir.path().join("home/.aws/credentials")).unwrap(), b"planted-aws");
}

#[test]
fn a_masked_place_cannot_be_uncovered_or_reached_through_a_link() {
    let world = World::new();
    std::os::unix::fs::symlink("../.aws", world.dir.path().join("home/work/link")).unwrap();
    let done = world
        .sh("cat link/credentials; umount ../.aws; unshare -Urm umount ../.aws; cat ../.aws/credentials");
    assert!(!done.out.contains("planted") && !done.status.success(), "{}", done.out);
}

#[test]
fn a_link_in_place_of_a_credential_folder_hides_what_it_leads_to() {
    let world = World::new();
    let home = world.dir.path().join("home");
    std::fs::rename(home.join(".aws"), home.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", home.join(".aws")).unwrap();
    let done = world.sh("cat ../.aws/credentials ../elsewhere/credentials");
    assert!(!done.out.contains("planted"), "{}", done.out);
}

#[test]
fn a_working_folder_that_is_masked_is_empty() {
    let world = World::new();
    let mut command = world.command(&["cat", "credentials"]);
    command.current_dir(world.dir.path().join("home/.aws"));
    let done = world.launch(command).done();
    assert!(done.out.is_empty() && done.err.contains("No such file"), "{}{}", done.out, done.err);
}

#[test]
fn the_environment_is_cleaned_and_tls_clients_are_pointed_at_the_runs_ca() {
    let world = World::new();
    let mut command = world.command(&["env"]);
    command
        .env("AWS_SECRET_ACCESS_KEY", "planted-key")
        .env("SSH_AUTH_SOCK", "/planted")
        .env("OPENAI_API_KEY", "planted");
    command
        .env("HTTPS_PROXY", "http://planted")
        .env("DATABASE_URL", "postgres://a:planted@b/c")
        .env("LANG", "C");
    let done = world.launch(command).done();
    assert!(done.status.success() && !done.out.contains("planted"), "{}{}", done.out, done.err);
    for line in ["LANG=C", "WRIT_RUN=R", "OPENAI_API_KEY=writ-placeholder"] {
        assert!(done.out.lines().any(|l| l == line), "{line} in\n{}", done.out);
    }
    let bundle = format!("SSL_CERT_FILE={}", world.prepared.certificates.bundle.display());
    assert!(done.out.contains(&bundle));
}

#[test]
fn the_systems_bundle_shows_the_runs_ca() {
    let system = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if !system.exists() {
        println!("skipped: this host has no {}", system.display());
        return;
    }
    let done = World::new().sh("cat /etc/ssl/certs/ca-certificates.crt");
    assert_eq!(done.out, "the-bundle-of-the-run", "{}", done.err);
    assert!(
        std::fs::read_to_string(system).unwrap().contains("BEGIN CERTIFICATE"),
        "outside nothing changed"
    );
}

#[test]
fn sockets_of_unlisted_families_and_types_are_refused() {
    let world = World::new();
    let done = world.launch(world.probe(&["sockets"])).done();
    for allowed in ["unix", "tcp", "udp6", "route"] {
        assert_eq!(done.value(allowed), 0, "{allowed}");
    }
    assert_ne!(done.value("mptcp"), libc::EAFNOSUPPORT, "MPTCP is taken by the kernel hooks");
    for refused in [
        "audit",
        "uevent",
        "diag",
        "packet",
        "vsock",
        "alg",
        "bluetooth",
        "can",
        "xdp",
        "key",
        "smc",
        "tipc",
        "rds",
        "raw",
        "raw-flags",
        "ping",
        "sctp",
        "sctp-seq",
        "dccp",
        "old-packet",
    ] {
        assert_eq!(done.value(refused), libc::EAFNOSUPPORT, "{refused}");
    }
}

#[test]
fn calls_that_lead_out_of_the_run_are_refused() {
    let mut world = World::new();
    let done = world.launch(world.probe(&["calls"])).done();
    for refused in [
        "unshare-user",
        "clone-user",
        "mount",
        "umount",
        "setns",
        "bpf",
        "perf",
        "userfaultfd",
        "keyctl",
        "handle",
        "pidfd-getfd",
        "tiocsti",
        "tiocsti-high",
    ] {
        assert_eq!(done.value(refused), libc::EPERM, "{refused}");
    }
    assert_eq!(done.value("clone3"), libc::ENOSYS);
    #[cfg(target_arch = "x86_64")]
    assert_eq!(done.value("x32"), libc::ENOSYS);
    assert_eq!(done.value("io-uring"), libc::ENOSYS, "it would open sockets past the filter");
    world.prepared.terms.io_uring = true;
    assert_ne!(world.launch(world.probe(&["calls"])).done().value("io-uring"), libc::ENOSYS);
}

#[test]
fn a_sibling_run_cannot_be_read_or_traced() {
    let world = World::new();
    let sibling = world.launch(world.probe(&["wait"])).waiting();
    assert_unreadable(&world, sibling.child.id());
    assert!(sibling.done().status.success());
}

#[test]
fn another_process_of_the_same_uid_outside_cannot_be_read_or_traced() {
    let world = World::new();
    let mut command = Command::new("sh");
    command.args(["-c", "echo waiting; read x"]).env("PLANTED", "secret");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    if am_root() {
        command.uid(world.prepared.uid).gid(world.prepared.gid);
    }
    let outside =
        Run { child: command.spawn().unwrap(), program: Err(String::new()), confinement: None }.waiting();
    assert_unreadable(&world, outside.child.id());
    outside.done();
}

fn assert_unreadable(world: &World, pid: u32) {
    let done = world.launch(world.probe(&["spy", &pid.to_string()])).done();
    for way in ["environ", "mem", "maps", "fd/0", "cwd", "root", "io"] {
        assert!(matches!(done.value(way), libc::EACCES | libc::EPERM), "{way}: {}", done.out);
    }
    for way in ["ptrace", "vm-read"] {
        assert_eq!(done.value(way), libc::EPERM, "{way}: {}", done.out);
    }
}

#[test]
fn processes_outside_cannot_be_signalled_and_those_inside_can() {
    let world = World::new();
    let mut command = Command::new("sh");
    command.args(["-c", "echo waiting; read x"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    if am_root() {
        command.uid(world.prepared.uid).gid(world.prepared.gid);
    }
    let outside =
        Run { child: command.spawn().unwrap(), program: Err(String::new()), confinement: None }.waiting();
    let pid = outside.child.id();
    let done = world.sh(&format!("kill -9 {pid} && echo killed; cat & kill $! && echo inside"));
    if has_scopes() {
        assert_eq!(done.out, "inside\n", "{}", done.err);
        assert_eq!(outside.done().status.signal(), None);
    } else {
        println!("skipped: this kernel has no Landlock scopes");
    }
}

#[test]
fn abstract_sockets_outside_cannot_be_reached() {
    let world = World::new();
    let name = format!("writ-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let done = world.launch(world.probe(&["abstract", &name])).done();
    if has_scopes() {
        assert_eq!(done.value("connect"), libc::EPERM);
    } else {
        println!("skipped: this kernel has no Landlock scopes");
    }
}

/// Landlock scopes came with Linux 6.12.
fn has_scopes() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut parts = release.split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next(), parts.next()) >= (Some(6), Some(12))
}

#[test]
fn a_run_has_namespaces_of_its_own() {
    let done = World::new().sh("cd /proc/self/ns && readlink user mnt ipc cgroup");
    let ours = ["user", "mnt", "ipc", "cgroup"]
        .map(|name| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap());
    assert_eq!(done.out.lines().count(), 4, "{}", done.err);
    for (theirs, ours) in done.out.lines().zip(ours) {
        assert_ne!(Path::new(theirs), ours);
    }
}

#[test]
fn every_inherited_descriptor_is_closed() {
    let world = World::new();
    let secret = std::fs::File::open(world.dir.path().join("home/.netrc")).unwrap();
    // Without close-on-exec, as a careless parent would leave it.
    let leaked = rustix::io::dup(&secret).unwrap();
    let shown = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&leaked));
    assert!(Path::new(&shown).exists());
    let done = world.sh("ls /proc/$$/fd");
    assert_eq!(
        done.out.split_whitespace().collect::<Vec<_>>().join(" ").replace(" 10", ""),
        "0 1 2",
        "{}",
        done.err
    );
}

#[test]
fn an_inherited_network_socket_is_refused_before_anything_else() {
    let world = World::new();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut command = world.command(&["true"]);
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(socket)));
    let mut run = world.launch(command);
    let mut err = String::new();
    run.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(run.child.wait().unwrap().code(), Some(125));
    assert!(err.contains("standard input is a network socket") && err.contains("hint"), "{err}");
    assert!(run.confinement.is_none());
}

#[test]
fn a_socket_pair_in_place_of_a_pipe_is_inherited() {
    let world = World::new();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut command = world.command(&["cat"]);
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
    let run = world.launch(command);
    ours.write_all(b"through").unwrap();
    drop(ours);
    let done = run.done();
    assert_eq!(done.out, "through", "{}", done.err);
}

#[test]
fn exit_codes_and_signals_are_the_programs_own() {
    let world = World::new();
    assert_eq!(world.sh("exit 42").status.code(), Some(42));
    assert_eq!(world.sh("kill -TERM $$").status.signal(), Some(libc::SIGTERM));
    assert_eq!(
        world.sh("kill -PIPE $$").status.signal(),
        Some(libc::SIGPIPE),
        "not ignored, as Rust leaves it"
    );

    let run = world.launch(world.probe(&["wait"])).waiting();
    let pid = rustix::process::Pid::from_raw(run.child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(run.done().status.signal(), Some(libc::SIGINT), "the process is the caller's own child");
}

#[test]
fn a_run_is_never_uid_0_whatever_the_daemon_says() {
    if !am_root() {
        println!("skipped: needs root");
        return;
    }
    let mut world = World::new();
    for user in [None, Some(Become { name: "root".into(), uid: 0, gid: 0, groups: Vec::new() })] {
        world.prepared.become_user = user;
        let done = world.sh("echo ran");
        assert_eq!((done.status.code(), done.out.as_str()), (Some(125), ""));
        assert!(done.err.contains("may not be root"), "{}", done.err);
    }
}

/// A host without namespaces for users, made inside a user namespace that allows no further one.
fn without_namespaces(world: &mut World, program: &[&str]) -> Run {
    world.prepared.become_user = None;
    let copy = world.dir.path().join("launch");
    std::fs::copy(example(), &copy).unwrap();
    let socket = world.dir.path().join("control.sock");
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=4242", "--map-group=4242", "--keep-caps", "sh", "-c"]);
    command.arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"");
    command.arg(copy).arg(socket).args(program);
    command.current_dir(world.dir.path().join("home/work")).uid(STRANGER).gid(STRANGER);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    world.launch(command)
}

#[test]
fn where_no_namespace_can_be_had_a_run_is_refused_with_a_hint() {
    if !am_root() {
        println!("skipped: needs root to make such a host");
        return;
    }
    let mut world = World::new();
    let done = without_namespaces(&mut world, &["sh", "-c", "echo ran"]).done();
    assert_eq!((done.status.code(), done.out.as_str()), (Some(125), ""), "{}", done.err);
    assert!(done.err.contains("without_namespaces = true"), "{}", done.err);
}

#[test]
fn without_namespaces_a_run_is_still_confined_and_the_daemon_knows() {
    if !am_root() {
        println!("skipped: needs root to make such a host");
        return;
    }
    let mut world = World::new();
    world.prepared.terms.without_namespaces = true;
    let copy = world.dir.path().join("launch");
    let probe = [copy.to_str().unwrap(), "--probe", "spy", "1"];
    let run = without_namespaces(&mut world, &probe);
    let seen = run.confinement.as_ref().unwrap().as_ref().unwrap();
    assert!(!seen.namespaces, "never claims more than there is");
    let done = run.done();
    assert!(done.status.success(), "{}", done.err);
    for way in ["ptrace", "vm-read"] {
        assert_eq!(done.value(way), libc::EPERM, "the filter stands in for the namespace");
    }
}

#[test]
fn an_ordinary_user_needs_no_root_to_launch() {
    if !am_root() {
        println!("skipped: every other test runs as an ordinary user already");
        return;
    }
    let mut world = World::new();
    world.prepared.become_user = None;
    // The example must be reachable for that user, wherever it was built.
    let copy = world.dir.path().join("launch");
    std::fs::copy(example(), &copy).unwrap();
    std::fs::set_permissions(world.dir.path().join("control.sock"), std::fs::Permissions::from_mode(0o666))
        .unwrap();
    let mut command = Command::new(copy);
    command.arg(world.dir.path().join("control.sock")).args([
        "sh",
        "-c",
        "id -u; id -g; cat ../.aws/credentials",
    ]);
    command.current_dir(world.dir.path().join("home/work")).uid(STRANGER).gid(STRANGER);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = world.launch(command);
    assert!(run.confinement.as_ref().unwrap().as_ref().unwrap().namespaces);
    let done = run.done();
    assert_eq!(done.out, "4242\n4242\n", "{}", done.err);
}

#[test]
fn ordinary_programs_do_their_work_in_a_run() {
    let world = World::new();
    let node = "const {Worker}=require('worker_threads');new Worker('1',{eval:true}).on('exit',()=>\
                require('fs').readFile('code','utf8',(e,t)=>console.log(t,require('child_process').execSync('echo ok')+'')))";
    let python = "import threading,subprocess,ssl,asyncio; t=threading.Thread(target=lambda:0); t.start(); t.join(); \
                  print(subprocess.check_output(['echo','ordinary ok']).decode())";
    let git = "git init -q r && cd r && git -c user.name=a -c user.email=a commit -q --allow-empty -m x && git log --format='tformat:ordinary ok'";
    for (program, arguments) in [
        ("/usr/bin/node", ["-e", node]),
        ("/usr/bin/python3", ["-c", python]),
        ("/bin/sh", ["-c", git]),
        ("/usr/bin/curl", ["--version", "--fail"]),
    ] {
        if !Path::new(program).exists() {
            println!("skipped: no {program} here");
            continue;
        }
        let done = world.run(&[program, arguments[0], arguments[1]]);
        let did = done.out.contains("ordinary") && done.out.contains("ok") || done.out.contains("curl");
        assert!(done.status.success() && did, "{program}: {}{}", done.out, done.err);
    }
}

#[test]
fn the_attested_program_is_the_one_that_runs() {
    let world = World::new();
    let run = world.launch(world.command(&["sh", "-c", "readlink /proc/$$/exe"]));
    let program = run.program.clone().unwrap();
    assert_eq!(program.sha256.len(), 64);
    assert_eq!(run.done().out.trim(), program.path);
}

#[test]
fn interpreter_identity_is_that_of_the_script_behind_it() {
    let world = World::new();
    let script = world.write("tool", b"#!/bin/sh\necho \"$0 $1\"\n", 0o755);
    let other = world.write("other", b"#!/bin/sh\necho other\n", 0o755);
    let launch = |path: &Path| world.launch(world.command(&[path.to_str().unwrap(), "arg"]));
    let (one, two) = (launch(&script), launch(&other));
    let (a, b) = (one.program.clone().unwrap(), two.program.clone().unwrap());
    assert_eq!(a.sha256, b.sha256, "one interpreter");
    assert_ne!(a.script.as_ref().unwrap().sha256, b.script.as_ref().unwrap().sha256, "two scripts");
    assert_eq!(a.script.unwrap().path, script.to_str().unwrap());
    assert_eq!(one.done().out, format!("{} arg\n", script.display()));
    two.done();
}

#[test]
fn without_the_daemons_word_nothing_is_executed() {
    let world = World::new();
    let mut command = world.command(&["sh", "-c", "echo ran"]);
    let child = command.spawn().unwrap();
    let (mut stream, _) = world.listener.accept().unwrap();
    line(&stream).unwrap();
    let answer: Result<&Prepared, String> = Ok(&world.prepared);
    writeln!(stream, "{}", serde_json::to_string(&answer).unwrap()).unwrap();
    line(&stream).unwrap();
    drop(stream);
    let done = Run { child, program: Err(String::new()), confinement: None }.done();
    assert_eq!((done.status.code(), done.out.as_str()), (Some(125), ""), "{}", done.err);
}

#[test]
fn a_process_that_only_says_it_is_confined_is_not_believed() {
    let (one, _two) = UnixStream::pair().unwrap();
    let peer = Peer::of(one.as_fd()).unwrap();
    let uid = peer.uid();
    assert!(matches!(Confinement::observe(&peer, uid, true), Err(Error::Unconfined { .. })));
    assert!(matches!(Confinement::observe(&peer, uid + 1, true), Err(Error::Unconfined { .. })));
}
