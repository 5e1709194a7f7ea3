//! The holder: a process that does nothing but keep the listening sockets while the daemon is away.
//!
//! The daemon makes the sockets once and gives copies to the holder, which hands them to the next daemon. So a restart
//! (or a crash) loses no port and nobody else can take one; connections that arrive in between wait in the kernel and
//! reach nothing. The holder opens no connection, reads no byte from the sockets, and serves its own uid only.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// How many sockets there are.
const COUNT: usize = 6;
/// Tells the holder to end.
const QUIT: u8 = b'Q';
/// Asks the holder for the sockets.
const ASK: u8 = b'A';

/// The sockets that governed runs are led to, on loopback. Each port is the same for IPv4 and IPv6.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// The relay.
    pub(crate) relay: [TcpListener; 2],
    /// The resolver over TCP.
    pub(crate) resolver_tcp: [TcpListener; 2],
    /// The resolver over UDP.
    pub(crate) resolver_udp: [UdpSocket; 2],
}

impl Sockets {
    /// The holder's sockets if there is a holder below this path, fresh ones and a new holder otherwise.
    pub(crate) fn obtain(holder: &Path) -> Result<Self> {
        if let Ok(stream) = UnixStream::connect(holder) {
            return Self::ask(stream).context("the holder gave no sockets");
        }
        let sockets = Self::bind().context("cannot listen on loopback")?;
        sockets.keep(holder).context("cannot start the holder")?;
        Ok(sockets)
    }

    /// The relay's port.
    pub(crate) fn relay_port(&self) -> Result<u16> {
        let [v4, _] = &self.relay;
        Ok(v4.local_addr()?.port())
    }

    /// The resolver's port.
    pub(crate) fn resolver_port(&self) -> Result<u16> {
        let [v4, _] = &self.resolver_udp;
        Ok(v4.local_addr()?.port())
    }

    fn bind() -> io::Result<Self> {
        // A port that is free for IPv4 may be taken for IPv6; another is tried then.
        let mut last = io::Error::other("no attempt was made");
        for _ in 0..16 {
            match Self::try_bind() {
                Ok(sockets) => return Ok(sockets),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn try_bind() -> io::Result<Self> {
        let v4 = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let v6 = |port| SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let relay = TcpListener::bind(v4(0))?;
        let relay6 = TcpListener::bind(v6(relay.local_addr()?.port()))?;
        let udp = UdpSocket::bind(v4(0))?;
        let port = udp.local_addr()?.port();
        Ok(Self {
            relay: [relay, relay6],
            resolver_tcp: [TcpListener::bind(v4(port))?, TcpListener::bind(v6(port))?],
            resolver_udp: [udp, UdpSocket::bind(v6(port))?],
        })
    }

    fn keep(&self, holder: &Path) -> Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        // A process group of its own: a signal for the daemon's group is not for the holder.
        let child = Command::new("/proc/self/exe")
            .arg("--hold")
            .arg(holder)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()?;
        tracing::info!(target: "writ::writd", pid = child.id(), "the holder keeps the listeners");
        let fds: Vec<BorrowedFd<'_>> = self.all();
        send(&ours, &fds)?;
        let mut ready = [0u8; 1];
        (&ours).read_exact(&mut ready).context("the holder did not start")?;
        Ok(())
    }

    fn all(&self) -> Vec<BorrowedFd<'_>> {
        let tcp = self.relay.iter().chain(&self.resolver_tcp).map(AsFd::as_fd);
        tcp.chain(self.resolver_udp.iter().map(AsFd::as_fd)).collect()
    }

    fn ask(mut stream: UnixStream) -> Result<Self> {
        stream.write_all(&[ASK])?;
        let fds = receive(&stream)?;
        let Ok([r4, r6, t4, t6, u4, u6]) = <[OwnedFd; COUNT]>::try_from(fds) else {
            bail!("the holder keeps another number of sockets; hint: `writd --purge` ends it");
        };
        Ok(Self {
            relay: [r4.into(), r6.into()],
            resolver_tcp: [t4.into(), t6.into()],
            resolver_udp: [u4.into(), u6.into()],
        })
    }
}

/// Ends the holder, if there is one.
pub(crate) fn quit(holder: &Path) {
    let Ok(mut stream) = UnixStream::connect(holder) else { return };
    // It answers by closing; that it is gone already is as good.
    if stream.write_all(&[QUIT]).is_ok() {
        drop(stream.read(&mut [0u8; 1]));
    }
}

/// The holder's whole life. Standard input is the daemon's end of a socket pair, which brings the sockets.
pub(crate) fn hold(path: &Path) -> Result<()> {
    let parent = UnixStream::from(rustix::stdio::stdin().try_clone_to_owned()?);
    let sockets = receive(&parent)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    (&parent).write_all(&[1])?;
    drop(parent);
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if serve(&stream, &sockets).unwrap_or(false) {
            break;
        }
    }
    std::fs::remove_file(path)?;
    Ok(())
}

/// Answers one caller; true means "end".
fn serve(mut stream: &UnixStream, sockets: &[OwnedFd]) -> Result<bool> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    if peer.uid != rustix::process::geteuid() {
        return Ok(false);
    }
    let mut request = [0u8; 1];
    stream.read_exact(&mut request)?;
    match request {
        [QUIT] => Ok(true),
        [ASK] => {
            let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
            send(stream, &fds)?;
            Ok(false)
        }
        _ => Ok(false),
    }
}

fn send(stream: &UnixStream, fds: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(COUNT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    anyhow::ensure!(control.push(SendAncillaryMessage::ScmRights(fds)), "too many sockets");
    rustix::net::sendmsg(stream, &[IoSlice::new(&[1])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(stream: &UnixStream) -> Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(COUNT))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 1];
    rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    anyhow::ensure!(!fds.is_empty(), "no sockets were handed over");
    Ok(fds)
}
