//! The set of services in force.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use writ_core::service::{HostPattern, OperationRule, RequestHead, Selection};
use writ_core::{HostName, Mode, Operation, Protocol, Reason, Service, ServiceName};
use writ_gate::{Catalog, Destination, May, Shown};

use crate::check::Services;
use crate::matching;
use crate::mcp::{self, Tools};
use crate::rules::Rules;

/// The catalog that the gate asks. Readers never wait; replacing it leaves services that were handed out valid.
#[derive(Debug, Default)]
pub struct CatalogStore {
    index: ArcSwap<Index>,
    tools: Tools,
}

/// A host of a service, for those who answer names and tell the kernel of destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name or pattern.
    pub host: HostPattern,
    /// Whose it is: ports, protocol and upstream stand there.
    pub service: Arc<Service>,
}

/// Services by what they are asked for. No destination has two, which [`Services`] has checked.
#[derive(Debug, Default)]
struct Index {
    services: Services,
    exact: HashMap<String, Ports>,
    /// By the name that a pattern's names are right below.
    below: HashMap<String, Ports>,
    literal: HashMap<IpAddr, Ports>,
    rules: HashMap<ServiceName, (Arc<Service>, Rules)>,
}

/// The services of one host by port; few enough to be searched.
type Ports = Vec<(u16, Arc<Service>)>;

impl Index {
    fn new(services: Services) -> Self {
        let mut index = Self::default();
        for service in &services {
            let ports = || service.ports.iter().map(|port| (*port, Arc::clone(service)));
            for host in &service.hosts {
                let (map, name) = match host {
                    HostPattern::Exact(name) => (&mut index.exact, name),
                    HostPattern::Below(suffix) => (&mut index.below, suffix),
                };
                map.entry(name.as_str().to_owned()).or_default().extend(ports());
            }
            index.rules.insert(service.name.clone(), (Arc::clone(service), Rules::new(service)));
            for address in &service.addresses {
                index.literal.entry(*address).or_default().extend(ports());
            }
        }
        index.services = services;
        index
    }

    /// The services that know this name, exact names first.
    fn named(&self, name: &HostName) -> impl Iterator<Item = &(u16, Arc<Service>)> {
        let below = name.as_str().split_once('.').and_then(|(_, parent)| self.below.get(parent));
        self.exact.get(name.as_str()).into_iter().chain(below).flatten()
    }

    fn find(&self, destination: &Destination) -> Result<&Arc<Service>, Reason> {
        let port = destination.address.port();
        let on_port = |(of, _): &&(u16, Arc<Service>)| *of == port;
        let found = match &destination.name {
            Some(name) => self.named(name).find(on_port).ok_or(Reason::NoService),
            None => self.listed(destination.address.ip()).find(on_port).ok_or(Reason::UnknownDestination),
        };
        found.map(|(_, service)| service)
    }

    /// The services that list this literal address.
    fn listed(&self, address: IpAddr) -> impl Iterator<Item = &(u16, Arc<Service>)> {
        self.literal.get(&address.to_canonical()).into_iter().flatten()
    }
}

impl CatalogStore {
    /// A catalog of these services.
    pub fn new(services: Services) -> Self {
        Self { index: ArcSwap::from_pointee(Index::new(services)), tools: Tools::default() }
    }

    /// Puts another set in force, at once and whole.
    pub fn replace(&self, services: Services) {
        self.tools.retain(&services);
        self.index.store(Arc::new(Index::new(services)));
    }

    /// The set in force.
    pub fn services(&self) -> Services {
        self.index.load().services.clone()
    }

    /// The service of this name.
    pub fn service_named(&self, name: &ServiceName) -> Option<Arc<Service>> {
        self.index.load().rules.get(name).map(|(service, _)| Arc::clone(service))
    }

    /// Every service that knows this host name, on whatever port; each once.
    pub fn services_at(&self, name: &HostName) -> Vec<Arc<Service>> {
        let index = self.index.load();
        let mut found: Vec<Arc<Service>> = Vec::new();
        for (_, service) in index.named(name) {
            if !found.iter().any(|known| Arc::ptr_eq(known, service)) {
                found.push(Arc::clone(service));
            }
        }
        found
    }

    /// Every host of every service.
    pub fn hosts(&self) -> Vec<Listed> {
        let index = self.index.load();
        let of = |service: &Arc<Service>| {
            let service = Arc::clone(service);
            let hosts = service.hosts.clone();
            hosts.into_iter().map(move |host| Listed { host, service: Arc::clone(&service) })
        };
        index.services.iter().flat_map(of).collect()
    }

    /// Settings that weaken safety and are on, for the log and the record of a start.
    pub fn dangers(&self) -> Vec<String> {
        let index = self.index.load();
        let plain = index.services.iter().filter(|service| service.upstream.danger_plaintext_credential);
        let unread = index.services.iter().filter(|service| service.protocol == Protocol::Pass);
        let observed = index.services.iter().filter(|service| service.mode == Mode::Observe);
        plain
            .map(|service| format!("service {}: danger_plaintext_credential", service.name))
            .chain(unread.map(|service| format!("service {}: pass", service.name)))
            .chain(observed.map(|service| format!("service {}: observe", service.name)))
            .collect()
    }
}

impl Catalog for CatalogStore {
    fn service(&self, destination: &Destination) -> Result<Arc<Service>, Reason> {
        self.index.load().find(destination).cloned()
    }

    fn select(
        &self,
        service: &Service,
        host: &HostName,
        request: &RequestHead<'_>,
    ) -> Result<Selection, Reason> {
        let index = self.index.load();
        // A service of an earlier set keeps its own rules, which this index does not know.
        let known =
            index.rules.get(&service.name).filter(|(current, _)| std::ptr::eq(&raw const **current, service));
        matching::select(service, known.map(|(_, rules)| rules), host, request)
    }

    fn operation(
        &self,
        selected: Selection,
        request: &RequestHead<'_>,
        body: Option<&[u8]>,
    ) -> Result<Operation, Reason> {
        matching::operation(selected, request, body)
    }

    fn approved(&self, operation: &Operation) -> Result<(), Reason> {
        self.tools.check(&operation.rule)
    }

    fn shown(
        &self,
        service: &Service,
        asked: &OperationRule,
        message: &[u8],
        may: May<'_>,
    ) -> Result<Shown, Reason> {
        mcp::shown((service, asked), &self.tools, message, may)
    }
}
