//! The sockets of the resolver.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use writ_core::RunTag;
use writ_gate::limits;

use super::message::Transport;
use super::{Datagram, Resolver, Sender};
use crate::record::Origin;

/// How long accepting rests after the system refused it (no descriptors left, say).
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Where the resolver listens: both on the same address and port, which must not be a wildcard, so that answers
/// leave from the address that was asked.
#[derive(Debug)]
pub struct Sockets {
    /// For datagrams.
    pub udp: UdpSocket,
    /// For connections.
    pub tcp: TcpListener,
}

impl Resolver {
    /// Serves until `stop` is cancelled. Connections that are open then are closed before this returns.
    ///
    /// Errors are those of a socket that cannot be used any more; single failures are survived.
    pub async fn serve(&self, sockets: Sockets, stop: CancellationToken) -> io::Result<()> {
        let Sockets { udp, tcp } = sockets;
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            result = self.serve_udp(&udp) => result,
            result = self.serve_tcp(&tcp) => result,
        }
    }

    /// One datagram at a time: each takes microseconds and waits for nobody, so there is no queue but the socket's. Only
    /// who must be looked at first is answered beside, and so many of them at once.
    async fn serve_udp(&self, socket: &UdpSocket) -> io::Result<()> {
        Datagram::prepare(socket.as_fd())?;
        let mut held = FuturesUnordered::new();
        // One byte more, to tell a message that is too long from one that just fits.
        let mut buffer = vec![0; limits::DNS_BYTES_MAX + 1];
        loop {
            let received = tokio::select! {
                Some(attested) = held.next(), if !held.is_empty() => {
                    let (run, bytes, peer): (_, Vec<u8>, _) = attested;
                    self.answer_udp(socket, run, &bytes, peer).await;
                    continue;
                }
                received = receive(socket, &mut buffer) => received,
            };
            let (length, datagram) = match received {
                Ok(received) => received,
                Err(error) if passing(&error) => continue,
                Err(error) => return Err(error),
            };
            let Some(bytes) = buffer.get(..length).filter(|bytes| bytes.len() <= limits::DNS_BYTES_MAX)
            else {
                continue;
            };
            match self.origins.of_datagram(&datagram) {
                // Too many at once: no answer, so that it is asked again.
                Some(Sender::Held(_)) if held.len() >= limits::DNS_QUERIES_MAX => {}
                Some(Sender::Held(origin)) => {
                    let (bytes, peer) = (bytes.to_vec(), datagram.peer);
                    held.push(async move { (self.attested(*origin).await, bytes, peer) });
                }
                Some(Sender::Run(run)) => self.answer_udp(socket, Some(run), bytes, datagram.peer).await,
                None => self.answer_udp(socket, None, bytes, datagram.peer).await,
            }
        }
    }

    async fn answer_udp(&self, socket: &UdpSocket, run: Option<RunTag>, bytes: &[u8], peer: SocketAddr) {
        if let Some(reply) = self.reply(run, bytes, Transport::Udp) {
            send(socket, &reply, peer).await;
        }
    }

    /// Whoever asked has given up after a while, and its place is another's.
    async fn attested(&self, held: Origin) -> Option<RunTag> {
        tokio::time::timeout(limits::HELLO_TIMEOUT, self.origins.attest(held)).await.ok().flatten()
    }

    async fn serve_tcp(&self, listener: &TcpListener) -> io::Result<()> {
        // Dropped with this future: no connection outlives the resolver.
        let mut open = JoinSet::new();
        let mut by_holder: HashMap<Holder, usize> = HashMap::new();
        loop {
            tokio::select! {
                Some(ended) = open.join_next(), if !open.is_empty() => match ended {
                    Ok(holder) => release(&mut by_holder, holder),
                    // A connection that fails so keeps its place in the count: refused rather than unbounded.
                    Err(error) => tracing::error!(target: "writ::capture", %error, "resolver lost a connection"),
                },
                accepted = listener.accept(), if open.len() < limits::DNS_QUERIES_MAX => match accepted {
                    Ok((stream, _)) => {
                        let sender = self.origins.of_socket(stream.as_fd());
                        let holder = Holder::of(sender.as_ref());
                        let held = by_holder.entry(holder).or_default();
                        if *held < limits::DNS_CONNECTIONS_PER_RUN_MAX {
                            *held += 1;
                            let serving = self.clone().connection(stream, sender);
                            open.spawn(async move {
                                serving.await;
                                holder
                            });
                        }
                    }
                    Err(error) => {
                        tracing::warn!(target: "writ::capture", %error, "resolver cannot accept");
                        tokio::time::sleep(ACCEPT_REST).await;
                    }
                },
            }
        }
    }

    /// Serves one connection until it ends, is idle too long, or sends what is no message (RFC 7766).
    async fn connection(self, mut stream: TcpStream, sender: Option<Sender>) {
        let run = match sender {
            Some(Sender::Run(run)) => Some(run),
            Some(Sender::Held(origin)) => self.attested(*origin).await,
            None => None,
        };
        loop {
            let exchange = self.exchange(&mut stream, run);
            match tokio::time::timeout(limits::HELLO_TIMEOUT, exchange).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false) | Err(_)) | Err(_) => return,
            }
        }
    }

    /// One message and its reply; `false` when the connection shall end.
    async fn exchange(&self, stream: &mut TcpStream, run: Option<RunTag>) -> io::Result<bool> {
        let length = usize::from(stream.read_u16().await?);
        if length > limits::DNS_BYTES_MAX {
            return Ok(false);
        }
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await?;
        let Some(reply) = self.reply(run, &message, Transport::Tcp) else { return Ok(false) };
        let Ok(length) = u16::try_from(reply.len()) else { return Ok(false) };
        let framed = [&length.to_be_bytes()[..], &reply].concat();
        stream.write_all(&framed).await?;
        Ok(true)
    }
}

/// To whom a connection counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    Run(RunTag),
    /// A process that has no run.
    Held(u32),
    Stranger,
}

impl Holder {
    fn of(sender: Option<&Sender>) -> Self {
        match sender {
            Some(Sender::Run(run)) => Self::Run(*run),
            Some(Sender::Held(origin)) => Self::Held(origin.process.pid),
            None => Self::Stranger,
        }
    }
}

/// Gives back one connection; keeps no entry for who has none.
fn release(by_holder: &mut HashMap<Holder, usize>, holder: Holder) {
    if let Some(held) = by_holder.get_mut(&holder) {
        *held = held.saturating_sub(1);
        if *held == 0 {
            by_holder.remove(&holder);
        }
    }
}

async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Datagram)> {
    socket.async_io(Interest::READABLE, || Datagram::receive(socket.as_fd(), buffer)).await
}

async fn send(socket: &UdpSocket, reply: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(reply, peer).await {
        tracing::debug!(target: "writ::capture", %error, "resolver cannot answer");
    }
}

/// Errors that earlier datagrams left behind on the socket.
fn passing(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | HostUnreachable | Interrupted | NetworkUnreachable
    )
}
