//! What the tests share: the demo's forge as plain data, sessions, and the shipped files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use writ_core::argument::{ArgumentKind, ArgumentRule, ArgumentSource};
use writ_core::service::{Conditions, OperationRule, PathSegment, PathTemplate, Upstream};
use writ_core::{Assurance, Effect, Operation, Protocol, RunId, Service, SessionId, Timestamp, TrustDomain};
use writ_gate::{Decide, Delegation, Human, Moment, Parent, Session, SessionFacts, Verdict};
use writ_policy::{Engine, PolicySet};

pub(crate) type Files = Vec<(PathBuf, String)>;

/// A service with operations of `name`, effect and arguments.
pub(crate) fn service(name: &str, operations: &[(&str, Effect, &[&str])]) -> Arc<Service> {
    let rule = |(operation, effect, arguments): &(&str, Effect, &[&str])| {
        let argument =
            |name: &&str| PathSegment::Argument { name: (*name).to_owned(), suffix: String::new() };
        Arc::new(OperationRule {
            name: format!("{name}/{operation}").parse().unwrap(),
            effect: *effect,
            methods: Vec::new(),
            path: PathTemplate { text: String::new(), segments: arguments.iter().map(argument).collect() },
            when: Conditions::default(),
            arguments: BTreeMap::new(),
            graphql: None,
            labels: std::collections::BTreeSet::new(),
            mcp: None,
        })
    };
    Arc::new(Service {
        name: name.parse().unwrap(),
        hosts: Vec::new(),
        addresses: Vec::new(),
        ports: vec![443],
        protocol: Protocol::Https,
        virtual_hosts: false,
        mode: writ_core::Mode::Enforce,
        upstream: Upstream::default(),
        credential: None,
        operations: operations.iter().map(rule).collect(),
    })
}

/// The forge of the demo, with operations and arguments as its service file has them and optional ones in the body of one,
/// and a mail service.
pub(crate) fn services() -> Vec<Arc<Service>> {
    let both: &[&str] = &["owner", "repo"];
    let mut services = vec![
        service(
            "forge",
            &[
                ("repo.fetch", Effect::Read, both),
                ("repo.push", Effect::Write, both),
                ("issues.list", Effect::Read, both),
                ("issues.create", Effect::Write, both),
                ("repo.delete", Effect::Delete, both),
            ],
        ),
        service("mail", &[("send", Effect::Write, &["to"]), ("inbox.read", Effect::Read, &[])]),
    ];
    let optional = [
        ("draft", ArgumentKind::Boolean),
        ("labels", ArgumentKind::Strings),
        ("milestone", ArgumentKind::Integer),
    ];
    *in_body(&mut services, "forge/issues.create") =
        optional.map(|(name, kind)| (name.to_owned(), argument(name, kind, false))).into();
    services
}

/// The arguments of an operation besides those of its path.
pub(crate) fn in_body<'s>(
    services: &'s mut [Arc<Service>],
    name: &str,
) -> &'s mut BTreeMap<String, ArgumentRule> {
    let operations = services.iter_mut().flat_map(|service| &mut Arc::make_mut(service).operations);
    &mut Arc::make_mut(operations.into_iter().find(|rule| rule.name.as_str() == name).unwrap()).arguments
}

/// An argument of this name in a JSON body.
pub(crate) fn argument(name: &str, kind: ArgumentKind, required: bool) -> ArgumentRule {
    ArgumentRule { source: ArgumentSource::Body(format!("/{name}").parse().unwrap()), kind, required }
}

pub(crate) fn session(agent: &str, human: &str, groups: &[&str]) -> Session {
    led_by(&[], agent, human, groups)
}

/// A session of a run that these agents' runs led to.
pub(crate) fn led_by(chain: &[&str], agent: &str, human: &str, groups: &[&str]) -> Session {
    let domain = TrustDomain::new("example.org").unwrap();
    let parent = |name: &&str| {
        let (agent, run) = (name.parse().unwrap(), RunId::from_bits(9));
        Parent { spiffe_id: domain.run_id(&agent, run), agent, run, session: SessionId::from_bits(9) }
    };
    let parents = chain.iter().map(parent).collect();
    let (agent, run) = (agent.parse().unwrap(), RunId::from_bits(7));
    Session::new(SessionFacts {
        id: SessionId::from_bits(7),
        run,
        spiffe_id: TrustDomain::new("example.org").unwrap().run_id(&agent, run),
        agent,
        human: Human {
            id: human.parse().unwrap(),
            display: None,
            groups: groups.iter().map(ToString::to_string).collect(),
            uid: 1000,
            login_uid: None,
            audit_session: None,
        },
        purpose: "tests".to_owned(),
        opened: Timestamp::from_micros(0),
        expires: Timestamp::from_micros(1),
        assurance: Assurance::Kernel,
        delegation: Delegation { parents, ..Delegation::default() },
    })
}

/// The operation with a value for each of its arguments.
pub(crate) fn operation(services: &[Arc<Service>], name: &str) -> (Arc<Service>, Operation) {
    let find = |service: &Arc<Service>| {
        let rule = service.operations.iter().find(|rule| rule.name.as_str() == name)?;
        Some((Arc::clone(service), Arc::clone(rule)))
    };
    let (service, rule) = services.iter().find_map(find).unwrap();
    let names = rule.path.segments.iter().filter_map(|segment| match segment {
        PathSegment::Argument { name, .. } => Some((name.clone(), "acme".into())),
        PathSegment::Literal(_) | PathSegment::Pair(..) | PathSegment::Encoded(_) | PathSegment::Rest(_) => {
            None
        }
    });
    let arguments = names.collect();
    (service, Operation { rule, arguments })
}

pub(crate) fn load(text: &str) -> Result<Arc<PolicySet>, String> {
    let files = [(PathBuf::from("policies/test.cedar"), text.to_owned())];
    PolicySet::load(&files, &services()).map(Arc::new).map_err(|problems| problems.to_string())
}

/// One decision by this policy text, in the forge of the demo.
pub(crate) fn decide(text: &str, who: &Session, name: &str) -> Verdict {
    let (service, operation) = operation(&services(), name);
    Engine::new(load(text).unwrap()).decide(who, &service, &operation, &Moment::default())
}

/// The folder of shipped policies.
pub(crate) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies")
}

/// The files of a folder with this ending.
pub(crate) fn files(folder: &Path, ending: &str) -> Files {
    let mut files: Files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == ending))
        .map(|path| {
            let name = path.file_name().unwrap();
            (PathBuf::from(name), std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}
