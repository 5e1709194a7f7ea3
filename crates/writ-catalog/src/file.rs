//! One service file becomes one service.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use writ_core::config::{Place, Placed, Problems, Table, read};
use writ_core::service::{AgentPeer, CredentialRule, OperationRule, Upstream};
use writ_core::{Effect, OperationName, Protocol, SecretName, Service, ServiceName};

use crate::keys::KEYS;
use crate::matching::connect_rule;
use crate::setting::{Address, Dial, Method, Pattern, Place as CredentialPlace, Port};
use crate::template::{self, Template};

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
    let upstream = upstream(&table.sub_table("upstream"));
    let credential = credential(&table.sub_table("credential"));
    let operations = operations(table, name.as_ref(), protocol);
    let service = Service {
        name: name?,
        hosts: hosts.into_iter().map(|pattern| pattern.0).collect(),
        addresses: addresses.into_iter().map(|address| address.0).collect(),
        ports,
        protocol: protocol?,
        upstream: upstream?,
        credential,
        operations,
    };
    check_destinations(table, &service);
    check_protocol(table, &service);
    Some(Declared { service, name: table.place("name"), hosts: host_places, addresses: address_places })
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
        Protocol::Https | Protocol::Http | Protocol::Tcp | Protocol::Pass => {}
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

fn operations(
    table: &Table<'_>,
    service: Option<&ServiceName>,
    protocol: Option<Protocol>,
) -> Vec<Arc<OperationRule>> {
    let tables = table.tables("operation");
    if matches!(protocol, Some(Protocol::Tcp | Protocol::Pass)) {
        if !tables.is_empty() {
            let hint = "the connection is its one operation, `NAME/connect`";
            table.problem("operation", "a `tcp` or `pass` service lists no operations", Some(hint));
        }
        let name = service.and_then(|name| OperationName::new(&format!("{name}/connect")).ok());
        return name.map(connect_rule).map(Arc::new).into_iter().collect();
    }
    if tables.is_empty() && protocol.is_some() {
        let hint = "add at least one `[[operation]]`";
        table.problem("operation", "without operations nothing can be done at the service", Some(hint));
    }
    let mut rules: Vec<Arc<OperationRule>> = Vec::with_capacity(tables.len());
    for entry in &tables {
        if let Some(rule) = operation(entry, service) {
            check_rule(entry, &rules, &rule);
            rules.push(Arc::new(rule));
        }
    }
    rules
}

fn operation(table: &Table<'_>, service: Option<&ServiceName>) -> Option<OperationRule> {
    let short = table.required::<String>("name");
    let effect = table.required::<Effect>("effect");
    let methods = table.list::<Method>("methods").into_iter().map(|method| method.0).collect();
    let path = table.required::<Template>("path");
    let query: BTreeMap<String, String> = table.map("query");
    // Named for the service even if that has no valid name, so that the operation's own name is checked.
    let (service, short) = (service.map_or("service", ServiceName::as_str), short?);
    let name = OperationName::new(&format!("{service}/{short}"))
        .map_err(|_| {
            let hint = "letters, digits, `.`, `-`, `_`; the service's name is put before it";
            table.problem("name", format!("`{short}` is not an operation's name"), Some(hint));
        })
        .ok();
    Some(OperationRule { name: name?, effect: effect?, methods, path: path?.0, query })
}

/// Compares a rule with those before it.
fn check_rule(table: &Table<'_>, before: &[Arc<OperationRule>], rule: &OperationRule) {
    if rule.effect == Effect::Connect {
        let hint = "`connect` is for connections that are not read";
        table.problem("effect", "a request has another effect than `connect`", Some(hint));
    }
    if let Some(twin) = before.iter().find(|other| other.name == rule.name) {
        if twin.effect != rule.effect {
            table.problem("effect", format!("`{}` has another effect in a rule above", rule.name), None);
        }
        if template::arguments(&twin.path) != template::arguments(&rule.path) {
            let hint = "rules that share a name are one operation and must have the same arguments";
            table.problem("path", format!("`{}` has other arguments in a rule above", rule.name), Some(hint));
        }
    }
    let same = |other: &&Arc<OperationRule>| {
        other.path.segments == rule.path.segments
            && other.query == rule.query
            && other.methods == rule.methods
    };
    if let Some(other) = before.iter().find(same) {
        let what = format!("covers the same requests as `{}` above, so it is never reached", other.name);
        table.problem("path", what, None);
    }
}
