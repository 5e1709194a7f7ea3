//! What the kernel's part adds to a connection over loopback: `connect` and `close`, without hooks, to a listener of the
//! run's own, passed over where others are governed, and taken. Needs root; runs in a network namespace, cgroup and bpffs of its own.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an example measures and prints its figures"
)]

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use writ_capture::{Awaited, Capture, CaptureSettings, DestinationRule, GovernId, Verdict};
use writ_core::RunId;

type Failed = Box<dyn Error>;

const CONNECTIONS: usize = 20_000;
/// Not measured: caches and CPU clocks settle.
const WARM_UP: usize = 1_000;

fn main() -> Result<(), Failed> {
    if std::env::args().nth(1).as_deref() == Some("measure") { measurer() } else { compare() }
}

fn compare() -> Result<(), Failed> {
    if !writ_testkit::isolation::enter("connect_cost") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let name = format!("writ-cost-{}", std::process::id());
    let place = format!("{name}-watched");
    let watched = hierarchy()?.join(&place);
    std::fs::create_dir(&watched)?;
    let watch = Path::new("/").join(&place);
    let settings = CaptureSettings { watch, cgroup: name, bpffs: folder.path().join("bpf") };
    let mut outside = Measurer::start()?;
    let stranger = acceptor()?;
    let [own_before, elsewhere] = [outside.measure("own")?, outside.measure(&stranger.to_string())?];

    let started = Instant::now();
    let capture = Capture::open(&settings)?;
    let opened = started.elapsed();
    // In the daemon's cgroup from here on, and so is what it accepts.
    let relay = acceptor()?;
    capture.set_ports(relay.port(), relay.port())?;
    let asked = SocketAddr::from(([198, 18, 0, 1], 443));
    let rule = DestinationRule { address: asked.ip(), port: asked.port(), verdict: Verdict::Take };
    capture.set_destinations(&[rule])?;
    let run = RunId::from_bits(1);
    capture.create_run(run)?;
    let mut inside = Measurer::start()?;
    inside.adopt(&capture, run)?;
    let [own_after, taken] = [inside.measure("own")?, inside.measure(&asked.to_string())?];
    // Something is to be governed there, and not this process.
    let mut beside = Measurer::start()?;
    enter(&watched, beside.child.id())?;
    let id = GovernId::new(1).ok_or("no name")?;
    capture.await_cgroups(&[(Awaited::Path("/nowhere".into()), id)], None)?;
    let passed_over = beside.measure(&stranger.to_string())?;
    capture.await_cgroups(&[], None)?;

    println!("connect() and close() over loopback, {CONNECTIONS} times each, microseconds");
    println!("{:<40} {:>7} {:>7}", "", "p50", "p99");
    for (what, [half, most]) in [
        ("without hooks, own listener", own_before),
        ("passed, own listener", own_after),
        ("without hooks, listener elsewhere", elsewhere),
        ("watched and not governed, elsewhere", passed_over),
        ("taken", taken),
    ] {
        println!("{what:<40} {half:>7.1} {most:>7.1}");
    }
    println!("opening the kernel's part: {} ms", opened.as_millis());
    let counters = capture.counters();
    println!("taken {}, misses {}, refused {}", counters.taken, counters.misses, counters.refused);
    beside.end()?;
    inside.end()?;
    outside.end()?;
    drop(capture);
    leave(&settings)?;
    Ok(std::fs::remove_dir(watched)?)
}

/// This process leaves the daemon's cgroup, so that all of it can be removed.
fn leave(settings: &CaptureSettings) -> Result<(), Failed> {
    enter(&hierarchy()?, std::process::id())?;
    Ok(Capture::purge(settings)?)
}

fn enter(cgroup: &Path, pid: u32) -> Result<(), Failed> {
    let mut procs = std::fs::File::options().write(true).open(cgroup.join("cgroup.procs"))?;
    Ok(procs.write_all(pid.to_string().as_bytes())?)
}

/// Where cgroups are mounted.
fn hierarchy() -> Result<PathBuf, Failed> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).ok_or("no cgroup2")?;
    Ok(line.split(' ').nth(1).ok_or("no mount point")?.into())
}

/// Accepts and closes whatever comes.
fn acceptor() -> Result<SocketAddr, Failed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    rustix::net::listen(&listener, 4_096)?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || listener.incoming().for_each(drop));
    Ok(address)
}

/// The process that connects.
struct Measurer {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Measurer {
    fn start() -> Result<Self, Failed> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("measure")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
        // Its own exec is over once it speaks.
        output.read_line(&mut String::new())?;
        Ok(Self { child, output })
    }

    fn adopt(&self, capture: &Capture, run: RunId) -> Result<(), Failed> {
        let pid = rustix::process::Pid::from_child(&self.child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        let process = capture.process(self.child.id(), pidfd.as_fd()).ok_or("it has ended")?;
        Ok(capture.adopt(run, pidfd.as_fd(), &process)?)
    }

    fn measure(&mut self, to: &str) -> Result<[f64; 2], Failed> {
        writeln!(self.child.stdin.as_mut().ok_or("no input")?, "{to}")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let mut numbers = line.split_whitespace().map(str::parse);
        Ok([numbers.next().ok_or("no figure")??, numbers.next().ok_or("no figure")??])
    }

    fn end(mut self) -> Result<(), Failed> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

/// Measures as it is told, line by line. Has one thread, as whoever is adopted must.
fn measurer() -> Result<(), Failed> {
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line?;
        // Made after the adoption, so that it is the run's own.
        let listener = if line == "own" { Some(TcpListener::bind("127.0.0.1:0")?) } else { None };
        let to = match &listener {
            Some(listener) => listener.local_addr()?,
            None => line.parse()?,
        };
        let mut times = Vec::with_capacity(CONNECTIONS);
        for number in 0..CONNECTIONS + WARM_UP {
            let took = once(to)?;
            if let Some(listener) = &listener {
                drop(listener.accept()?);
            }
            if number >= WARM_UP {
                times.push(took);
            }
        }
        times.sort_unstable();
        let at = |share: usize| times.get(CONNECTIONS * share / 100).map_or(0.0, |t| t.as_secs_f64() * 1e6);
        println!("{} {}", at(50), at(99));
    }
    Ok(())
}

fn once(to: SocketAddr) -> Result<Duration, Failed> {
    let made = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    // Reset instead of a port that stays taken for a minute.
    sockopt::set_socket_linger(&made, Some(Duration::ZERO))?;
    let started = Instant::now();
    connect(&made, &to)?;
    drop(made);
    Ok(started.elapsed())
}
