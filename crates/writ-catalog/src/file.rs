//! One service file becomes one service.

use std::collections::BTreeSet;
use std::path::PathBuf;

use writ_core::argument::{ArgumentRule, ArgumentSource};
use writ_core::config::{Place, Placed, Problems, Table, read};
use writ_core::service::{AgentPeer, CredentialRule, HostPattern, Upstream};
use writ_core::{HostName, Mode, Placement, Protocol, SecretName, Service, ServiceName};

use crate::keys::KEYS;
use crate::operation::operations;
use crate::query::alike;
use crate::setting::{Address, Dial, Pattern, Place as CredentialPlace, Port};

/// A service with the places of what must be unique among all files.
pub(crate) struct Declared {
    pub(crate) service: Service,
    pub(crate) name: Place,
    /// In the order of `service.hosts`.
    pub(crate) hosts: Vec<Place>,
    /// In the order of `service.addresses`.
    pub(crate) addresses: Vec<Place>,
}

/// Reads one file.
pub(crate) fn declared(file: &str, text: &str, problems: &mut Problems) -> Option<Declared> {
    read(file, text, KEYS, problems, service)
}

fn service(table: &Table<'_>) -> Option<Declared> {
    let name = table.required::<ServiceName>("name");
    let (hosts, host_places) = unzip(table.list_placed::<Pattern>("hosts"));
    let (addresses, address_places) = unzip(table.list_placed::<Address>("addresses"));
    let ports: Vec<u16> = table.list::<Port>("ports").into_iter().map(|port| port.0).collect();
    let protocol = table.defaulted::<Protocol>("protocol");
    let virtual_hosts = table.defaulted::<bool>("virtual_hosts");
    let mode = table.defaulted::<Mode>("mode");
    let upstream = upstream(&table.sub_table("upstream"));
    let credential = credential(&table.sub_table("credential"));
    let operations = operations(table, name.as_ref(), protocol);
    let mut service = Service {
        name: name?,
        hosts: hosts.into_iter().map(|pattern| pattern.0).collect(),
        addresses: addresses.into_iter().map(|address| address.0).collect(),
        ports,
        protocol: protocol?,
        virtual_hosts: virtual_hosts?,
        mode: mode?,
        upstream: upstream?,
        credential,
        operations,
    };
    if service.protocol == Protocol::Stdio {
        let host = stdio(table, &service)?;
        (service.hosts, service.ports) = (vec![HostPattern::Exact(host)], vec![0]);
        let places = vec![table.place("name")];
        return Some(Declared { service, name: table.place("name"), hosts: places, addresses: Vec::new() });
    }
    check_destinations(table, &service);
    check_protocol(table, &service);
    check_credential(table, &service);
    Some(Declared { service, name: table.place("name"), hosts: host_places, addresses: address_places })
}

/// Checks a service that is a program, and gives the name by which it is found.
fn stdio(table: &Table<'_>, service: &Service) -> Option<HostName> {
    let listed = [
        ("hosts", !service.hosts.is_empty()),
        ("addresses", !service.addresses.is_empty()),
        ("ports", !service.ports.is_empty()),
        ("upstream", table.sub_table("upstream").is_present()),
        ("credential", table.sub_table("credential").is_present()),
    ];
    for (key, _) in listed.into_iter().filter(|(_, is_there)| *is_there) {
        table.problem(
            key,
            "a `stdio` service is a program, and nothing on the network",
            Some("leave it out"),
        );
    }
    for rule in service.operations.iter().filter(|rule| rule.mcp.is_none()) {
        let hint = "as in `mcp = \"tools/call read_file\"`";
        table.problem("operation", format!("`{}` is no operation of an MCP server", rule.name), Some(hint));
    }
    match HostName::new(service.name.as_str()) {
        Ok(host) => Some(host),
        Err(error) => {
            table.problem("name", error.to_string(), Some("a `stdio` service is found by it"));
            None
        }
    }
}

fn unzip<T>(list: Vec<Placed<T>>) -> (Vec<T>, Vec<Place>) {
    list.into_iter().map(|placed| (placed.value, placed.place)).unzip()
}

fn upstream(table: &Table<'_>) -> Option<Upstream> {
    let address = table.optional::<Dial>("address").map(|dial| dial.0);
    let ca_file = table.optional::<PathBuf>("ca_file");
    let peer = table.optional::<AgentPeer>("spiffe");
    let danger_plaintext_credential = table.defaulted("danger_plaintext_credential")?;
    Some(Upstream { address, ca_file, peer, danger_plaintext_credential })
}

fn credential(table: &Table<'_>) -> Option<CredentialRule> {
    if !table.is_present() {
        return None;
    }
    let secret = table.required::<SecretName>("secret");
    let place = table.required::<CredentialPlace>("place");
    Some(CredentialRule { secret: secret?, place: place?.0 })
}

fn check_destinations(table: &Table<'_>, service: &Service) {
    let Service { hosts, addresses, ports, protocol, .. } = service;
    if ports.is_empty() {
        table.problem("ports", "a service needs at least one port", Some("as in `ports = [443]`"));
    }
    let unique: BTreeSet<_> = ports.iter().collect();
    if unique.len() != ports.len() {
        table.problem("ports", "a port is listed twice", None);
    }
    let (nameless, unlisted) = (hosts.is_empty(), addresses.is_empty());
    match protocol {
        Protocol::Https | Protocol::Http if nameless => {
            let hint = "as in `hosts = [\"api.example.com\"]`; a request is checked against them";
            table.problem("hosts", "a service of requests needs at least one host", Some(hint));
        }
        Protocol::Tcp if nameless && unlisted => {
            table.problem("hosts", "a service needs a host or an address", None);
        }
        Protocol::Pass if unlisted => {
            let hint = "the kernel lets the connection through untouched, so it must know the real address";
            table.problem("addresses", "a `pass` service needs at least one address", Some(hint));
        }
        Protocol::Https | Protocol::Http | Protocol::Tcp | Protocol::Pass | Protocol::Stdio => {}
    }
}

/// The place of the credential is overwritten after the decision, and what stands there is never to be recorded.
fn check_credential(table: &Table<'_>, service: &Service) {
    let Some(place) = service.credential.as_ref().map(|rule| &rule.place) else { return };
    let reads = |rule: &ArgumentRule| match (&rule.source, place) {
        (ArgumentSource::Query(name) | ArgumentSource::Form(name), Placement::Query(place)) => {
            alike(name, place)
        }
        (ArgumentSource::Header(name) | ArgumentSource::HeaderPath(name), Placement::Header(place)) => {
            name.eq_ignore_ascii_case(place)
        }
        _ => false,
    };
    if let Some(rule) = service.operations.iter().find(|rule| rule.arguments.values().any(reads)) {
        let what = format!("an argument of `{}` reads the place of the credential", rule.name);
        table.sub_table("credential").problem("place", what, None);
    }
}

/// What does not go together with the protocol.
fn check_protocol(table: &Table<'_>, service: &Service) {
    let Service { protocol, upstream, credential, .. } = service;
    let (upstream_table, opaque) =
        (table.sub_table("upstream"), matches!(protocol, Protocol::Tcp | Protocol::Pass));
    if opaque && table.sub_table("credential").is_present() {
        let hint = "the connection is not read, so nothing can be placed in it";
        table.problem("credential", "a `tcp` or `pass` service has no credential", Some(hint));
    }
    if *protocol == Protocol::Pass && upstream_table.is_present() {
        table.problem("upstream", "a `pass` service is not relayed, so it has no upstream", None);
    }
    if *protocol != Protocol::Https && upstream.ca_file.is_some() {
        upstream_table.problem("ca_file", "only an `https` service is verified", None);
    }
    if upstream.peer.is_some() && opaque {
        upstream_table.problem("spiffe", "a run is called over `https` or `http`", None);
    }
    if upstream.peer.is_some() && upstream.ca_file.is_some() {
        upstream_table.problem("ca_file", "a run is believed by its identity alone", None);
    }
    let plain = *protocol == Protocol::Http && upstream.peer.is_none() && credential.is_some();
    match (plain, upstream.danger_plaintext_credential) {
        (true, false) => {
            let hint = "use `https`, or say `danger_plaintext_credential = true` under `[upstream]`";
            table.problem(
                "credential",
                "an `http` service would send the credential in plain text",
                Some(hint),
            );
        }
        (false, true) => {
            let hint = "it is for `http` services with a credential; leave it out";
            upstream_table.problem("danger_plaintext_credential", "has no effect here", Some(hint));
        }
        _ => {}
    }
}
