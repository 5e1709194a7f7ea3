//! Who is at the other end of a unix socket, as the kernel says it.
//!
//! Nothing is taken from what the peer sends. The process is held by a pidfd, its folder in `/proc` by a
//! descriptor that was checked against that pidfd, so a pid that is reused names nobody else. What this does not
//! prove: that the human sits at the keyboard. A process of the same login can open a session in their name, as it
//! can do anything else in their name. Where the audit login uid is unset (no PAM session: containers, services),
//! the uid of the process is the human.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags};
use writ_core::{HumanId, Process};
use writ_gate::Human;

use crate::account::{Account, group_name};
use crate::error::Error;

/// A process at the other end of a unix socket.
#[derive(Debug)]
pub struct Peer {
    pidfd: OwnedFd,
    /// Its folder in `/proc`.
    folder: OwnedFd,
    process: Process,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    login_uid: Option<u32>,
    audit_session: Option<u32>,
}

/// "Not set" for login uids and audit sessions.
const UNSET: u32 = u32::MAX;
/// Room for what the kernel says of one process in one file.
const STATE_BYTES: usize = 4 * 1024;
/// The unit of times in `/proc/PID/stat`: `USER_HZ` is 100 on every Linux.
const MICROS_PER_TICK: u64 = 10_000;

impl Peer {
    /// The peer of this connected unix socket.
    ///
    /// Credentials are those of the moment it connected. Kernels before 6.5 give no pidfd: one is then opened by
    /// pid, and the process must have been started by the time of this call and have the peer's uid, which leaves
    /// a window of one reuse of a pid within one user.
    pub fn of(socket: BorrowedFd<'_>) -> Result<Self, Error> {
        let unproven = |what| move |errno: rustix::io::Errno| Error::Unproven { what, source: errno.into() };
        let credentials = rustix::net::sockopt::socket_peercred(socket)
            .map_err(unproven("the socket has no peer credentials"))?;
        let pid = credentials.pid;
        let (pidfd, exact) = match crate::syscall::peer_pidfd(socket) {
            Ok(pidfd) => (pidfd, true),
            Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
                (open_pidfd(pid).map_err(unproven("the process is gone"))?, false)
            }
            // Before 6.16 the kernel has none for a process that is gone. Whoever has its pid by now is another one.
            Err(source) => return Err(Error::Unproven { what: "the process is gone", source }),
        };
        let number = pid.as_raw_nonzero().get().unsigned_abs();
        let peer = Self::behind(pidfd, number, credentials.uid.as_raw(), credentials.gid.as_raw())?;
        if !exact && peer.status_uid()? != peer.uid {
            return Err(gone("the process changed its user or was replaced"));
        }
        Ok(peer)
    }

    /// The process that this pidfd holds, with the credentials it connected with. `pid` is checked to be its number.
    pub fn behind(pidfd: OwnedFd, pid: u32, uid: u32, gid: u32) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())
            .map_err(|errno| Error::Unproven { what: "the process is gone", source: errno.into() })?;
        // Alive after its folder was opened: then the folder is its own, not that of a later owner of the pid.
        if held_pid(pidfd.as_fd()) != Some(pid) || !alive(pidfd.as_fd()) {
            return Err(gone("the process is gone"));
        }
        let mut peer = Self {
            pidfd,
            folder,
            process: Process { exec_generation: 0, pid, start_us: 0 },
            uid,
            gid,
            groups: Vec::new(),
            login_uid: None,
            audit_session: None,
        };
        peer.process.start_us = peer.start()?;
        peer.groups = peer.status()?.groups;
        peer.login_uid = peer.audit("loginuid");
        peer.audit_session = peer.audit("sessionid");
        Ok(peer)
    }

    /// The process that this pidfd holds, with the credentials it has now: one that was found and did not connect.
    pub fn held(pidfd: OwnedFd, pid: u32) -> Result<Self, Error> {
        let mut peer = Self::behind(pidfd, pid, UNSET, UNSET)?;
        let status = peer.status()?;
        let second = |ids: &[u32]| ids.get(1).copied().ok_or_else(|| gone("its ids cannot be read"));
        (peer.uid, peer.gid) = (second(&status.uids)?, second(&status.gids)?);
        Ok(peer)
    }

    /// The process. Its start has the resolution of `/proc`, 10 ms.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The process, held.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The uid it had when it connected.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The group it had when it connected.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// The uid that logged in, if the kernel keeps one.
    pub fn login_uid(&self) -> Option<u32> {
        self.login_uid
    }

    /// The audit session of that login.
    pub fn audit_session(&self) -> Option<u32> {
        self.audit_session
    }

    pub(crate) fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// Whether it is still there.
    pub fn is_alive(&self) -> bool {
        alive(self.pidfd.as_fd())
    }

    /// The accountable person behind it, for a run that will have the uid `run_uid`.
    ///
    /// That is who logged in: `su` and `sudo` change the uid, and not who answers. Groups are the process's own,
    /// supplementary ones included, or those of the login user where that is somebody else: never both together.
    pub fn human(&self, run_uid: u32) -> Result<Human, Error> {
        let (id, groups) = if let Some(login) = self.login_uid.filter(|login| *login != self.uid) {
            let account = Account::of_uid(login)?;
            let groups = account.as_ref().map(Account::groups).transpose()?.unwrap_or_default();
            (human_id(login, account), groups)
        } else {
            let groups = [self.groups.as_slice(), &[self.gid]].concat();
            (human_id(self.uid, Account::of_uid(self.uid)?), groups)
        };
        Ok(Human {
            id: id?,
            display: None,
            groups: group_names(groups)?,
            uid: run_uid,
            login_uid: self.login_uid,
            audit_session: self.audit_session,
        })
    }

    /// A file of its folder in `/proc`, whole. Fails once the process is gone.
    pub(crate) fn file(&self, name: &str) -> Result<String, Error> {
        let unproven = |source: io::Error| Error::Unproven { what: "its state cannot be read", source };
        let mut text = String::new();
        self.open(name).and_then(|mut file| file.read_to_string(&mut text)).map_err(unproven)?;
        Ok(text)
    }

    /// The same for files that are no text.
    pub(crate) fn file_bytes(&self, name: &str) -> Result<Vec<u8>, Error> {
        let unproven = |source: io::Error| Error::Unproven { what: "its state cannot be read", source };
        let mut bytes = Vec::with_capacity(STATE_BYTES);
        self.open(name).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(unproven)?;
        Ok(bytes)
    }

    /// A file that the kernel writes in one piece: read with one call, if it fits.
    pub(crate) fn piece(&self, name: &str) -> Result<Vec<u8>, Error> {
        let unproven = |source: io::Error| Error::Unproven { what: "its state cannot be read", source };
        let mut bytes = vec![0; STATE_BYTES];
        let read = self.open(name).and_then(|mut file| file.read(&mut bytes)).map_err(unproven)?;
        if read == STATE_BYTES {
            return self.file_bytes(name);
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.folder, name, flags, Mode::empty())?))
    }

    /// What the kernel gave to the program that it executes: it places stack and vDSO at random, so this changes with
    /// every execution, unless that is switched off or the process sets it back (`PR_SET_MM_MAP`).
    pub(crate) fn execution(&self) -> Result<Vec<u8>, Error> {
        // Empty while a program is being executed, and once the process is gone.
        self.piece("auxv").and_then(|auxv| {
            if auxv.is_empty() { Err(gone("it is executing a program, or is gone")) } else { Ok(auxv) }
        })
    }

    /// Whether it has the same namespace of this kind (`user`, `mnt`, ...) as the daemon.
    pub(crate) fn shares_namespace(&self, kind: &str) -> Result<bool, Error> {
        let unreadable = |errno: rustix::io::Errno| Error::Unproven {
            what: "its namespaces cannot be read",
            source: errno.into(),
        };
        let theirs =
            rustix::fs::statat(&self.folder, format!("ns/{kind}"), AtFlags::empty()).map_err(unreadable)?;
        let ours = rustix::fs::stat(format!("/proc/self/ns/{kind}")).map_err(unreadable)?;
        Ok((theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino))
    }

    pub(crate) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    pub(crate) fn status(&self) -> Result<Status, Error> {
        Ok(Status::parse(&String::from_utf8_lossy(&self.piece("status")?)))
    }

    fn status_uid(&self) -> Result<u32, Error> {
        self.status()?.uids.first().copied().ok_or_else(|| gone("its uid cannot be read"))
    }

    fn start(&self) -> Result<u64, Error> {
        let stat = self.file("stat")?;
        start_ticks(&stat)
            .map(|ticks| ticks.saturating_mul(MICROS_PER_TICK))
            .ok_or_else(|| gone("its start time cannot be read"))
    }

    fn audit(&self, name: &str) -> Option<u32> {
        // Absent on kernels without auditing.
        self.file(name).ok()?.trim().parse().ok().filter(|value| *value != UNSET)
    }
}

/// What `/proc/PID/status` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Real, effective, saved, filesystem.
    pub(crate) uids: Vec<u32>,
    /// The same of groups.
    pub(crate) gids: Vec<u32>,
    pub(crate) groups: Vec<u32>,
    /// Permitted, effective, inheritable and ambient capabilities, or-ed together.
    pub(crate) held: u64,
    /// The bounding set.
    pub(crate) bounding: u64,
    pub(crate) no_new_privs: bool,
    /// 2 is a filter.
    pub(crate) seccomp: u32,
    pub(crate) threads: u32,
    /// Who traces it; 0 for nobody. What cannot be read is somebody.
    pub(crate) tracer: u32,
    pub(crate) parent: Option<u32>,
}

impl Status {
    fn parse(text: &str) -> Self {
        let numbers =
            |rest: &str| rest.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect::<Vec<u32>>();
        let number = |rest: &str| rest.trim().parse::<u32>().unwrap_or_default();
        let mask = |rest: &str| u64::from_str_radix(rest.trim(), 16).unwrap_or(u64::MAX);
        let mut status = Self { bounding: u64::MAX, tracer: u32::MAX, ..Self::default() };
        for (key, rest) in text.lines().filter_map(|line| line.split_once(':')) {
            match key {
                "Uid" => status.uids = numbers(rest),
                "Gid" => status.gids = numbers(rest),
                "Groups" => status.groups = numbers(rest),
                // What cannot be read counts as everything.
                "CapInh" | "CapPrm" | "CapEff" | "CapAmb" => status.held |= mask(rest),
                "CapBnd" => status.bounding = mask(rest),
                "NoNewPrivs" => status.no_new_privs = number(rest) == 1,
                "Seccomp" => status.seccomp = number(rest),
                "PPid" => status.parent = rest.trim().parse().ok(),
                "TracerPid" => status.tracer = rest.trim().parse().unwrap_or(u32::MAX),
                "Threads" => status.threads = number(rest),
                _ => {}
            }
        }
        status
    }
}

fn open_pidfd(pid: Pid) -> rustix::io::Result<OwnedFd> {
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
}

/// A pidfd becomes readable when its process exits.
fn alive(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready == 0)
}

/// The number of the process that a pidfd holds (`Pid:` in its fdinfo); none once it is reaped.
fn held_pid(pidfd: BorrowedFd<'_>) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

fn gone(what: &'static str) -> Error {
    Error::Unproven { what, source: io::ErrorKind::NotFound.into() }
}

fn human_id(uid: u32, account: Option<Account>) -> Result<HumanId, Error> {
    let by_uid = || HumanId::new(&format!("unix:{uid}"));
    // A name that is no id (blanks, other scripts) falls back to the uid, which always is one.
    let named = account.map(|account| HumanId::new(&format!("unix:{}", account.name)));
    named.unwrap_or_else(by_uid).or_else(|_| by_uid()).map_err(|error| Error::Unproven {
        what: "the user has no usable name",
        source: io::Error::other(error),
    })
}

fn group_names(mut gids: Vec<u32>) -> Result<Vec<String>, Error> {
    gids.sort_unstable();
    gids.dedup();
    let mut names = Vec::with_capacity(gids.len());
    for gid in gids {
        names.push(group_name(gid)?.map_or_else(|| format!("unix:{gid}"), |name| format!("unix:{name}")));
    }
    Ok(names)
}

/// Field 22 of `/proc/PID/stat` (proc(5)). The second field, the name, may hold anything, so fields are counted
/// from its last parenthesis.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn connected() -> (tempfile::TempDir, UnixStream, UnixStream) {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let client = UnixStream::connect(dir.path().join("s")).unwrap();
        let server = listener.accept().unwrap().0;
        (dir, client, server)
    }

    #[test]
    fn the_peer_is_this_process_and_its_human() {
        let (_dir, _client, server) = connected();
        let peer = Peer::of(server.as_fd()).unwrap();
        assert_eq!(peer.process().pid, std::process::id());
        assert!(peer.process().start_us > 0 && peer.is_alive());
        let human = peer.human(4242).unwrap();
        assert_eq!(human.uid, 4242);
        let login = std::fs::read_to_string("/proc/self/loginuid").ok().and_then(|t| t.trim().parse().ok());
        assert_eq!(human.login_uid, login.filter(|uid| *uid != UNSET));
        if rustix::process::getuid().is_root() && human.login_uid.is_none() {
            assert_eq!(human.id.as_str(), "unix:root");
            assert!(human.groups.contains(&"unix:root".to_owned()), "{:?}", human.groups);
        }
    }

    #[test]
    fn sudo_does_not_change_who_answers() {
        let (_dir, _client, server) = connected();
        let mut peer = Peer::of(server.as_fd()).unwrap();
        // As after `sudo`: the process is root, the login is somebody else's, here one without a name.
        (peer.uid, peer.login_uid, peer.audit_session) = (0, Some(3_999_999_999), Some(7));
        let human = peer.human(4242).unwrap();
        assert_eq!(human.id.as_str(), "unix:3999999999");
        assert!(human.groups.is_empty(), "root's groups are not the login user's: {:?}", human.groups);
        (peer.uid, peer.login_uid) = (4242, Some(0));
        assert_eq!(peer.human(4242).unwrap().id.as_str(), "unix:root");
    }

    #[test]
    fn a_peer_that_is_gone_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])";
        let status = std::process::Command::new("python3").args(["-c", script]).arg(&path).status().unwrap();
        assert!(status.success());
        let server = listener.accept().unwrap().0;
        assert!(Peer::of(server.as_fd()).is_err());
    }

    #[test]
    fn a_reused_pid_names_nobody() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        let pidfd = open_pidfd(pid).unwrap();
        child.wait().unwrap();
        // The pid now belongs to a live process, here this one; the pidfd still knows who was meant.
        let me = std::process::id();
        assert!(Peer::behind(pidfd, me, 0, 0).is_err());
        let mine = || open_pidfd(rustix::process::getpid()).unwrap();
        assert!(Peer::behind(mine(), me, 0, 0).is_ok());
        assert!(Peer::behind(mine(), 1, 0, 0).is_err(), "another process's number");
    }

    #[test]
    fn a_process_name_cannot_forge_its_start_time() {
        let tail = (4..=21).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(start_ticks(&format!("7 (a) b) S 1 (x)) S {tail} 999 0")), Some(999));
        assert_eq!(start_ticks("7 (a"), None);
    }

    #[test]
    fn capabilities_that_cannot_be_read_count_as_all() {
        let status = Status::parse("CapEff:\tzz\nSeccomp:\t2\nUid:\t1\t2\t3\t4\n");
        assert_eq!((status.held, status.bounding, status.seccomp), (u64::MAX, u64::MAX, 2));
        assert_eq!(status.uids, [1, 2, 3, 4]);
    }
}
