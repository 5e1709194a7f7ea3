//! What a decision of both keys costs, with 10 to 10,000 policies: `cargo run --release -p writ-policy --example
//! decision_cost`. Beside it: the plain authorizer over the whole set, which is what the slices save.
//!
//! Means are the least of five rounds; p50 and p99 are over single decisions, each timed by itself, so that they have the
//! machine's noise and some 40 ns of the clock in them.

#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(clippy::expect_used, reason = "it is a measurement; what fails is to be seen")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cedar_policy::{Authorizer, Context, Decision, Entities, Entity, Request};
use writ_core::service::{Conditions, OperationRule, PathSegment, PathTemplate, Upstream};
use writ_core::{Assurance, Effect, Operation, Protocol, RunId, Service, SessionId, Timestamp, TrustDomain};
use writ_gate::{Decide, Delegation, Human, Moment, Session, SessionFacts};
use writ_policy::{Engine, PolicySet};

const SERVICES: usize = 20;

fn main() {
    println!(
        "| policies | load ms | first us | scope only ns | p50 | p99 | with a condition ns | p50 | p99 | reach ns | plain, \
         both keys, ns |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for policies in [10, 100, 1_000, 10_000] {
        row(policies);
    }
}

fn row(policies: usize) {
    let services: Vec<Arc<Service>> = (0..SERVICES).map(service).collect();
    let text = text(policies);
    let files = [(PathBuf::from("cost.cedar"), text.clone())];
    let (set, load) = timed(|| Arc::new(PolicySet::load(&files, &services).expect("valid policies")));
    let engine = Engine::new(set);
    let session = session();
    let forge = services.first().expect("a service");
    let ask = |name: usize| {
        let rule = forge.operations.get(name).expect("an operation");
        let arguments = [("owner", "acme"), ("repo", "site")].map(|(k, v)| (k.to_owned(), v.into()));
        Operation { rule: Arc::clone(rule), arguments: BTreeMap::from(arguments) }
    };
    let (scope, condition) = (ask(0), ask(1));
    let (verdict, first) = timed(|| engine.decide(&session, forge, &scope, &Moment::default()));
    assert!(verdict.permits(), "{verdict:?}");
    let curve = |operation: &Operation, count: u32| {
        let mut decide = || engine.decide(&session, forge, operation, &Moment::default()).permits();
        let mean = each(count, &mut decide);
        let (p50, p99) = tail(usize::try_from(count).unwrap_or_default(), &mut decide);
        format!("{mean} | {p50} | {p99}")
    };
    let (scope, condition) = (curve(&scope, 200_000), curve(&condition, 100_000));
    let reach = each(200_000, || engine.reach(&session, forge).permits());
    let plain = plain(&text, if policies > 1_000 { 20 } else { 2_000 });
    println!(
        "| {policies} | {} | {} | {scope} | {condition} | {reach} | {plain} |",
        load.as_millis(),
        first.as_micros()
    );
}

/// One permit per key and effect that speaks here, one with a condition; the rest speaks of other principals.
fn text(policies: usize) -> String {
    let mut text = String::from(
        "permit (principal == Writ::Agent::\"coder\", action in Writ::Action::\"read\", resource == \
         Writ::Service::\"s0\");\n\
         permit (principal in Writ::Group::\"unix:developers\", action in Writ::Action::\"read\", resource == \
         Writ::Service::\"s0\");\n\
         permit (principal == Writ::Agent::\"coder\", action in Writ::Action::\"write\", resource == \
         Writ::Service::\"s0\") when { context.args has owner && context.args.owner == \"acme\" };\n\
         permit (principal in Writ::Group::\"unix:developers\", action in Writ::Action::\"write\", resource == \
         Writ::Service::\"s0\");\n\
         forbid (principal is Writ::Agent, action in Writ::Action::\"delete\", resource);\n",
    );
    for n in 5..policies {
        let (service, effect) = (n % SERVICES, ["read", "write", "delete"].get(n % 3).expect("an effect"));
        let condition = if n % 4 == 0 { " when { context.session.purpose like \"fix*\" }" } else { "" };
        writeln!(
            text,
            "permit (principal == Writ::Agent::\"agent-{}\", action in Writ::Action::\"{effect}\", resource == \
             Writ::Service::\"s{service}\"){condition};",
            n / 5
        )
        .expect("a string takes it");
    }
    text
}

fn plain(text: &str, count: u32) -> u128 {
    let set: cedar_policy::PolicySet = text.parse().expect("policies");
    let uid = |text: &str| text.parse().expect("an entity");
    let action = uid("Writ::Action::\"s0/op0\"");
    let entities = Entities::from_entities(
        [
            Entity::new_no_attrs(action, [uid("Writ::Action::\"read\"")].into()),
            Entity::new_no_attrs(
                uid("Writ::Human::\"unix:alice\""),
                [uid("Writ::Group::\"unix:developers\"")].into(),
            ),
        ],
        None,
    )
    .expect("entities");
    let authorizer = Authorizer::new();
    let both = ["Writ::Agent::\"coder\"", "Writ::Human::\"unix:alice\""].map(|principal| {
        let (action, resource) = (uid("Writ::Action::\"s0/op0\""), uid("Writ::Service::\"s0\""));
        Request::new(uid(principal), action, resource, Context::empty(), None).expect("a request")
    });
    each(count, || {
        both.iter()
            .filter(|r| authorizer.is_authorized(r, &set, &entities).decision() == Decision::Allow)
            .count()
    })
}

fn service(number: usize) -> Arc<Service> {
    let name = format!("s{number}");
    let argument = |name: &str| PathSegment::Argument { name: name.to_owned(), suffix: String::new() };
    let rule = |at: usize| {
        let effect = [Effect::Read, Effect::Write, Effect::Delete, Effect::Execute];
        let rule = OperationRule {
            name: format!("{name}/op{at}").parse().expect("a name"),
            effect: effect.get(at % 4).copied().expect("an effect"),
            methods: Vec::new(),
            path: PathTemplate { text: String::new(), segments: vec![argument("owner"), argument("repo")] },
            when: Conditions::default(),
            arguments: BTreeMap::new(),
            graphql: None,
            labels: std::collections::BTreeSet::new(),
            mcp: None,
        };
        Arc::new(rule)
    };
    Arc::new(Service {
        hosts: Vec::new(),
        addresses: Vec::new(),
        ports: vec![443],
        protocol: Protocol::Https,
        virtual_hosts: false,
        mode: writ_core::Mode::Enforce,
        upstream: Upstream::default(),
        credential: None,
        operations: (0..8).map(rule).collect(),
        name: name.parse().expect("a name"),
    })
}

fn session() -> Session {
    let (agent, run) = ("coder".parse().expect("a name"), RunId::from_bits(1));
    Session::new(SessionFacts {
        id: SessionId::from_bits(1),
        run,
        spiffe_id: TrustDomain::new("example.org").expect("a domain").run_id(&agent, run),
        agent,
        human: Human {
            id: "unix:alice".parse().expect("a human"),
            display: None,
            groups: ["unix:alice", "unix:adm", "unix:developers", "unix:docker"].map(str::to_owned).to_vec(),
            uid: 1000,
            login_uid: Some(1000),
            audit_session: Some(1),
        },
        purpose: "fix the front page".to_owned(),
        opened: Timestamp::from_micros(0),
        expires: Timestamp::from_micros(1),
        assurance: Assurance::Kernel,
        delegation: Delegation::default(),
    })
}

#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = std::time::Instant::now();
    let value = work();
    (value, start.elapsed())
}

/// Nanoseconds of one call: the least of five rounds, which is the steady figure on a busy machine.
fn each<T>(count: u32, mut work: impl FnMut() -> T) -> u128 {
    let round = |work: &mut dyn FnMut() -> T| {
        timed(|| {
            for _ in 0..count {
                black_box(work());
            }
        })
        .1
    };
    (0..5).map(|_| round(&mut work).as_nanos() / u128::from(count)).min().unwrap_or_default()
}

/// Nanoseconds of one call, the median and the 99th of a hundred.
fn tail<T>(count: usize, mut work: impl FnMut() -> T) -> (u128, u128) {
    let mut single: Vec<u128> = (0..count).map(|_| timed(|| black_box(work())).1.as_nanos()).collect();
    single.sort_unstable();
    let at = |share: usize| single.get(count * share / 100).copied().unwrap_or_default();
    (at(50), at(99))
}
