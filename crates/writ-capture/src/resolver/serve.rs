//! The sockets of the resolver.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use writ_core::RunTag;
use writ_gate::limits;

use super::Resolver;
use super::message::Transport;

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

    /// One datagram at a time: each takes microseconds and waits for nobody, so there is no queue but the socket's.
    async fn serve_udp(&self, socket: &UdpSocket) -> io::Result<()> {
        // One byte more, to tell a message that is too long from one that just fits.
        let mut buffer = vec![0; limits::DNS_BYTES_MAX + 1];
        loop {
            let (length, peer) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) if passing(&error) => continue,
                Err(error) => return Err(error),
            };
            let Some(bytes) = buffer.get(..length).filter(|bytes| bytes.len() <= limits::DNS_BYTES_MAX)
            else {
                continue;
            };
            let run = self.origins.run_of_peer(peer);
            if let Some(reply) = self.reply(run, bytes, Transport::Udp) {
                send(socket, &reply, peer).await;
            }
        }
    }

    async fn serve_tcp(&self, listener: &TcpListener) -> io::Result<()> {
        // Dropped with this future: no connection outlives the resolver.
        let mut open = JoinSet::new();
        let mut by_run: HashMap<Option<RunTag>, usize> = HashMap::new();
        loop {
            tokio::select! {
                Some(ended) = open.join_next(), if !open.is_empty() => match ended {
                    Ok(run) => release(&mut by_run, run),
                    // A connection that fails so keeps its place in the count: refused rather than unbounded.
                    Err(error) => tracing::error!(target: "writ::capture", %error, "resolver lost a connection"),
                },
                accepted = listener.accept(), if open.len() < limits::DNS_QUERIES_MAX => match accepted {
                    Ok((stream, _)) => {
                        let run = self.origins.run_of_socket(stream.as_fd());
                        let held = by_run.entry(run).or_default();
                        if *held < limits::DNS_CONNECTIONS_PER_RUN_MAX {
                            *held += 1;
                            open.spawn(self.clone().connection(stream, run));
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

    /// Serves one connection until it ends, is idle too long, or sends what is no message (RFC 7766). Gives back
    /// whose it was.
    async fn connection(self, mut stream: TcpStream, run: Option<RunTag>) -> Option<RunTag> {
        loop {
            let exchange = self.exchange(&mut stream, run);
            match tokio::time::timeout(limits::HELLO_TIMEOUT, exchange).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false) | Err(_)) | Err(_) => return run,
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

/// Gives back one connection of a run; keeps no entry for runs that have none.
fn release(by_run: &mut HashMap<Option<RunTag>, usize>, run: Option<RunTag>) {
    if let Some(held) = by_run.get_mut(&run) {
        *held = held.saturating_sub(1);
        if *held == 0 {
            by_run.remove(&run);
        }
    }
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
