//! MCP servers over standard input and output: the daemon stands between a server's run and its client.
//!
//! The launcher makes a socket pair and tells its descriptors; the daemon takes what the client is behind, and the end that is
//! its own, through the process's pidfd. Invariant: the session of a server opens only if 0 and 1 of its process are the other
//! end of the pair, so nobody can speak to it past the daemon.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::process::PidfdGetfdFlags;
use writ_control::{Class, Fault};
use writ_core::{ConnId, HostName, ServiceName};
use writ_gate::{Conn, Destination};
use writ_proxy::{Ends, ServedOver};
use writ_session::launch::Between;
use writ_session::{Agent, Live, Peer};

use crate::world::World;

/// The daemon's ends between a server and its client.
pub(crate) struct Channel {
    service: ServiceName,
    client: (OwnedFd, OwnedFd),
    server: UnixStream,
    /// The end that the server must have: its socket's device and inode.
    expected: (u64, u64),
}

/// Takes the ends of a run of this agent, if it is an MCP server. One that is started otherwise is refused, so that no
/// server can be spoken to undecided.
pub(crate) fn between(
    world: &World,
    agent: &Agent,
    peer: &Peer,
    asked: Option<Between>,
) -> Result<Option<Channel>, Fault> {
    let denied = |message: String| Fault::caller(Class::Denied, "session.not_started", message);
    let (service, between) = match (&agent.mcp, asked) {
        (None, None) => return Ok(None),
        (Some(service), Some(between)) => (service, between),
        (Some(_), None) => {
            let message = format!("`{}` is an MCP server", agent.name);
            return Err(denied(message).hint("start it with `writ mcp`"));
        }
        (None, Some(_)) => {
            let message = format!("`{}` is no MCP server", agent.name);
            return Err(denied(message).hint("start it with `writ run`, or set `mcp` in the agent's file"));
        }
    };
    if world.catalog.service_named(service).is_none() {
        let message = format!("the service `{service}` of agent `{}` is not there", agent.name);
        return Err(denied(message).hint("add it to `services/` with `protocol = \"stdio\"`"));
    }
    Channel::take(peer, service, between)
        .map(Some)
        .map_err(|error| denied(format!("the descriptors of the server cannot be taken: {error}")))
}

impl Channel {
    fn take(peer: &Peer, service: &ServiceName, between: Between) -> std::io::Result<Self> {
        let pidfd = peer.pidfd();
        let client = (taken(pidfd, 0)?, taken(pidfd, 1)?);
        let mut server = UnixStream::from(taken(pidfd, between.daemon)?);
        let mut other = UnixStream::from(taken(pidfd, between.server)?);
        // What is written at one end of a pair comes out of the other, and of nothing else.
        let mark = writ_core::RunId::new(writ_core::Timestamp::default(), &writ_host::SystemIds::default());
        let mark = mark.to_string();
        server.write_all(mark.as_bytes())?;
        let mut read = vec![0; mark.len()];
        other.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
        other.read_exact(&mut read)?;
        other.set_read_timeout(None)?;
        if read != mark.as_bytes() {
            return Err(std::io::Error::other("they are no pair"));
        }
        let expected = identity(other.as_fd())?;
        Ok(Self { service: service.clone(), client, server, expected })
    }

    /// Whether the process has the pair's other end in the place of 0 and 1.
    pub(crate) fn check(&self, peer: &Peer) -> Result<(), Fault> {
        let has = |fd| {
            taken(peer.pidfd(), fd).and_then(|fd| identity(fd.as_fd())).is_ok_and(|it| it == self.expected)
        };
        if has(0) && has(1) {
            return Ok(());
        }
        Err(Fault::caller(Class::Denied, "session.not_started", "the server is not behind the daemon"))
    }
}

/// Begins to decide what the client of this run asks of it, until either is gone.
pub(crate) fn serve(world: &Arc<World>, live: &Live, channel: Channel) -> Result<(), Fault> {
    let failed =
        |error: &dyn std::fmt::Display| Fault::local(Class::Failed, "session.mcp", error.to_string());
    let Channel { service, client: (input, output), server, .. } = channel;
    let ends = Ends::new((input, output), server).map_err(|error| failed(&error))?;
    let facts = live.session.facts();
    // Whoever started it asks; if nobody did that is governed, it asks for itself.
    let asking = facts.delegation.parents.last().map_or(facts.run, |parent| parent.run);
    let name = HostName::new(service.as_str()).map_err(|error| failed(&error))?;
    let conn = Conn {
        id: ConnId::new(world.clock.now(), &*world.ids),
        run: Ok(asking.tag()),
        process: live.start.process.clone(),
        exec: world.events.lineage(&live.start.process),
        destination: Destination { address: ([0, 0, 0, 0], 0).into(), name: Some(name) },
    };
    let over = ServedOver { gate: world.gate.clone(), conn, server: Arc::clone(&live.session), ends };
    let stop = world.stop.clone();
    world.tasks.spawn(async move {
        tokio::select! {
            () = over.serve() => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(())
}

fn taken(pidfd: BorrowedFd<'_>, fd: RawFd) -> std::io::Result<OwnedFd> {
    if fd < 0 {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    Ok(rustix::process::pidfd_getfd(pidfd, fd, PidfdGetfdFlags::empty())?)
}

fn identity(fd: BorrowedFd<'_>) -> std::io::Result<(u64, u64)> {
    let about = rustix::fs::fstat(fd)?;
    Ok((about.st_dev, about.st_ino))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn itself() -> Peer {
        let (one, _two) = UnixStream::pair().unwrap();
        Peer::of(one.as_fd()).unwrap()
    }

    #[test]
    fn what_is_no_pair_or_not_in_place_is_no_server() {
        let (peer, service) = (itself(), ServiceName::new("files").unwrap());
        let (_server, daemon) = UnixStream::pair().unwrap();
        let (stranger, _its_other) = UnixStream::pair().unwrap();
        let between = |server: &UnixStream, daemon: &UnixStream| Between {
            server: server.as_raw_fd(),
            daemon: daemon.as_raw_fd(),
        };
        assert!(Channel::take(&peer, &service, between(&stranger, &daemon)).is_err());
        assert!(Channel::take(&peer, &service, Between { server: -1, daemon: daemon.as_raw_fd() }).is_err());
        let (own, other) = UnixStream::pair().unwrap();
        let channel = Channel::take(&peer, &service, between(&own, &other)).unwrap();
        assert!(channel.check(&peer).is_err(), "0 and 1 of this process are something else");
    }
}
