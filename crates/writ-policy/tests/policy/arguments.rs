//! Arguments with types: what the schema says of them, what conditions see, and what samples may give.

use std::path::PathBuf;
use std::sync::Arc;

use writ_core::argument::ArgumentKind;
use writ_core::{Argument, Arguments, Reason, Service};
use writ_gate::{Decide, Moment, Verdict};
use writ_policy::{Engine, PolicySet, SAMPLE_KEYS, read_samples, run_samples, schema_text};

use crate::support::{argument, in_body, operation, services, session};

/// The title is required, beside what is optional.
fn typed() -> Vec<Arc<Service>> {
    let mut services = services();
    let title = argument("title", ArgumentKind::String, true);
    in_body(&mut services, "forge/issues.create").insert("title".to_owned(), title);
    services
}

fn asked(more: &[(&str, Argument)]) -> Arguments {
    let always = [("owner", "acme".into()), ("repo", "site".into()), ("title", "a bug".into())];
    always.iter().chain(more).map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn labels(labels: &[&str]) -> Argument {
    Argument::Strings(labels.iter().map(ToString::to_string).collect())
}

const POLICY: &str = r#"
    @id("titled") permit (principal, action == Writ::Action::"forge/issues.create", resource)
        when { context.args.title like "a *" };
    @id("early") forbid (principal, action, resource)
        when { context.args has milestone && context.args.milestone > 3 };
    @id("draft") forbid (principal, action == Writ::Action::"forge/issues.create", resource)
        when { context.args has draft && context.args.draft == true };
    @id("security") forbid (principal, action, resource)
        when { context.args has labels && context.args.labels.contains("security") };
"#;

fn load(policy: &str) -> Result<Arc<PolicySet>, String> {
    let files = [(PathBuf::from("p.cedar"), policy.to_owned())];
    PolicySet::load(&files, &typed()).map(Arc::new).map_err(|problems| problems.to_string())
}

fn decide(arguments: Arguments) -> Verdict {
    let (forge, mut create) = operation(&typed(), "forge/issues.create");
    create.arguments = arguments;
    let who = session("coder", "unix:alice", &[]);
    Engine::new(load(POLICY).unwrap()).decide(&who, &forge, &create, &Moment::default())
}

#[test]
fn the_schema_has_each_type_as_cedar_has_it() {
    let line = r#""args": { "draft"?: Bool, "labels"?: Set<String>, "milestone"?: Long, "owner": String, "repo": String, "title": String }"#;
    let schema = schema_text(&typed());
    assert!(schema.contains(line), "{schema}");
}

#[test]
fn conditions_see_all_four_types() {
    for (more, refused_by) in [
        (&[][..], None),
        (&[("milestone", Argument::Integer(3))], None),
        (&[("milestone", Argument::Integer(4))], Some("early")),
        (&[("draft", Argument::Boolean(false))], None),
        (&[("draft", Argument::Boolean(true))], Some("draft")),
        (&[("labels", labels(&[]))], None),
        (&[("labels", labels(&["bug", "security"]))], Some("security")),
    ] {
        let verdict = decide(asked(more));
        assert_eq!(verdict.permits(), refused_by.is_none(), "{more:?}");
        if let Some(policy) = refused_by {
            assert_eq!(verdict.reason, Some(Reason::AgentForbidden));
            assert_eq!(verdict.keys.agent.policies, [policy]);
        }
    }
    let untitled = asked(&[("title", "bug".into())]);
    assert_eq!(decide(untitled).reason, Some(Reason::AgentNotPermitted));
}

#[test]
fn arguments_that_are_not_the_operations_contradict_the_set() {
    for more in [
        ("title", Argument::Boolean(true)),
        ("milestone", "4".into()),
        ("labels", "security".into()),
        ("other", "x".into()),
    ] {
        assert_eq!(decide(asked(std::slice::from_ref(&more))).reason, Some(Reason::PolicyError), "{more:?}");
    }
    let mut without = asked(&[]);
    without.remove("title");
    assert_eq!(decide(without).reason, Some(Reason::PolicyError));
}

#[test]
fn a_policy_that_mistakes_a_type_or_an_optional_argument_is_refused() {
    let scope = r#"permit (principal, action == Writ::Action::"forge/issues.create", resource)"#;
    for (condition, said) in [
        ("context.args.title == true", "are not compatible"),
        ("context.args has milestone && context.args.milestone == \"4\"", "are not compatible"),
        ("context.args has labels && context.args.labels == \"bug\"", "are not compatible"),
        ("context.args.draft", "testing for the attribute's presence with `context.args has draft && ..`"),
    ] {
        let told = load(&format!("{scope} when {{ {condition} }};")).unwrap_err();
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn samples_give_arguments_with_their_types() {
    let sample = |arguments: &str, expect: &str| {
        format!(
            "[[sample]]\ntitle = 't'\nagent = 'coder'\nhuman = 'unix:alice'\noperation = 'forge/issues.create'\n\
             arguments = {{ owner = 'acme', repo = 'site', {arguments} }}\nexpect = '{expect}'\n"
        )
    };
    let read = |text: String| read_samples(&[(PathBuf::from("s.toml"), text)], &typed());
    let right = sample("title = 'a bug', milestone = 3, draft = false, labels = ['bug']", "permit")
        + &sample("title = 'a bug', draft = true", "refuse");
    let report = run_samples(&load(POLICY).unwrap(), &read(right).unwrap());
    assert!(report.passed() && report.outcomes.len() == 2, "{report:?}");
    for wrong in ["title = 'a bug', milestone = '3'", "draft = true"] {
        let told = read(sample(wrong, "permit")).unwrap_err().to_string();
        let hint = "hint: it has draft (boolean, optional), labels (strings, optional), milestone (integer, optional), \
                    owner, repo, title";
        assert!(told.contains("not the arguments of `forge/issues.create`") && told.contains(hint), "{told}");
    }
    let told = read(sample("title = 1.5", "permit")).unwrap_err().to_string();
    assert!(told.contains("expected text, a whole number, `true`, `false` or a list of texts"), "{told}");
    assert!(SAMPLE_KEYS.iter().any(|key| key.key == "sample.arguments.*"));
}
