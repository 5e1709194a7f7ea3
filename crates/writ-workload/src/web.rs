//! The endpoints over TLS, for everybody: the trust bundle, the keys of tokens and their discovery, and what else is
//! added to the [`Router`]. Clients are never asked for a certificate (SPIFFE Federation section 5.2).
//!
//! Invariant: nothing that is served here is secret, unless an endpoint that was added proves its caller; and a client
//! that is slow or large takes a bounded part of what there is, and of its address's part.

mod connection;
mod documents;
mod proof;
mod router;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use writ_gate::limits;

use crate::Parts;
use crate::settings::Https;
pub(crate) use documents::discovery;
pub use documents::{BUNDLE_PATH, documents};
use proof::Proof;
pub use router::{Document, Endpoint, Router, json};

/// The listener, bound.
pub struct Web {
    listener: TcpListener,
    proof: Proof,
}

/// The endpoints cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The address is not to be had.
    #[error("cannot listen on `{listen}`; hint: see `workload.https.listen`")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file of the certificate cannot be read.
    #[error("`{path}` cannot be read; hint: see `workload.https`")]
    File {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: writ_host::durable::FileError,
    },
    /// There is no such file.
    #[error("`{path}` is not there; hint: see `workload.https`")]
    Missing {
        /// The file.
        path: String,
    },
    /// A file of the certificate is not what it should be.
    #[error("`{path}` holds no {what} in PEM; hint: see `workload.https`")]
    Content {
        /// The file.
        path: String,
        /// What it should hold.
        what: &'static str,
    },
    /// Certificate and key do not work together.
    #[error("the certificate cannot be used; hint: see `workload.https`")]
    Tls(#[from] rustls::Error),
    /// An identity could not be issued.
    #[error("the listener's own identity cannot be issued")]
    Svid(#[from] writ_identity::Error),
}

/// How often it is looked whether the certificate must be replaced.
const LOOK: Duration = Duration::from_secs(30);

impl Web {
    /// Binds the address and makes the certificate ready. An authority that cannot sign yet is waited for later.
    pub async fn bind(settings: &Https, parts: &Parts) -> Result<Self, WebError> {
        let proof = Proof::new(&settings.certificate, parts)?;
        let refused = |source| WebError::Listen { listen: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(refused)?;
        Ok(Self { listener, proof })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` is cancelled, then lets requests under way end, at most [`limits::WEB_TIMEOUT`]. Dropping
    /// the future ends everything at once.
    pub async fn serve(mut self, router: Router, stop: CancellationToken) {
        let router = Arc::new(router);
        let mut tasks = JoinSet::new();
        let mut open = Open::default();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                    open.leave(ended.map_or_else(|e| e.id(), |(id, ())| id));
                    continue;
                }
                () = tokio::time::sleep(LOOK) => {
                    self.proof.refresh();
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    self.proof.refresh();
                    let network = network(peer.ip());
                    if let Some(tls) = self.proof.tls().filter(|_| open.admits(network)) {
                        let served = connection::serve(stream, tls, Arc::clone(&router), stop.clone());
                        open.enter(tasks.spawn(served).id(), network);
                    } else {
                        hang_up(stream);
                    }
                }
                Err(error) => {
                    // Out of descriptors, most likely: accepting again at once would only spin.
                    tracing::warn!(target: "writ::workload", %error, "cannot accept over TLS");
                    let pause = tokio::time::sleep(Duration::from_millis(100));
                    tokio::select! { () = pause => {}, () = stop.cancelled() => break }
                }
            }
        }
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limits::WEB_TIMEOUT, drained).await.is_err() {
            tracing::debug!(target: "writ::workload", left = tasks.len(), "connections over TLS cut at the end");
        }
        tasks.shutdown().await;
    }
}

fn hang_up(stream: TcpStream) {
    drop(stream);
    tracing::debug!(target: "writ::workload", "a connection over TLS was hung up on");
}

/// Who has connections open.
#[derive(Default)]
struct Open {
    networks: HashMap<IpAddr, usize>,
    tasks: HashMap<tokio::task::Id, IpAddr>,
}

impl Open {
    fn admits(&self, network: IpAddr) -> bool {
        self.tasks.len() < limits::WEB_CONNECTIONS_MAX
            && self.networks.get(&network).is_none_or(|n| *n < limits::WEB_CONNECTIONS_PER_ADDRESS_MAX)
    }

    fn enter(&mut self, task: tokio::task::Id, network: IpAddr) {
        *self.networks.entry(network).or_default() += 1;
        self.tasks.insert(task, network);
    }

    fn leave(&mut self, task: tokio::task::Id) {
        let Some(network) = self.tasks.remove(&task) else { return };
        if let Some(count) = self.networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(&network);
            }
        }
    }
}

/// What counts as one address: one host has all of an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6((u128::from(six) & !u128::from(u64::MAX)).into()),
        four @ IpAddr::V4(_) => four,
    }
}
