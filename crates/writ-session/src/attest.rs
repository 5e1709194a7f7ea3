//! What a process is: facts that it cannot choose, as selectors, and the program behind it.
//!
//! A process is *launched* (`writ run` opened its program and asks before it executes it) or *found* (it runs already). Of
//! a launched one the opened descriptors are digested, so nothing on the way to its execution matters; of a found one,
//! what the kernel shows as its executable. Arguments, environment and process name decide nothing; where arguments
//! help to *find* a script, see [`code`].
//!
//! What is not claimed: a digest says which file the kernel started, not which libraries or modules that program loaded
//! since, nor what a debugger of the same uid put into it before it was looked at. A process that is traced *while* it
//! is looked at is refused. A found process in a user namespace of its own can choose what `/proc/PID/exe` shows
//! (`PR_SET_MM`), so nothing about its program counts. Who can write a script can change it after it was read.
//!
//! Invariant: one attestation speaks of one program: if the process executes another in between, it is refused.

mod cgroup;
mod code;
#[cfg(test)]
mod conformance;
mod container;
mod digest;
mod exe;
mod facts;
mod http;
mod known;
mod kubernetes;
mod lineage;
mod place;
mod script;
#[cfg(test)]
mod tests;
mod unix;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use writ_core::event::Script;
use writ_core::{Attestor, Clock, Process, Reason};

pub use container::Runtimes;
pub use facts::{Attested, Unknown, Wanted};
pub use kubernetes::Kubelet;
pub use lineage::{Ancestor, Lineage};
pub(crate) use script::named as named_script;

use crate::error::Error;
use crate::peer::{Peer, Status};
use code::Code;
use digest::Digests;
use facts::Facts;
use known::Known;

/// Everything that can say something about a process. One for the daemon; shared by reference.
pub struct Attestors {
    digests: Digests,
    all: Vec<Box<dyn Attest>>,
    containers: Arc<container::Containers>,
    known: Known,
}

/// Where attestors ask, beside the kernel.
#[derive(Clone)]
pub struct Sources {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// dpkg's folder, `/var/lib/dpkg`. Absent on hosts of other distributions.
    pub packages: PathBuf,
    /// The container runtimes.
    pub runtimes: Runtimes,
    /// The node's kubelet, if this is a node.
    pub kubelet: Option<Kubelet>,
}

/// The program of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its path as the kernel resolved it.
    pub path: String,
    /// Its SHA-256, hex.
    pub sha256: String,
    /// The file it interprets, if any.
    pub script: Option<Script>,
}

/// Descriptors that a launcher opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The program.
    pub program: RawFd,
    /// The script, or the file named right after the program.
    pub script: Option<RawFd>,
}

/// A process that is not what it must be, or of which that cannot be proven. The reason is for the process; this text is
/// for the operator, and names keys of selectors but never their values.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Refusal {
    /// What the process is told.
    pub reason: Reason,
    what: String,
    #[source]
    source: Option<std::io::Error>,
}

/// The process that an attestor looks at.
pub struct Subject<'a> {
    peer: &'a Peer,
    code: &'a Code,
    lineage: &'a Lineage,
}

/// One source of facts.
///
/// * It adds selectors with its own keys only, and only facts that the process cannot choose for itself: never from
///   arguments, environment or name. What a process *can* influence is said in the doc of the implementing module.
/// * `Ok` means that what was added is all there is to say: a process in no container gets `Ok` and no selector. An
///   error means that something could not be found out; facts added before still hold. Either way, what is absent
///   matches nothing.
/// * It adds nothing that is not wanted, and does no work for it.
/// * It may block for as long as [`writ_gate::limits::RUNTIME_TIMEOUT`] for each question to a runtime, and may read
///   files whole: it runs on a thread that may wait. It may be called from several threads at once.
/// * It never logs a selector.
pub trait Attest: Send + Sync {
    /// Which attestor it is.
    fn attestor(&self) -> Attestor;
    /// Adds what it knows of the process.
    fn attest(&self, subject: &Subject<'_>, facts: &mut Facts<'_>) -> Result<(), Unknown>;
}

impl Attestors {
    /// All attestors.
    pub fn new(sources: Sources) -> Self {
        let Sources { clock, packages, runtimes, kubelet } = sources;
        let containers = Arc::new(container::Containers::new(runtimes));
        let all: Vec<Box<dyn Attest>> = vec![
            Box::new(exe::Exe::new(packages)),
            Box::new(script::Scripts::new(Arc::clone(&clock))),
            Box::new(unix::Unix),
            Box::new(cgroup::Cgroups),
            Box::new(cgroup::Systemd),
            Box::new(Arc::clone(&containers)),
            Box::new(kubernetes::Pods::new(kubelet)),
            Box::new(lineage::Parents),
        ];
        Self { digests: Digests::new(clock), all, containers, known: Known::default() }
    }

    /// Attests a process that is about to execute what it opened. Reads whole files and may ask a runtime: not on a thread
    /// that others wait for.
    pub fn launched(
        &self,
        peer: &Peer,
        opened: Opened,
        lineage: &Lineage,
        wanted: &Wanted,
    ) -> Result<Attested, Refusal> {
        refuse_traced(peer)?;
        let code = code::opened(&self.digests, peer, opened)?;
        let attested = self.ask(peer, peer.process().clone(), lineage, (code, wanted))?;
        refuse_traced(peer)?;
        Ok(attested)
    }

    /// Attests a process that runs already. `process` is the peer's with the exec generation that the kernel's events
    /// give, if they do. As slow as [`Self::launched`] unless [`Self::recall`] knows it.
    pub fn found(
        &self,
        peer: &Peer,
        process: &Process,
        lineage: &Lineage,
        wanted: &Wanted,
    ) -> Result<Arc<Attested>, Refusal> {
        let mark = Mark::of(peer)?;
        let code = code::running(&self.digests, peer)?;
        let attested = self.ask(peer, process.clone(), lineage, (code, wanted))?;
        // It may have executed something else while it was looked at: what was seen would then be of two programs.
        if Mark::of(peer)? != mark {
            return Err(Refusal::new(Reason::Unattested, "it executed a program while it was attested"));
        }
        self.known.keep(mark.0, attested)
    }

    /// What is known of this process from before, at once: its program and script are looked at and not read. `None`
    /// means that [`Self::found`] must be asked.
    pub fn recall(&self, peer: &Peer, process: &Process, wanted: &Wanted) -> Option<Arc<Attested>> {
        let (mark, attested) = self.known.find(process, wanted)?;
        (Mark::of(peer).ok()?.0 == mark && attested.code.is_as_it_was(peer)).then_some(attested)
    }

    /// Whether a run that was launched with this program still has it as it was, on disk and in its first process. Reads
    /// files anew if they look different.
    pub fn unchanged(&self, attested: &Attested, peer: &Peer) -> Result<(), Refusal> {
        refuse_traced(peer)?;
        if attested.code.is_as_it_was(peer) || attested.code.reads_as_it_did(&self.digests, peer) {
            return Ok(());
        }
        Err(Refusal::new(Reason::IdentityChanged, "its program or script changed while it ran"))
    }

    /// The labels of the container that a cgroup is, by its path from the root of the hierarchy. `Ok(None)` if it is none, or
    /// one of which only its own user could tell. An error says why that is not known now. May ask a runtime: not on a
    /// thread that others wait for.
    pub fn container_labels(&self, cgroup: &str) -> Result<Option<BTreeMap<String, String>>, String> {
        self.containers.labels(cgroup)
    }

    /// The programs of a process's ancestors, as far as `/proc` proves them. Reads whole files.
    pub fn ancestors(&self, peer: &Peer) -> Vec<Ancestor> {
        lineage::observe(&self.digests, peer)
    }

    fn ask(
        &self,
        peer: &Peer,
        process: Process,
        lineage: &Lineage,
        (code, wanted): (Code, &Wanted),
    ) -> Result<Attested, Refusal> {
        let mut attested = Attested::new(process, peer.uid(), code);
        let subject = Subject { peer, code: &attested.code, lineage };
        let (mut selectors, mut unknown) = (std::collections::BTreeSet::new(), Vec::new());
        for attestor in &self.all {
            let which = attestor.attestor();
            if !wanted.any(which) {
                continue;
            }
            let mut facts = Facts::new(which, wanted, &mut selectors);
            unknown.extend(attestor.attest(&subject, &mut facts).err());
        }
        // A process that is gone by now may have been replaced by one that took over its pid's cgroup.
        if !peer.is_alive() {
            return Err(Refusal::new(Reason::Unattested, "it ended while it was attested"));
        }
        attested.learn(selectors, unknown, wanted.clone());
        Ok(attested)
    }
}

impl std::fmt::Debug for Attestors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attestors").finish_non_exhaustive()
    }
}

impl Refusal {
    pub(crate) fn new(reason: Reason, what: impl Into<String>) -> Self {
        Self { reason, what: what.into(), source: None }
    }

    pub(crate) fn unattested(what: impl Into<String>, source: std::io::Error) -> Self {
        Self { reason: Reason::Unattested, what: what.into(), source: Some(source) }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::unattested("what the kernel says of it cannot be read", std::io::Error::other(error))
    }
}

/// What must stay as it is for an attestation to hold: which execution of the process this is, and its ids and cgroup.
///
/// Every `execve` changes it, because the kernel places the new program's stack at random. What a process that sets this
/// back does, is told apart by the exec generation of the kernel's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    /// Also the moment at which a debugger is looked for.
    fn of(peer: &Peer) -> Result<Self, Refusal> {
        let status = peer.status()?;
        refuse_traced_by(&status)?;
        let mut hasher = DefaultHasher::new();
        (peer.execution()?, status.uids, status.gids, status.groups).hash(&mut hasher);
        match crate::syscall::cgroup_id(peer.pidfd()) {
            Some(cgroup) => cgroup.hash(&mut hasher),
            None => peer.piece("cgroup")?.hash(&mut hasher),
        }
        Ok(Self(hasher.finish()))
    }
}

fn refuse_traced(peer: &Peer) -> Result<(), Refusal> {
    refuse_traced_by(&peer.status()?)
}

fn refuse_traced_by(status: &Status) -> Result<(), Refusal> {
    if status.tracer == 0 {
        Ok(())
    } else {
        Err(Refusal::new(Reason::Unattested, "another process traces it, and could make it do anything"))
    }
}

/// Attests the program behind descriptor `program` of the peer and, for an interpreter, the file behind `script`: what a
/// record needs, without any other fact.
///
/// Reads the whole file: 94 MiB take about 85 ms, so not on a thread that others wait for.
pub fn program(peer: &Peer, program: RawFd, script: Option<RawFd>) -> Result<Program, Error> {
    let digests = Digests::new(Arc::new(writ_host::SystemClock));
    code::opened(&digests, peer, Opened { program, script })
        .map(|code| code.program())
        .map_err(Error::Refused)
}
