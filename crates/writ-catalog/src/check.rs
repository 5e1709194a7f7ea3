//! A whole set of services: no two may claim the same destination.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use writ_core::Service;
use writ_core::config::{Place, Problems};
use writ_core::service::HostPattern;

use crate::file::{Declared, declared};

/// A checked set of services, in the order of their files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services(Vec<Arc<Service>>);

impl Services {
    /// Reads a set of files, each as its name and text. Gives nothing if anything is wrong with any of them, and
    /// then `problems` has grown.
    pub fn read<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let before = problems.len();
        let mut all = Vec::new();
        for (file, text) in files {
            all.extend(declared(file, text, problems));
        }
        check(&all, problems);
        let clean = problems.len() == before;
        clean.then(|| Self(all.into_iter().map(|declared| Arc::new(declared.service)).collect()))
    }

    /// Each service.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<Service>> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Services {
    type Item = &'a Arc<Service>;
    type IntoIter = std::slice::Iter<'a, Arc<Service>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One claim to a host pattern and port.
struct Claim<'a> {
    service: &'a Service,
    pattern: &'a HostPattern,
    place: &'a Place,
}

fn check(all: &[Declared], problems: &mut Problems) {
    check_names(all, problems);
    check_hosts(all, problems);
    check_addresses(all, problems);
}

fn check_names(all: &[Declared], problems: &mut Problems) {
    let mut names: HashMap<&str, &Place> = HashMap::new();
    for Declared { service, name, .. } in all {
        if let Some(first) = names.insert(service.name.as_str(), name) {
            problems.push(
                name.clone(),
                format!("`{}` is already the service of {first}", service.name),
                None,
            );
        }
    }
}

/// Two patterns overlap if one covers the other's name; each is filed under the parent that both would have.
fn check_hosts(all: &[Declared], problems: &mut Problems) {
    let mut claims: HashMap<(&str, u16), Vec<Claim<'_>>> = HashMap::new();
    for Declared { service, hosts, .. } in all {
        for (pattern, place) in service.hosts.iter().zip(hosts) {
            for port in &service.ports {
                let others = claims.entry((parent(pattern), *port)).or_default();
                let clash = others.iter().find(|other| overlap(service, pattern, other));
                if let Some(other) = clash {
                    let what = if other.service.name == service.name {
                        format!("`{pattern}` is listed twice")
                    } else {
                        format!(
                            "`{pattern}` on port {port} is claimed by `{}` and by `{}` (`{}` at {})",
                            service.name, other.service.name, other.pattern, other.place
                        )
                    };
                    problems.push(place.clone(), what, None);
                }
                others.push(Claim { service, pattern, place });
            }
        }
    }
}

fn parent(pattern: &HostPattern) -> &str {
    match pattern {
        HostPattern::Exact(name) => name.as_str().split_once('.').map_or(name.as_str(), |(_, parent)| parent),
        HostPattern::Below(suffix) => suffix.as_str(),
    }
}

fn overlap(service: &Service, pattern: &HostPattern, other: &Claim<'_>) -> bool {
    match (pattern, other.pattern) {
        (HostPattern::Exact(a), HostPattern::Exact(b)) | (HostPattern::Below(a), HostPattern::Below(b)) => {
            a == b
        }
        // Within one service a name beside its pattern is redundant, not contradictory.
        (HostPattern::Exact(name), below @ HostPattern::Below(_))
        | (below @ HostPattern::Below(_), HostPattern::Exact(name)) => {
            service.name != other.service.name && below.matches(name)
        }
    }
}

fn check_addresses(all: &[Declared], problems: &mut Problems) {
    let mut claims: HashMap<(IpAddr, u16), (&Service, &Place)> = HashMap::new();
    for Declared { service, addresses, .. } in all {
        for (address, place) in service.addresses.iter().zip(addresses) {
            for port in &service.ports {
                let Some((other, first)) = claims.insert((*address, *port), (service, place)) else {
                    continue;
                };
                let what = if other.name == service.name {
                    format!("{address} is listed twice")
                } else {
                    format!(
                        "{address} on port {port} is claimed by `{}` and by `{}` (at {first})",
                        service.name, other.name
                    )
                };
                problems.push(place.clone(), what, None);
            }
        }
    }
}
