//! The resolver of governed runs: answers names with stand-ins, and asks nobody.
//!
//! The kernel turns every DNS packet of a run here. A name that policy could allow gets its synthetic address from
//! [`Names`], so that the kernel and the relay know the name again when the run connects; every other name gets
//! NXDOMAIN and is reported. No question is ever passed on, so names carry nothing out, not even for a service
//! that is allowed. HTTPS and SVCB records do not exist here: no `ech` hides a hello, no hint leads to QUIC.
//!
//! Why NXDOMAIN and not REFUSED: stub resolvers take REFUSED as a fault of the server, ask the next one and try
//! again, and the program sees a temporary failure that invites more tries; NXDOMAIN is final at once. Without an SOA
//! record nothing may keep it (RFC 2308 section 5), so a changed configuration is seen at the next question. The
//! extended error `Prohibited` (RFC 8914) tells whoever looks that it was a decision. REFUSED is for those who are
//! no run at all.
//!
//! Not here: who may ask for what ([`Asker`], implemented over catalog and policy), which run a packet came from
//! ([`Origins`], implemented over kernel maps), and the real address, which only the relay looks up.
//! Invariants: arbitrary bytes never panic; memory, names and connections are bounded; a run that is not known
//! gets no answer.

mod message;
mod names;
mod serve;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;

use writ_core::{HostName, Reason, RunTag};

use crate::record::Origin;
use crate::syscall;

pub use names::{Names, StandIn};
pub use serve::Sockets;

/// Answers the DNS of governed runs. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    /// The table of stand-ins.
    pub names: Arc<Names>,
    /// Who decides.
    pub asker: Arc<dyn Asker>,
    /// Who knows the run.
    pub origins: Arc<dyn Origins>,
}

/// May this run know this name, and who must hear of it?
///
/// Called for each question, from memory, without waiting: a slow answer delays every run.
pub trait Asker: Send + Sync {
    /// Whether some policy could let the run reach a service under this name; if not, why.
    fn allowed(&self, question: &Question) -> Result<Answer, Reason>;

    /// The run is about to be told this stand-in. Called before the answer leaves, so that whatever must know the
    /// address (a kernel map) knows it before the run connects. Called each time; must be idempotent.
    fn answered(&self, question: &Question, stand_in: StandIn);

    /// A lookup was refused: to be recorded.
    fn refused(&self, lookup: Lookup);
}

/// Which run sent this?
///
/// Answers from kernel facts, at once. `None` is refused: a stranger, or a run that is gone.
pub trait Origins: Send + Sync {
    /// Who sent a datagram. Asked once for each.
    fn of_datagram(&self, datagram: &Datagram) -> Option<Sender>;

    /// Who opened an accepted connection.
    fn of_socket(&self, accepted: BorrowedFd<'_>) -> Option<Sender>;

    /// Looks at a governed process that has no run, and says which one it was assigned. `None` refuses its question. May
    /// take its time: the questions of others are answered meanwhile. Whoever governs nothing but runs has no such
    /// process.
    fn attest(&self, _held: Origin) -> Attesting<'_> {
        Box::pin(std::future::ready(None))
    }
}

/// The answer of [`Origins::attest`], when it comes.
pub type Attesting<'a> = Pin<Box<dyn Future<Output = Option<RunTag>> + Send + 'a>>;

/// Who asks, as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// A run.
    Run(RunTag),
    /// A governed process that was assigned none yet.
    Held(Box<Origin>),
}

impl Sender {
    /// What an origin says. `None` for one that names neither run nor subtree.
    pub fn of(origin: Origin) -> Option<Self> {
        match (origin.run, origin.governed) {
            (Some(run), _) => Some(Self::Run(run)),
            (None, Some(_)) => Some(Self::Held(Box::new(origin))),
            (None, None) => None,
        }
    }
}

/// Where a datagram came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Its source. Whoever has that address may be somebody else by now.
    pub peer: SocketAddr,
    /// The kernel's mark on it; `None` if nobody sent it who is governed.
    pub mark: Option<Mark>,
}

/// The number by which the kernel knows who sent a datagram ([`Capture::question`]). It is good for one question.
///
/// [`Capture::question`]: crate::Capture::question
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(NonZeroU32);

impl Mark {
    pub(crate) fn get(self) -> u32 {
        self.0.get()
    }
}

impl Datagram {
    /// Asks the system for marks on what this socket receives. Before the first question.
    pub fn prepare(socket: BorrowedFd<'_>) -> io::Result<()> {
        syscall::receive_marks(socket)
    }

    /// Receives one datagram: how many bytes were written, and where it came from.
    pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Self)> {
        let (length, peer, mark) = syscall::receive(socket, buffer)?;
        Ok((length, Self { peer, mark: NonZeroU32::new(mark).map(Mark) }))
    }
}

/// Who asks for which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The run.
    pub run: RunTag,
    /// The name.
    pub name: HostName,
}

/// What an allowed name is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Its synthetic address: the relay takes the connection.
    StandIn,
    /// These addresses of a service that is passed through untouched, as its file lists them.
    Listed(Vec<IpAddr>),
}

/// A lookup that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The run, if it is known.
    pub run: Option<RunTag>,
    /// The name as it was asked for, at most 1 KiB of visible ASCII: what is no letter is escaped.
    pub name: String,
    /// Why.
    pub reason: Reason,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}
