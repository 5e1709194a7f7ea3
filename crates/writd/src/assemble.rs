//! The one place that knows every part: builds them in order, lets them run, and takes them down again.
//!
//! The order is the guarantee (G2). The evidence comes first, because nothing may happen unrecorded; then the kernel,
//! which closes governed runs in; then whatever decides; last the doors: relay, resolver, control. Only then is the
//! daemon ready. A failure anywhere before that ends it, and what the kernel holds stays closed.

use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use writ_approval::Approvals;
use writ_broker::{Broker, Store, StoreKey};
use writ_capture::resolver::{Names, Resolver, Sockets as ResolverSockets};
use writ_capture::{Capture, CaptureSettings, Events, KernelEvent};
use writ_catalog::CatalogStore;
use writ_control::{Access, Server};
use writ_core::event::{NodeStarted, NodeStopped};
use writ_core::{Clock, IdSource, Layout};
use writ_evidence::{Log, LogSettings};
use writ_gate::{Gate, Ports, Record};
use writ_host::{SystemClock, SystemIds, durable};
use writ_human::Ended;
use writ_policy::Engine;
use writ_proxy::{Authorities, Relay, RelaySettings};
use writ_session::{Attestors, Pins, Registry, Sources};

use crate::configuration::Configuration;
use crate::control::Control;
use crate::crossing::{Hands, Lookups, Questioners};
use crate::doors::Doors;
use crate::governing::Governing;
use crate::holder::Sockets;
use crate::peers::Peers;
use crate::people::Endings;
use crate::settings::Settings;
use crate::tallies::Tallies;
use crate::world::World;
use crate::{approving, destinations, doors, governing, identity, kernel, notify, people, reload, runs};

/// What the environment says, read once.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// `NOTIFY_SOCKET`.
    pub(crate) notify: Option<OsString>,
    /// `CREDENTIALS_DIRECTORY`.
    pub(crate) credentials: Option<OsString>,
}

/// Runs the daemon until it is told to stop.
pub(crate) async fn serve(layout: Layout, settings: Settings, surroundings: Surroundings) -> Result<()> {
    let configuration = Configuration::read(&layout).map_err(crate::Refused::Configuration)?;
    let (world, events, endings) = build(layout, settings, configuration, &surroundings).await?;
    world.governing.look_with(&world)?;
    let sockets = Sockets::obtain(&world.layout.holder_socket())?;
    let (relay, resolver) = (sockets.relay_port()?, sockets.resolver_port()?);
    world.capture.set_ports(relay, resolver)?;
    world.governing.ears.listen_on(relay, resolver)?;
    announce(&world).await?;
    runs::restore(&world).context("the kept sessions cannot be read")?;
    approving::recall(&world).await?;

    let mut tasks = JoinSet::new();
    open_doors(&world, sockets, &mut tasks)?;
    identity::doors(&world, &mut tasks).await?;
    doors::follow(&world, &world.configuration.load_full()).await?;
    governing::begin(&world).await?;
    tasks.spawn(governing::tend(Arc::clone(&world)));
    tasks.spawn(kernel::record(Arc::clone(&world), events));
    tasks.spawn(runs::expire(Arc::clone(&world)));
    tasks.spawn(identity::turn(Arc::clone(&world)));
    tasks.spawn(people::follow(Arc::clone(&world), endings));
    tasks.spawn(people::tend(Arc::clone(&world)));
    tasks.spawn(approving::tend(Arc::clone(&world)));
    let reader = Arc::clone(&world);
    tasks.spawn(async move {
        tokio::select! {
            Err(error) = reader.events.run() => {
                tracing::error!(target: "writ::capture", error = format!("{error:#}"), "nothing is read any more");
            }
            () = reader.stop.cancelled() => {}
        }
    });
    world.ready.store(true, Ordering::Release);
    notify::send(surroundings.notify.as_deref(), "READY=1");
    tracing::info!(target: "writ::writd", version = env!("CARGO_PKG_VERSION"), "ready");

    until_stopped(&world, &mut tasks).await?;
    notify::send(surroundings.notify.as_deref(), "STOPPING=1");
    stop(&world, tasks).await
}

/// Builds every part; nothing is served yet.
async fn build(
    layout: Layout,
    settings: Settings,
    configuration: Configuration,
    surroundings: &Surroundings,
) -> Result<(Arc<World>, Receiver<KernelEvent>, UnboundedReceiver<Ended>)> {
    folders(&layout)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids: Arc<dyn IdSource> = Arc::new(SystemIds::default());
    let log = open_log(&layout, &settings, &clock)?;
    let tallies = Arc::new(Tallies::new(log.recorder()));
    let record: Arc<dyn Record> = Arc::clone(&tallies) as _;

    let capture = Arc::new(Capture::open(&capture_settings(&layout, &settings))?);
    let (events, receiver) = Events::new(&capture).map(|(events, told)| (Arc::new(events), told))?;

    let store = Arc::new(Store::open(layout.secrets(), store_key(&layout, surroundings)?)?);
    let identity = identity::open(&settings, &store, &clock, &ids, layout.bundles()).await?;
    let (tell, told) = Endings::new(Arc::clone(&record));
    let people = people::open(&settings, &store, (&clock, &ids), tell).await?;
    let catalog = Arc::new(CatalogStore::new(configuration.services.clone()));
    let engine = Arc::new(Engine::observing(Arc::clone(&configuration.policies), configuration.observed()));
    let names = Arc::new(Names::new());
    capture.set_destinations(&destinations::all(&catalog, &names))?;
    let registry = open_registry((&layout, &settings), &record, (&clock, &ids))?;

    let approvals = open_approvals(&record, (&clock, &ids));
    let engines = (&registry, &catalog, &engine, &approvals);
    let gate = gate(engines, &store, &record, (&clock, &ids));
    let authorities = Arc::new(Authorities::new(Arc::clone(&clock), Arc::clone(&ids)));
    let governing = Arc::new(Governing::default());
    let hands = Hands::new((&capture, &events, &names), &governing, (&clock, &ids));
    let peers = Peers::identities(Arc::clone(&identity.authority), Arc::clone(&clock));
    let relay = Relay::new(RelaySettings::default(), gate.clone(), Arc::new(hands), Arc::clone(&authorities));
    let relay = relay.with_identities(peers.clone());
    let resolver = resolver((&names, &capture, &governing), (&registry, &catalog, &engine), &record);
    let world = World {
        attestors: Attestors::new(sources(&clock, &settings)),
        pins: Pins::new(layout.pins(), Arc::clone(&clock))?,
        started: clock.now(),
        layout,
        settings,
        clock,
        ids,
        log,
        record,
        tallies,
        capture,
        events,
        names,
        catalog,
        engine,
        store,
        registry,
        approvals,
        identity,
        people,
        authorities,
        gate,
        peers,
        relay,
        resolver,
        inbound: OnceLock::new(),
        doors: Doors::default(),
        governing,
        configuration: ArcSwap::from_pointee(configuration),
        reloading: tokio::sync::Mutex::new(()),
        ready: AtomicBool::new(false),
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    Ok((Arc::new(world), receiver, told))
}

/// What answers the names of governed processes, wherever it is asked.
fn resolver(
    (names, capture, governing): (&Arc<Names>, &Arc<Capture>, &Arc<Governing>),
    (registry, catalog, engine): (&Arc<Registry>, &Arc<CatalogStore>, &Arc<Engine>),
    record: &Arc<dyn Record>,
) -> Resolver {
    let lookups = Lookups {
        registry: Arc::clone(registry),
        catalog: Arc::clone(catalog),
        engine: Arc::clone(engine),
        capture: Arc::clone(capture),
        record: Arc::clone(record),
    };
    let origins = Questioners { capture: Arc::clone(capture), governing: Arc::clone(governing) };
    Resolver { names: Arc::clone(names), asker: Arc::new(lookups), origins: Arc::new(origins) }
}

/// Opens the log; recovery runs, as at every start.
fn open_log(layout: &Layout, settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Log> {
    let log_settings = LogSettings {
        dir: layout.evidence(),
        origin: format!("{}/evidence", settings.trust_domain),
        key_file: layout.state().join("evidence.key"),
    };
    Log::open(log_settings, Arc::clone(clock)).context("the evidence log cannot be opened")
}

/// The path, with everything that it asks.
fn gate(
    (registry, catalog, engine, approvals): (
        &Arc<Registry>,
        &Arc<CatalogStore>,
        &Arc<Engine>,
        &Arc<Approvals>,
    ),
    store: &Arc<Store>,
    record: &Arc<dyn Record>,
    (clock, ids): (&Arc<dyn Clock>, &Arc<dyn IdSource>),
) -> Gate {
    Gate::new(Ports {
        identify: Arc::clone(registry) as _,
        catalog: Arc::clone(catalog) as _,
        decide: Arc::clone(engine) as _,
        approve: Arc::clone(approvals) as _,
        mint: Arc::new(Broker::new(Arc::clone(store))),
        record: Arc::clone(record),
        clock: Arc::clone(clock),
        ids: Arc::clone(ids),
    })
}

/// No open questions; those of before come back with the sessions that asked them.
fn open_approvals(
    record: &Arc<dyn Record>,
    (clock, ids): (&Arc<dyn Clock>, &Arc<dyn IdSource>),
) -> Arc<Approvals> {
    let ports =
        writ_approval::Ports { record: Arc::clone(record), clock: Arc::clone(clock), ids: Arc::clone(ids) };
    Arc::new(Approvals::new(ports))
}

/// A registry without sessions; those of before come back once everything stands.
fn open_registry(
    (layout, settings): (&Layout, &Settings),
    record: &Arc<dyn Record>,
    (clock, ids): (&Arc<dyn Clock>, &Arc<dyn IdSource>),
) -> Result<Arc<Registry>> {
    let ports =
        writ_session::Ports { record: Arc::clone(record), clock: Arc::clone(clock), ids: Arc::clone(ids) };
    Ok(Arc::new(Registry::new(layout.sessions(), settings.trust_domain.clone(), ports)?))
}

/// Where attestors ask, beside the kernel.
fn sources(clock: &Arc<dyn Clock>, settings: &Settings) -> Sources {
    Sources {
        clock: Arc::clone(clock),
        packages: "/var/lib/dpkg".into(),
        runtimes: settings.runtimes.clone(),
        kubelet: settings.kubelet.clone(),
    }
}

/// Makes the folders that everything below is kept in.
fn folders(layout: &Layout) -> Result<(), durable::FileError> {
    durable::folder(&layout.state(), 0o700)?;
    // Below `--root` the parent may be missing too; ordinary users must be able to pass through it.
    let run = layout.run();
    if let Some(parent) = run.parent().filter(|parent| !parent.exists()) {
        durable::folder(parent, 0o755)?;
    }
    durable::folder(&run, 0o755)
}

/// Where the kernel's part of this installation lives.
pub(crate) fn capture_settings(layout: &Layout, settings: &Settings) -> CaptureSettings {
    CaptureSettings { cgroup: settings.cgroup.clone(), bpffs: layout.bpffs(), watch: settings.watch.clone() }
}

/// The key of the secret store: from the service manager if it gives one, from a file otherwise.
fn store_key(layout: &Layout, surroundings: &Surroundings) -> Result<StoreKey> {
    let given = surroundings.credentials.as_deref().map(|folder| Path::new(folder).join("writ-store-key"));
    Ok(match given.filter(|path| path.exists()) {
        Some(path) => StoreKey::from_credential(&path)?,
        None => StoreKey::from_file(&layout.state().join("store.key"))?,
    })
}

/// Records the start and the configuration before anything can happen under them.
async fn announce(world: &World) -> Result<()> {
    let configuration = world.configuration.load_full();
    let dangers = configuration.dangers();
    for danger in &dangers {
        tracing::warn!(target: "writ::writd", danger, "a setting weakens safety");
    }
    let assurance = world.capture.assurance();
    let started = NodeStarted { assurance, dangers, version: env!("CARGO_PKG_VERSION").to_owned() };
    world.record.fact(started.into()).await?;
    world.record.fact(reload::loaded(&configuration, None).into()).await?;
    Ok(())
}

/// Opens the relay, the resolver and the control socket.
fn open_doors(world: &Arc<World>, sockets: Sockets, tasks: &mut JoinSet<()>) -> Result<()> {
    let Sockets { relay, resolver_tcp, resolver_udp } = sockets;
    for listener in relay {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (relay, stop) = (world.relay.clone(), world.stop.clone());
        tasks.spawn(async move { relay.serve(listener, stop).await });
    }
    for (tcp, udp) in resolver_tcp.into_iter().zip(resolver_udp) {
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        let sockets = ResolverSockets {
            udp: tokio::net::UdpSocket::from_std(udp)?,
            tcp: tokio::net::TcpListener::from_std(tcp)?,
        };
        let (resolver, stop) = (world.resolver.clone(), world.stop.clone());
        tasks.spawn(async move {
            if let Err(error) = resolver.serve(sockets, stop).await {
                tracing::error!(target: "writ::capture", %error, "the resolver ended; names are refused");
            }
        });
    }
    let server = Server::bind(&world.layout.control_socket())?;
    let (control, stop) = (Arc::new(Control(Arc::clone(world))), world.stop.clone());
    let access = Access { group: administrators() };
    tasks.spawn(async move { server.serve(control, access, stop).await });
    Ok(())
}

/// The group `writ`, whose members may do what root may.
fn administrators() -> Option<u32> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| line.strip_prefix("writ:")?.split(':').nth(1)?.parse().ok())
}

/// Serves until a signal to end comes, or a part ends by itself. SIGHUP reloads.
async fn until_stopped(world: &Arc<World>, tasks: &mut JoinSet<()>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => match reload::reload(world, 0).await {
                Ok(_) => {}
                Err(fault) => {
                    for problem in &fault.problems {
                        tracing::error!(target: "writ::writd", file = problem.file, line = problem.line, "{}", problem.what);
                    }
                    tracing::error!(target: "writ::writd", "{fault}");
                }
            },
            Some(ended) = tasks.join_next() => {
                // No part ends before it is told to: whatever this one served is refused from now on, so say so and end.
                ended.context("a part of the daemon failed")?;
                anyhow::bail!("a part of the daemon ended by itself; hint: see the log above");
            }
        }
    }
}

/// Takes everything down in order; what the kernel holds stays closed.
async fn stop(world: &Arc<World>, mut tasks: JoinSet<()>) -> Result<()> {
    tracing::info!(target: "writ::writd", "stopping");
    let open = world.relay.tally().open();
    world.stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.context("a part of the daemon failed")?;
    }
    world.tasks.close();
    world.tasks.wait().await;
    world.events.drain();
    let stopped = NodeStopped { cut: u64::try_from(open).unwrap_or(u64::MAX) };
    world.record.fact(stopped.into()).await?;
    world.log.close().await.context("the evidence log did not close")?;
    Ok(())
}
