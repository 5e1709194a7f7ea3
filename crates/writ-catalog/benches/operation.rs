//! How long it takes to find a service and an operation among 50 rules. `cargo bench -p writ-catalog`

use std::hint::black_box;

use writ_catalog::{CatalogStore, Services};
use writ_core::config::Problems;
use writ_core::service::{Headers, RequestHead};
use writ_core::{Clock as _, HostName};
use writ_gate::{Catalog as _, Destination};
use writ_host::SystemClock;

const ROUNDS: u32 = 10_000;
const BATCHES: usize = 50;

#[expect(clippy::print_stdout, reason = "a program for the terminal")]
fn main() {
    let rule = |n| {
        format!(
            "[[operation]]\nname = 'op{n}'\neffect = 'read'\nmethods = ['GET']\npath = '/repos/{{owner}}/{{repo}}/thing{n}/{{id}}'\n"
        )
    };
    let rules: Vec<String> = (0..50).map(rule).collect();
    let text = format!("name = 'api'\nhosts = ['api.test']\nports = [443]\n{}", rules.concat());
    let mut problems = Problems::default();
    let Some(services) = Services::read([("api.toml", text.as_str())], &mut problems) else {
        println!("{problems}");
        return;
    };
    let catalog = CatalogStore::new(services);
    let Ok(host) = HostName::new("api.test") else { return };
    let destination = Destination { address: ([198, 18, 0, 1], 443).into(), name: Some(host.clone()) };
    let Ok(service) = catalog.service(&destination) else { return };
    measure("service by name", || catalog.service(black_box(&destination)).is_ok());
    for (what, path) in [
        ("operation, first of 50 rules", "/repos/acme/site/thing0/7"),
        ("operation, last of 50 rules", "/repos/acme/site/thing49/7"),
        ("no operation among 50 rules", "/repos/acme/site/other/7"),
        ("operation, last of 50, escapes", "/repos/ac%20me/site/thing49/7"),
    ] {
        let head = RequestHead { method: "GET", path, query: Some("page=2"), headers: Headers::default() };
        measure(what, || {
            let selected = catalog.select(&service, &host, black_box(&head));
            selected.and_then(|selected| catalog.operation(selected, &head, None)).is_ok()
        });
    }
}

#[expect(clippy::print_stdout, reason = "a program for the terminal")]
fn measure(what: &str, mut once: impl FnMut() -> bool) {
    // The least of several batches: the machine has other work.
    let batch = || {
        let start = SystemClock.monotonic();
        for _ in 0..ROUNDS {
            black_box(once());
        }
        SystemClock.monotonic().saturating_sub(start)
    };
    let least = std::iter::repeat_with(batch).take(BATCHES).min().unwrap_or_default();
    println!("{what:32} {:6.0} ns", least.as_secs_f64() * 1e9 / f64::from(ROUNDS));
}
