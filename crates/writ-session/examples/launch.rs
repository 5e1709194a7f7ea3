//! The launcher alone, for the tests of this crate: asks a test in the daemon's place, over one line of JSON each way.
//! `launch SOCKET PROGRAM ARGS` becomes the program; `launch --probe WHAT` is a program that tries what a run must
//! not be able to do, and prints what came of it.
#![expect(
    unsafe_code,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for tests: raw system calls, printed"
)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a program for tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::ExitCode;

use writ_session::launch::{Ask, Command, Daemon, Prepared, launch};

struct Asked(UnixStream);

impl Asked {
    fn exchange<T: serde::de::DeserializeOwned>(&mut self, line: &str) -> Result<T, String> {
        writeln!(self.0, "{line}").map_err(|error| error.to_string())?;
        let mut answer = String::new();
        BufReader::new(&self.0).read_line(&mut answer).map_err(|error| error.to_string())?;
        serde_json::from_str::<Result<T, String>>(&answer).map_err(|error| error.to_string())?
    }
}

impl Daemon for Asked {
    fn connection(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn prepare(&mut self, ask: Ask) -> Result<Prepared, String> {
        let ask = serde_json::to_string(&ask).map_err(|error| error.to_string())?;
        self.exchange(&ask)
    }

    fn ready(&mut self) -> Result<(), String> {
        self.exchange("\"ready\"")
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().unwrap();
    if first == "--probe" {
        let rest: Vec<_> = arguments.map(|text| text.into_string().unwrap()).collect();
        probe(&rest[0], &rest[1..]);
        return ExitCode::SUCCESS;
    }
    let command = Command {
        program: arguments.next().unwrap(),
        arguments: arguments.collect(),
        environment: std::env::vars_os().collect(),
        folder: std::env::current_dir().unwrap(),
        is_server: false,
    };
    let mut daemon = Asked(UnixStream::connect(first).unwrap());
    let Err(error) = launch(&command, &mut daemon);
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    eprintln!("error: {error}{source}");
    ExitCode::from(125)
}

fn probe(what: &str, rest: &[String]) {
    match what {
        "sockets" => sockets(),
        "calls" => calls(),
        "abstract" => {
            let address = SocketAddr::from_abstract_name(rest[0].as_bytes()).unwrap();
            let result = UnixStream::connect_addr(&address);
            println!("connect={}", result.err().and_then(|error| error.raw_os_error()).unwrap_or_default());
        }
        "spy" => spy(rest[0].parse().unwrap()),
        "wait" => {
            println!("waiting");
            std::io::stdout().flush().unwrap();
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        }
        _ => eprintln!("no probe `{what}`"),
    }
}

fn said(name: &str, result: i64) {
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or_default();
    println!("{name}={}", if result < 0 { errno } else { 0 });
}

fn call(name: &str, number: i64, arguments: [i64; 4]) {
    let [a, b, c, d] = arguments;
    // SAFETY: every caller below passes numbers, null, or pointers that live.
    said(name, unsafe { libc::syscall(number, a, b, c, d) });
}

fn sockets() {
    let socket = |name: &str, family: i32, kind: i32, protocol: i32| {
        call(name, libc::SYS_socket, [family.into(), kind.into(), protocol.into(), 0]);
    };
    socket("unix", libc::AF_UNIX, libc::SOCK_STREAM, 0);
    socket("tcp", libc::AF_INET, libc::SOCK_STREAM, 0);
    socket("udp6", libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
    socket("route", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE);
    socket("mptcp", libc::AF_INET, libc::SOCK_STREAM, 262);
    for (name, protocol) in
        [("audit", libc::NETLINK_AUDIT), ("uevent", libc::NETLINK_KOBJECT_UEVENT), ("diag", 4)]
    {
        socket(name, libc::AF_NETLINK, libc::SOCK_RAW, protocol);
    }
    for (name, family) in [
        ("packet", libc::AF_PACKET),
        ("vsock", libc::AF_VSOCK),
        ("alg", libc::AF_ALG),
        ("bluetooth", libc::AF_BLUETOOTH),
        ("can", libc::AF_CAN),
        ("xdp", libc::AF_XDP),
        ("key", libc::AF_KEY),
        ("smc", 43),
        ("tipc", libc::AF_TIPC),
        ("rds", 21),
    ] {
        socket(name, family, libc::SOCK_STREAM, 0);
    }
    socket("raw", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW);
    socket("raw-flags", libc::AF_INET6, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 58);
    socket("ping", libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP);
    socket("sctp", libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP);
    socket("sctp-seq", libc::AF_INET, libc::SOCK_SEQPACKET, 0);
    socket("dccp", libc::AF_INET, libc::SOCK_DCCP, 0);
    socket("old-packet", libc::AF_INET, 10, 0);
}

fn calls() {
    call("unshare-user", libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0]);
    call("clone-user", libc::SYS_clone, [i64::from(libc::CLONE_NEWUSER) | i64::from(libc::SIGCHLD), 0, 0, 0]);
    call("clone3", libc::SYS_clone3, [0; 4]);
    call("mount", libc::SYS_mount, [0; 4]);
    call("umount", libc::SYS_umount2, [0; 4]);
    call("setns", libc::SYS_setns, [0, 0, 0, 0]);
    call("bpf", libc::SYS_bpf, [0; 4]);
    call("perf", libc::SYS_perf_event_open, [0; 4]);
    call("userfaultfd", libc::SYS_userfaultfd, [1, 0, 0, 0]);
    call("keyctl", libc::SYS_keyctl, [0, 0, 0, 0]);
    call("handle", libc::SYS_open_by_handle_at, [0; 4]);
    call("pidfd-getfd", libc::SYS_pidfd_getfd, [0; 4]);
    call("io-uring", libc::SYS_io_uring_setup, [0, 0, 0, 0]);
    call("tiocsti", libc::SYS_ioctl, [0, i64::try_from(libc::TIOCSTI).unwrap(), 0, 0]);
    // A request with a high half: the kernel looks at the low one alone.
    call("tiocsti-high", libc::SYS_ioctl, [0, i64::try_from(libc::TIOCSTI).unwrap() | 1 << 32, 0, 0]);
    #[cfg(target_arch = "x86_64")]
    call("x32", libc::SYS_getpid | 0x4000_0000, [0; 4]);
}

/// Everything that would read another process of the same uid.
fn spy(pid: i32) {
    for name in ["environ", "mem", "maps", "fd/0", "cwd", "root", "io"] {
        let path = format!("/proc/{pid}/{name}");
        let result = match name {
            "cwd" | "root" => std::fs::read_link(&path).map(drop),
            _ => std::fs::File::open(&path).and_then(|mut file| file.read(&mut [0; 8])).map(drop),
        };
        println!("{name}={}", result.err().and_then(|error| error.raw_os_error()).unwrap_or_default());
    }
    call("ptrace", libc::SYS_ptrace, [i64::from(libc::PTRACE_SEIZE), pid.into(), 0, 0]);
    let mut byte = 0u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: 0x1000 as *mut libc::c_void, iov_len: 1 };
    // SAFETY: the local vector is one live byte; the remote one is the kernel's to check.
    said("vm-read", unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) }
        as i64);
}
