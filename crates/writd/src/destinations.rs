//! What the kernel is told of the catalog: an address and port for every host, and what becomes of it.

use std::net::{IpAddr, SocketAddr};

use writ_capture::resolver::{Names, StandIn};
use writ_capture::{DestinationRule, Verdict};
use writ_catalog::CatalogStore;
use writ_core::service::HostPattern;
use writ_core::{HostName, Protocol, Service};

/// Every destination that the catalog lists, and every name that was given a stand-in before.
pub(crate) fn all(catalog: &CatalogStore, names: &Names) -> Vec<DestinationRule> {
    let listed = catalog.hosts();
    let exact = |host: &HostPattern| match host {
        HostPattern::Exact(name) => Some(name.clone()),
        HostPattern::Below(_) => None,
    };
    let homeless = names.list(listed.iter().filter_map(|listed| exact(&listed.host)));
    if !homeless.is_empty() {
        tracing::error!(target: "writ::capture", names = homeless.len(), "names found no address and cannot be reached");
    }
    let mut rules: Vec<DestinationRule> =
        names.all().into_iter().flat_map(|(name, stand_in)| of_name(catalog, &name, stand_in)).collect();
    for service in &catalog.services() {
        rules.extend(literal(service));
    }
    rules
}

/// The destinations of one name: its stand-ins on each port of each service that knows it.
pub(crate) fn of_name(catalog: &CatalogStore, name: &HostName, stand_in: StandIn) -> Vec<DestinationRule> {
    let services = catalog.services_at(name);
    let taken =
        services.iter().filter(|service| !matches!(service.protocol, Protocol::Pass | Protocol::Stdio));
    let ports = taken.flat_map(|service| service.ports.iter().copied());
    ports.flat_map(|port| both(stand_in, port)).collect()
}

fn both(stand_in: StandIn, port: u16) -> [DestinationRule; 2] {
    let rule = |address: IpAddr| DestinationRule { address, port, verdict: Verdict::Take };
    [rule(stand_in.v4.into()), rule(stand_in.v6.into())]
}

/// Literal addresses that a service lists: passed through as they are, or taken like a name.
fn literal(service: &Service) -> impl Iterator<Item = DestinationRule> + '_ {
    let pass = service.protocol == Protocol::Pass;
    service.addresses.iter().flat_map(move |address| {
        service.ports.iter().map(move |port| {
            let verdict = if pass { Verdict::Pass(SocketAddr::new(*address, *port)) } else { Verdict::Take };
            DestinationRule { address: *address, port: *port, verdict }
        })
    })
}
