//! Listeners in the networks of governed processes: what the kernel leads to 127.0.0.1 arrives in the network that the process
//! is in, and a container has one of its own.
//!
//! They have the ports of the host's own listeners, live while a governed process is in that network, and answer the same. What
//! a process sends before they are there the kernel's part loses, so that it is sent again. Not here: how it is found out who
//! asks.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use writ_capture::resolver::Sockets;
use writ_capture::{Heard, Network};

use super::lock;
use crate::world::World;

/// Networks that are listened in.
const NETWORKS_MAX: usize = 1_024;
/// How often it is looked for a network that is about to be made, and how many times.
const STEP: Duration = Duration::from_millis(5);
const STEPS: usize = 400;

/// What tells a network from others that live.
type Id = (u64, u64);

/// Where it is listened.
#[derive(Default)]
pub(crate) struct Ears {
    /// Ports of relay and resolver, and the daemon's own network.
    host: OnceLock<(u16, u16, Id)>,
    open: Mutex<HashMap<Id, (CancellationToken, Heard)>>,
    /// Cgroups in which a process is about to have a network of its own.
    awaited: Mutex<HashSet<PathBuf>>,
}

/// The sockets of one address.
struct Pair {
    relay: TcpListener,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Ears {
    /// The ports that the kernel leads to. Before this nothing is listened to.
    pub(crate) fn listen_on(&self, relay: u16, resolver: u16) -> io::Result<()> {
        let own = Network::here()?.id()?;
        self.host.get_or_init(|| (relay, resolver, own));
        Ok(())
    }
}

/// Listens in the network of this process, unless that is done.
pub(super) fn listen(world: &Arc<World>, pid: u32) {
    if let Err(error) = try_listen(world, pid) {
        // Its network may not be set up yet: it is looked at again.
        tracing::debug!(target: "writ::govern", pid, %error, "nobody listens in its network");
    }
}

/// Listens in the network that a process which entered a governed cgroup, or one that it starts there, is about to get: runtimes
/// and service managers put it into the cgroup first and make its network then, of which the kernel says nothing. For a
/// while, and for each cgroup once at a time.
pub(super) async fn await_network(world: &Arc<World>, entered: u32) {
    let Some(folder) = world.capture.folder_of_process(entered) else { return };
    let ears = &world.governing.ears;
    if !lock(&ears.awaited).insert(folder.clone()) {
        return;
    }
    let mut tick = tokio::time::interval(STEP);
    for _ in 0..STEPS {
        tick.tick().await;
        let Ok(pids) = fs::read_to_string(folder.join("cgroup.procs")) else { break };
        let heard = |pid: u32| try_listen(world, pid).is_ok_and(|elsewhere| elsewhere);
        if pids.lines().filter_map(|pid| pid.parse().ok()).any(heard) {
            break;
        }
    }
    lock(&ears.awaited).remove(&folder);
}

/// Whether it is in a network that is not the host's, in which it is listened now.
fn try_listen(world: &Arc<World>, pid: u32) -> io::Result<bool> {
    let ears = &world.governing.ears;
    let Some((relay, resolver, own)) = ears.host.get().copied() else { return Ok(false) };
    let network = Network::of(pid)?;
    let id = network.id()?;
    let mut open = lock(&ears.open);
    if id == own || open.contains_key(&id) {
        return Ok(id != own);
    }
    if open.len() >= NETWORKS_MAX {
        return Err(io::Error::other("too many networks"));
    }
    let pairs = network.within(|| {
        let v4 = bind(Ipv4Addr::LOCALHOST.into(), relay, resolver)?;
        // A network may be without IPv6.
        Ok([Some(v4), bind(Ipv6Addr::LOCALHOST.into(), relay, resolver).ok()])
    })?;
    let stop = world.stop.child_token();
    let served = pairs.into_iter().flatten().try_for_each(|pair| serve(world, pair, &stop));
    let heard = served.and_then(|()| world.capture.hear(&network).map_err(io::Error::other));
    let heard = heard.inspect_err(|_| stop.cancel())?;
    open.insert(id, (stop, heard));
    tracing::info!(target: "writ::govern", pid, network = id.1, "listening in its network");
    Ok(true)
}

fn bind(ip: IpAddr, relay: u16, resolver: u16) -> io::Result<Pair> {
    let pair = Pair {
        relay: TcpListener::bind(SocketAddr::new(ip, relay))?,
        tcp: TcpListener::bind(SocketAddr::new(ip, resolver))?,
        udp: UdpSocket::bind(SocketAddr::new(ip, resolver))?,
    };
    pair.relay.set_nonblocking(true)?;
    pair.tcp.set_nonblocking(true)?;
    pair.udp.set_nonblocking(true)?;
    Ok(pair)
}

fn serve(world: &Arc<World>, pair: Pair, stop: &CancellationToken) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(pair.relay)?;
    let sockets = Sockets {
        udp: tokio::net::UdpSocket::from_std(pair.udp)?,
        tcp: tokio::net::TcpListener::from_std(pair.tcp)?,
    };
    let (relay, resolver) = (world.relay.clone(), world.resolver.clone());
    let (ends, stops) = (stop.clone(), stop.clone());
    world.tasks.spawn(async move { relay.serve(listener, ends).await });
    world.tasks.spawn(async move {
        if let Err(error) = resolver.serve(sockets, stops).await {
            tracing::error!(target: "writ::govern", %error, "the resolver of another network ended");
        }
    });
    Ok(())
}

/// Listens where governed processes are by now, and nowhere else.
pub(super) fn tend(world: &Arc<World>) {
    // Before it is looked who is there: where somebody came meanwhile it is listened since then.
    let before: HashSet<Id> = lock(&world.governing.ears.open).keys().copied().collect();
    let members = match world.capture.members() {
        Ok(members) => members,
        Err(error) => {
            tracing::debug!(target: "writ::govern", %error, "who is governed cannot be listed");
            return;
        }
    };
    let mut inhabited = HashSet::new();
    for process in &members {
        if let Ok(id) = Network::of(process.pid).and_then(|network| network.id())
            && inhabited.insert(id)
        {
            listen(world, process.pid);
        }
    }
    lock(&world.governing.ears.open).retain(|id, (stop, heard)| {
        let stays = inhabited.contains(id) || !before.contains(id);
        if !stays {
            world.capture.unhear(*heard);
            stop.cancel();
        }
        stays
    });
}
