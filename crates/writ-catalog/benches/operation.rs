//! How long it takes to find a service and an operation among 50 rules, and to read what an MCP server is asked and says. `cargo bench -p writ-catalog`

use std::hint::black_box;
use std::sync::Arc;

use writ_catalog::{CatalogStore, Services};
use writ_core::config::Problems;
use writ_core::service::{Headers, OperationRule, RequestHead};
use writ_core::{Clock as _, HostName};
use writ_gate::{Catalog as _, Destination};
use writ_host::SystemClock;

const ROUNDS: u32 = 1_000;
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
    mcp();
}

/// A call of one of 100 tools, and the list of all, of which half may be called.
fn mcp() {
    let rule = |n| {
        format!(
            "[[operation]]\nname = 'op{n}'\neffect = 'read'\npath = '/mcp'\nmcp = 'tools/call tool{n}'\narguments = {{ title = 'mcp:/title string' }}\n"
        )
    };
    let rules: String = (0..100).map(rule).collect();
    let text = format!("name = 'api'\nhosts = ['api.test']\nports = [443]\n{rules}");
    let mut problems = Problems::default();
    let services = Services::read([("api.toml", text.as_str())], &mut problems);
    let (Some(services), Ok(host)) = (services, HostName::new("api.test")) else { return };
    let catalog = CatalogStore::new(services);
    let destination = Destination { address: ([198, 18, 0, 1], 443).into(), name: Some(host.clone()) };
    let Ok(service) = catalog.service(&destination) else { return };
    let headers = [("content-type", &b"application/json"[..])];
    let head = RequestHead { method: "POST", path: "/mcp", query: None, headers: Headers(&headers) };
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"tool99","arguments":{"title":"t"}}}"#;
    measure("MCP call, last of 100 tools", || {
        let selected = catalog.select(&service, &host, black_box(&head));
        selected.and_then(|selected| catalog.operation(selected, &head, Some(call))).is_ok()
    });
    let tool = |n| {
        format!(
            r#"{{"name":"tool{n}","description":"{}","inputSchema":{{"type":"object","properties":{{"title":{{"type":"string"}}}}}}}}"#,
            "x".repeat(400)
        )
    };
    let tools: Vec<String> = (0..100).map(tool).collect();
    let list = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{}]}}}}"#, tools.join(","));
    let Some(asked) = service.operations.first() else { return };
    let half = |rule: &Arc<OperationRule>, _| !rule.name.as_str().ends_with(['1', '3', '5', '7', '9']);
    measure("MCP list of 100 tools, 50 KiB", || {
        catalog.shown(&service, asked, list.as_bytes(), &half).is_ok()
    });
    let answer = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{}"}}]}}}}"#,
        "x".repeat(4096)
    );
    measure("MCP answer of 4 KiB", || catalog.shown(&service, asked, answer.as_bytes(), &half).is_ok());
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
