//! The launcher: `writ run` turns its own process into the run, so that terminal, signals and exit code are the
//! program's own. It runs with the caller's rights, as an ordinary user or as root.
//!
//! The order is the invariant; nothing of the program runs before its end:
//!
//! 1. the program is opened; 0 to 2 are checked; every other descriptor is closed;
//! 2. the daemon is asked: it proves the caller, moves this process into the run's cgroup and labels it. The run has
//!    no session yet, so whatever it tried would be refused;
//! 3. root becomes the run's user; namespaces, mounts; capabilities, core dumps and privileges go; the filter;
//! 4. the daemon is told, looks for itself ([`crate::Confinement`]), and opens the session;
//! 5. the program is executed, by the descriptor that was attested.
//!
//! A failure anywhere ends the process without a program. The daemon sees the connection close and forgets the run.
//! The process must have one thread.

mod environment;
mod filter;
mod namespace;
mod plan;
mod privilege;
mod program;
mod stdio;
mod table;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use writ_core::Layout;

use crate::account::{Account, AccountError, group_name};
use crate::agent::{Agent, Terms};
use crate::error::Error;
use crate::peer::Peer;
use crate::syscall;

pub use plan::{Bind, Caller, Mask, Plan};

/// What to run, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program: a path, or a name to look for in `PATH`.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The caller's environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The caller's working folder, absolute.
    pub folder: PathBuf,
    /// Whether it is an MCP server: the daemon then stands between it and whoever started it.
    pub is_server: bool,
}

/// What the launcher tells the daemon: descriptors of its own process, for [`crate::program`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The program.
    pub program: RawFd,
    /// The script, or the file named right after the program.
    pub script: Option<RawFd>,
    /// What the daemon takes to stand between an MCP server and its client; of nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<Between>,
}

/// Descriptors of a server's process before it is executed. Its client is behind 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Between {
    /// The end of a socket pair that the server gets in the place of 0 and 1.
    pub server: RawFd,
    /// The other end, which is the daemon's.
    pub daemon: RawFd,
}

/// What the daemon answers once the process is in its cgroup and labelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// The uid of the run.
    pub uid: u32,
    /// The group of the run.
    pub gid: u32,
    /// The home folder of the run's user.
    pub home: PathBuf,
    /// Whom to become; only if the caller is root.
    pub become_user: Option<Become>,
    /// What the agent's file grants.
    pub terms: Terms,
    /// Places of this installation to hide: its control and holder sockets.
    pub hide: Vec<PathBuf>,
    /// The CA of the run.
    pub certificates: Certificates,
    /// Further variables, such as the run's id.
    pub variables: BTreeMap<String, String>,
    /// Whether the caller is in a run already: the new one is a sub-agent's, and keeps the namespaces, mounts and filter
    /// of its parent.
    #[serde(default)]
    pub nested: bool,
}

impl Prepared {
    /// The answer for a run of this agent by this caller. Fails if the run would be root.
    pub fn new(
        agent: &Agent,
        peer: &Peer,
        layout: &Layout,
        certificates: Certificates,
    ) -> Result<Self, Error> {
        let user = agent.run_user(peer.uid())?;
        let become_user = (peer.uid() == 0).then(|| Become::of(&user)).transpose()?;
        Ok(Self {
            uid: user.uid,
            gid: if become_user.is_some() { user.gid } else { peer.gid() },
            home: user.home,
            become_user,
            terms: agent.terms.clone(),
            // Who may start others asks the daemon.
            hide: if agent.may_start.is_empty() {
                vec![layout.control_socket(), layout.holder_socket()]
            } else {
                vec![layout.holder_socket()]
            },
            certificates,
            variables: BTreeMap::new(),
            nested: false,
        })
    }
}

/// Files that make TLS clients trust the run's CA. Readable by the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificates {
    /// The CA alone, PEM.
    pub authority: PathBuf,
    /// The system's roots and the CA, PEM.
    pub bundle: PathBuf,
    /// The same as a Java key store with the password `changeit`; if the daemon makes one.
    pub truststore: Option<PathBuf>,
}

/// A user to become. Never root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Become {
    /// The name.
    pub name: String,
    /// The uid.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// Supplementary groups, without those that rule the host.
    pub groups: Vec<u32>,
}

impl Become {
    /// This user, for a caller that is root.
    pub fn of(account: &Account) -> Result<Self, AccountError> {
        let mut groups = Vec::new();
        for gid in account.groups()? {
            let rules = group_name(gid)?.is_some_and(|name| table::RULING_GROUPS.contains(&name.as_str()));
            if gid != 0 && !rules {
                groups.push(gid);
            }
        }
        Ok(Self { name: account.name.clone(), uid: account.uid, gid: account.gid, groups })
    }
}

/// The daemon, as the launcher talks to it. Errors are the daemon's own words.
pub trait Daemon {
    /// The connection: the one descriptor that stays open beside 0 to 2. It must close on exec.
    fn connection(&self) -> BorrowedFd<'_>;
    /// Asks for the run: returns once this process is in its cgroup and labelled.
    fn prepare(&mut self, ask: Ask) -> Result<Prepared, String>;
    /// Says that the process is confined: returns once the session is open.
    fn ready(&mut self) -> Result<(), String>;
}

/// Why no program was executed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// There is no such program, or it cannot be executed.
    #[error("cannot execute `{}`", name.to_string_lossy())]
    Program {
        /// As it was named.
        name: OsString,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// 0, 1 or 2 is something that a run may not inherit.
    #[error("standard {name} is {found}; hint: use a terminal, a pipe or a file")]
    Inherited {
        /// `input`, `output` or `error`.
        name: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The daemon refused.
    #[error("{0}")]
    Refused(String),
    /// The run would be root.
    #[error("a run may not be root; hint: set `user` in the agent's file")]
    Root,
    /// No user or mount namespace can be had.
    #[error(
        "this host gives no user and mount namespace to ordinary users; hint: allow them (`sysctl \
         user.max_user_namespaces`, `kernel.unprivileged_userns_clone`, or on Ubuntu an AppArmor profile with \
         `userns` for `writ`), or accept the danger with `without_namespaces = true` under `[danger]` in the agent's file"
    )]
    Namespace(#[source] io::Error),
    /// A place could not be hidden or shown.
    #[error("cannot mount over `{}`", path.display())]
    Mount {
        /// The place.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The working folder is hidden from the run, or not for its user.
    #[error("a run cannot start in `{}`; hint: start from a folder that its user may enter and that holds no credentials", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The host refused a step.
    #[error("cannot {doing}")]
    Host {
        /// Which step.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Becomes the run. Returns only if that failed, and then the process must end: it may have lost descriptors,
/// rights and mounts by then.
pub fn launch(command: &Command, daemon: &mut dyn Daemon) -> Result<Infallible, LaunchError> {
    let opened = program::open(command)?;
    stdio::check()?;
    let pair = command.is_server.then(stdio::Pair::new).transpose()?;
    keep_only(daemon.connection(), &opened, pair.as_ref())?;
    let (program, script) = opened.descriptors();
    let between = pair.as_ref().map(stdio::Pair::between);
    let prepared = daemon.prepare(Ask { program, script, between }).map_err(LaunchError::Refused)?;
    // The daemon has the client's ends and its own by now, and looks once more before the session opens.
    pair.map_or(Ok(()), stdio::Pair::take_place)?;
    let caller = Caller { environment: command.environment.clone(), folder: command.folder.clone() };
    let plan = Plan::new(&caller, &prepared);
    apply(&plan)?;
    // Crash here: the run is labelled and has no session; the daemon forgets it when the connection closes.
    daemon.ready().map_err(LaunchError::Refused)?;
    let arguments = texts(opened.arguments)?;
    let variables = plan.environment.into_iter().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    let environment = texts(variables)?;
    let source = syscall::execute(opened.program.as_fd(), &arguments, &environment);
    Err(LaunchError::Program { name: command.program.clone(), source })
}

fn keep_only(
    connection: BorrowedFd<'_>,
    opened: &program::Opened,
    pair: Option<&stdio::Pair>,
) -> Result<(), LaunchError> {
    let script = opened.script.as_ref().map(AsFd::as_fd);
    let program = [Some(connection), Some(opened.program.as_fd()), script].into_iter().flatten();
    let keep: Vec<_> = program.chain(pair.into_iter().flat_map(stdio::Pair::ends)).collect();
    stdio::close_others(&keep)
}

/// Confines this process as the plan says. Not to be undone.
fn apply(plan: &Plan) -> Result<(), LaunchError> {
    if let Some(user) = &plan.become_user {
        privilege::become_user(user)?;
    }
    if rustix::process::geteuid().is_root() || rustix::process::getuid().is_root() {
        return Err(LaunchError::Root);
    }
    if plan.nested {
        // Its parent was confined, and nothing of that can be undone.
        syscall::default_signals();
        return privilege::drop_all();
    }
    let isolated = namespace::enter(plan)?;
    syscall::default_signals();
    privilege::drop_all()?;
    privilege::filter(plan.io_uring, isolated)
}

fn texts(texts: impl IntoIterator<Item = OsString>) -> Result<Vec<CString>, LaunchError> {
    let text = |text: OsString| {
        CString::new(text.into_vec()).map_err(|error| LaunchError::Host {
            doing: "pass on an argument with a NUL in it",
            source: error.into(),
        })
    };
    texts.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    use writ_core::config::Problems;

    use super::*;

    fn agent(text: &str) -> Agent {
        let text = format!("owner = \"a\"\n{text}");
        Agent::read("coder", "coder.toml", &text, &mut Problems::default()).unwrap()
    }

    fn prepared(agent: &Agent, caller: u32) -> Result<Prepared, Error> {
        let (one, _two) = UnixStream::pair().unwrap();
        let real = Peer::of(one.as_fd()).unwrap();
        let pidfd = real.pidfd().try_clone_to_owned().unwrap();
        let peer = Peer::behind(pidfd, real.process().pid, caller, caller).unwrap();
        let certificates =
            Certificates { authority: "/a".into(), bundle: "/b".into(), truststore: Some("/t".into()) };
        Prepared::new(agent, &peer, &Layout::new("/x"), certificates)
    }

    #[test]
    fn only_root_becomes_somebody_else_and_never_root() {
        let configured = agent("user = \"4242\"");
        let run = prepared(&configured, 0).unwrap();
        assert_eq!((run.uid, run.become_user.unwrap().uid), (4242, 4242));
        let run = prepared(&configured, 77).unwrap();
        assert_eq!((run.uid, run.gid, run.become_user), (77, 77, None));
        assert!(matches!(prepared(&agent(""), 0), Err(Error::Root { .. })));
        assert_eq!(run.hide, [Path::new("/x/run/writ/control.sock"), Path::new("/x/run/writ/holder.sock")]);
    }

    #[test]
    fn groups_that_rule_the_host_are_not_taken_along() {
        let root = Account::of_uid(0).unwrap().unwrap();
        assert!(root.groups().unwrap().contains(&0));
        assert!(!Become::of(&root).unwrap().groups.contains(&0));
    }

    #[test]
    fn what_is_sent_between_launcher_and_daemon_reads_back() {
        let run = prepared(&agent("files = [\"~/.npmrc\"]\n[placeholders]\nX_TOKEN = \"y\""), 77).unwrap();
        let text = serde_json::to_string(&run).unwrap();
        assert_eq!(serde_json::from_str::<Prepared>(&text).unwrap(), run);
    }
}
