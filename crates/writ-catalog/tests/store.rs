//! The catalog in force: which destination is which service, and what a replacement leaves alone.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::net::SocketAddr;

use writ_catalog::{CatalogStore, Services};
use writ_core::config::Problems;
use writ_core::service::{Headers, RequestHead};
use writ_core::{Effect, HostName, Protocol, Reason, ServiceName};
use writ_gate::{Catalog as _, Destination};

const FORGE: &str = "name = 'forge'\nhosts = ['forge.test', '*.cdn.test']\nports = [443, 8443]\n\
    addresses = ['192.0.2.1']\n[[operation]]\nname = 'x'\neffect = 'read'\npath = '/'\n";
const DATABASE: &str = "name = 'db'\nhosts = ['forge.test']\nports = [5432]\nprotocol = 'tcp'\n";
const PASSED: &str = "name = 'metrics'\nhosts = ['metrics.test']\naddresses = ['192.0.2.9']\nports = [9000]\nprotocol = 'pass'\n";

fn services(files: &[&str]) -> Services {
    let mut problems = Problems::default();
    let named = files.iter().map(|text| ("a.toml", *text));
    Services::read(named, &mut problems).unwrap_or_else(|| panic!("{problems}"))
}

fn to(name: &str, port: u16) -> Destination {
    Destination { address: ([198, 18, 0, 1], port).into(), name: Some(HostName::new(name).unwrap()) }
}

fn literal(address: &str) -> Destination {
    Destination { address: address.parse::<SocketAddr>().unwrap(), name: None }
}

#[test]
fn a_destination_is_at_most_one_service() {
    let catalog = CatalogStore::new(services(&[FORGE, DATABASE, PASSED]));
    let at = |destination: &Destination| catalog.service(destination).map(|s| s.name.as_str().to_owned());
    let forge = Ok("forge".to_owned());
    assert_eq!(at(&to("forge.test", 443)), forge);
    assert_eq!(at(&to("forge.test", 8443)), forge);
    assert_eq!(at(&to("forge.test", 5432)), Ok("db".to_owned()));
    assert_eq!(at(&to("a.cdn.test", 443)), forge);
    assert_eq!(at(&literal("192.0.2.1:443")), forge);
    assert_eq!(at(&literal("[::ffff:192.0.2.1]:443")), forge);
    assert_eq!(at(&literal("192.0.2.9:9000")), Ok("metrics".to_owned()));
    for unknown in
        [to("forge.test", 80), to("cdn.test", 443), to("a.b.cdn.test", 443), to("x.forge.test", 443)]
    {
        assert_eq!(at(&unknown), Err(Reason::NoService), "{unknown}");
    }
    // A literal address that no service lists is refused, also one that a name stands for.
    for unknown in ["192.0.2.1:80", "192.0.2.2:443", "198.18.0.1:443", "[fd00::1]:443"] {
        assert_eq!(at(&literal(unknown)), Err(Reason::UnknownDestination), "{unknown}");
    }
}

#[test]
fn a_connection_that_is_not_read_is_one_operation() {
    let catalog = CatalogStore::new(services(&[FORGE, DATABASE, PASSED]));
    let (host, head) = (
        HostName::new("forge.test").unwrap(),
        RequestHead { method: "CONNECT", path: "", query: None, headers: Headers::default() },
    );
    for (destination, name) in
        [(to("forge.test", 5432), "db/connect"), (literal("192.0.2.9:9000"), "metrics/connect")]
    {
        let service = catalog.service(&destination).unwrap();
        let selected = catalog.select(&service, &host, &head).unwrap();
        let operation = catalog.operation(selected, &head, None).unwrap();
        assert_eq!((operation.rule.name.as_str(), operation.rule.effect), (name, Effect::Connect));
        assert!(operation.arguments.is_empty());
    }
}

#[test]
fn a_request_must_name_a_host_of_its_service() {
    let catalog = CatalogStore::new(services(&[FORGE]));
    let service = catalog.service(&to("forge.test", 443)).unwrap();
    let head = RequestHead { method: "GET", path: "/", query: None, headers: Headers::default() };
    let ask = |host: &str| catalog.select(&service, &HostName::new(host).unwrap(), &head).map(|_| ());
    assert_eq!(ask("forge.test"), Ok(()));
    assert_eq!(ask("a.cdn.test"), Ok(()));
    assert_eq!(ask("other.test"), Err(Reason::NameMismatch));
}

#[test]
fn a_replacement_takes_effect_at_once_and_leaves_services_valid() {
    let catalog = CatalogStore::default();
    assert_eq!(catalog.service(&to("forge.test", 443)).unwrap_err(), Reason::NoService);
    catalog.replace(services(&[FORGE]));
    let kept = catalog.service(&to("forge.test", 443)).unwrap();
    catalog.replace(services(&[DATABASE]));
    assert_eq!(catalog.service(&to("forge.test", 443)).unwrap_err(), Reason::NoService);
    let head = RequestHead { method: "GET", path: "/", query: None, headers: Headers::default() };
    let selected = catalog.select(&kept, &HostName::new("forge.test").unwrap(), &head).unwrap();
    catalog.replace(services(&[]));
    let operation = catalog.operation(selected, &head, None).unwrap();
    assert_eq!(operation.rule.name.as_str(), "forge/x", "what was selected is what is decided");
}

#[test]
fn lists_what_resolver_and_kernel_need() {
    let catalog = CatalogStore::new(services(&[FORGE, DATABASE, PASSED]));
    let listed: Vec<String> =
        catalog.hosts().iter().map(|listed| format!("{} {}", listed.host, listed.service.name)).collect();
    assert_eq!(listed, ["forge.test forge", "*.cdn.test forge", "forge.test db", "metrics.test metrics"]);
    let at = |name: &str| catalog.services_at(&HostName::new(name).unwrap()).len();
    assert_eq!((at("forge.test"), at("a.cdn.test"), at("cdn.test")), (2, 1, 0));
    let name = ServiceName::new("metrics").unwrap();
    assert_eq!(catalog.service_named(&name).unwrap().protocol, Protocol::Pass);
    assert_eq!(catalog.dangers(), ["service metrics: pass"]);
    assert_eq!(catalog.services().len(), 3);
}
