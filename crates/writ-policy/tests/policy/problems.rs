//! What bad policy text gets: every problem at once, each with file, line, column and what to do.

use std::path::PathBuf;
use std::sync::Arc;

use crate::support::{load, services};
use writ_core::Effect;
use writ_policy::{PolicySet, check, schema_text};

/// The text must be refused with exactly these problems.
#[track_caller]
fn refused(text: &str, expected: &str) {
    match load(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(problems) => assert_eq!(problems, expected, "in: {text}"),
    }
}

#[test]
fn an_unknown_operation_effect_or_service_is_told_with_the_nearest_name() {
    refused(
        "permit (principal,\n  action == Writ::Action::\"forge/repo.fetsh\",\n  resource == Writ::Service::\"forg\");\n\
         forbid (principal, action in Writ::Action::\"reed\", resource);",
        "policies/test.cedar:2:27: no operation `forge/repo.fetsh`\n    hint: did you mean `forge/repo.fetch`?\n\
         policies/test.cedar:3:30: no service `forg`\n    hint: did you mean `forge`?\n\
         policies/test.cedar:4:44: no effect or operation `reed`\n    hint: did you mean `read`?",
    );
}

#[test]
fn an_unknown_argument_or_attribute_is_told() {
    let problems = load(
        "permit (principal, action == Writ::Action::\"forge/repo.fetch\", resource)\n  when { context.args.rep == \"x\" };\n\
         permit (principal, action, resource) when { context.sesion.id == \"x\" };",
    )
    .unwrap_err();
    assert!(problems.starts_with("policies/test.cedar:2:10: "), "{problems}");
    assert!(problems.contains("`repo`?"), "{problems}");
    assert!(problems.contains("policies/test.cedar:3:"), "{problems}");
    assert!(problems.contains("`session`?"), "{problems}");
}

#[test]
fn an_argument_that_only_some_operations_have_needs_has() {
    let text = |condition: &str| {
        format!("permit (principal, action in Writ::Action::\"write\", resource) when {{ {condition} }};")
    };
    let problems = load(&text("context.args.to == \"a\"")).unwrap_err();
    assert!(
        problems
            .ends_with("    hint: not every request in its scope has it; ask `context.args has to && ...`"),
        "{problems}"
    );
    assert!(load(&text("context.args has to && context.args.to == \"a\"")).is_ok());
}

#[test]
fn names_that_no_human_group_or_agent_can_have_are_told() {
    refused(
        "permit (principal == Writ::Human::\"alice\", action, resource);\n\
         permit (principal in Writ::Group::\"wheel\", action, resource);\n\
         permit (principal == Writ::Agent::\"a/b\", action, resource);",
        "policies/test.cedar:1:35: `alice` is not a human: it is written `unix:NAME` or `oidc:ISSUER#SUBJECT`\n    hint: did you mean `unix:alice`?\n\
         policies/test.cedar:2:35: `wheel` is not a group: it is written `unix:NAME`, or `NAME:VALUE` as its issuer's is\n    hint: did you mean `unix:wheel`?\n\
         policies/test.cedar:3:35: `a/b` is not an agent's name",
    );
}

#[test]
fn an_effect_is_never_equal_to_an_action() {
    refused(
        "forbid (principal, action == Writ::Action::\"delete\", resource);",
        "policies/test.cedar:1:44: no action is equal to the effect `delete`, so the policy never applies\n    \
         hint: write `action in Writ::Action::\"delete\"`",
    );
}

#[test]
fn one_slip_is_one_problem_however_many_operations_there_are() {
    refused(
        "permit (principal, action, resource) when { context.sesion.id == \"x\" };",
        "policies/test.cedar:1:45: attribute `sesion` in context for Writ::Action::\"forge/issues.create\" not found\n    \
         hint: did you mean `session`?",
    );
}

#[test]
fn an_operation_of_another_service_is_told() {
    refused(
        "forbid (principal, action == Writ::Action::\"mail/send\", resource == Writ::Service::\"forge\");",
        "policies/test.cedar:1:44: `mail/send` is no operation of service `forge`\n    \
         hint: the policy never applies to it; its service is `mail`",
    );
}

#[test]
fn ids_are_unique_over_all_files_and_have_a_form() {
    let files = [
        (PathBuf::from("b.cedar"), "@id(\"x\")\npermit (principal, action, resource);\n".to_owned()),
        (
            PathBuf::from("a.cedar"),
            "// first\n  @id(\"x\") permit (principal, action, resource);\n@id(\"a b\") forbid (principal, action, resource);\n"
                .to_owned(),
        ),
    ];
    let problems = PolicySet::load(&files, &services()).unwrap_err().to_string();
    assert_eq!(
        problems,
        "a.cedar:3:1: `a b` is not a policy id\n    hint: letters, digits and `. - _ / : #`, at most 128\n\
         b.cedar:1:1: policy id `x` is taken\n    hint: it is used at a.cedar:2:3"
    );
    let set = load("permit (principal, action, resource);\n@id(\"y\") permit (principal, action, resource);\npermit (principal, action, resource);").unwrap();
    assert_eq!(set.ids().collect::<Vec<_>>(), ["test#1", "y", "test#3"]);
}

#[test]
fn syntax_errors_of_all_files_come_with_the_rest() {
    let files = [
        (PathBuf::from("a.cedar"), "permit (principal, action, resource)\n".to_owned()),
        (
            PathBuf::from("b.cedar"),
            "permit (principal, action == Writ::Action::\"forge/x\", resource);".to_owned(),
        ),
        (PathBuf::from("c.cedar"), "permit (principal == ?principal, action, resource);".to_owned()),
    ];
    let problems = PolicySet::load(&files, &services()).unwrap_err();
    let files: Vec<&str> = problems.iter().map(|problem| &*problem.place.file).collect();
    assert_eq!(files, ["a.cedar", "b.cedar", "c.cedar"], "{problems}");
    assert!(problems.iter().all(|problem| problem.place.line > 0 && problem.place.column > 0), "{problems}");
}

#[test]
fn types_are_checked_strictly() {
    for text in [
        "permit (principal, action, resource) when { context.session.purpose == 1 };",
        "permit (principal, action, resource) when { principal.name == \"x\" };",
        "permit (principal, action, resource) when { context.nothing };",
        "permit (principal == Writ::User::\"x\", action, resource);",
        "permit (principal, action, resource) when { \"a\" };",
    ] {
        let problems = load(text).unwrap_err();
        assert!(problems.starts_with("policies/test.cedar:1:"), "{problems}");
    }
}

#[test]
fn text_that_does_not_read_as_it_is_is_refused() {
    let hidden = "permit (principal, action, resource) when { context.session.purpose == \"a\u{202e}b\" };";
    assert!(load(hidden).unwrap_err().contains("test.cedar:1:"));
}

#[test]
fn a_policy_that_can_never_apply_is_a_warning() {
    let set =
        load("forbid (principal is Writ::Agent, action in Writ::Action::\"execute\", resource);").unwrap();
    assert_eq!(set.warnings().len(), 1, "{:?}", set.warnings());
    assert_eq!(set.warnings()[0].place.line, 1);
}

#[test]
fn a_catalog_that_contradicts_itself_is_refused() {
    let twice =
        [crate::support::service("forge", &[("x", Effect::Read, &["a"]), ("x", Effect::Delete, &["a"])])];
    let problems = PolicySet::load(&[], &twice).unwrap_err().to_string();
    assert!(
        problems.contains("operation `forge/x` is `read` in one place and `delete` in another"),
        "{problems}"
    );
}

#[test]
fn the_digest_is_of_what_is_meant() {
    let digest = |files: &[(&str, &str)], services: &[Arc<writ_core::Service>]| {
        let files: Vec<(PathBuf, String)> =
            files.iter().map(|(p, t)| (PathBuf::from(p), (*t).to_owned())).collect();
        check(&files, services).unwrap().digest
    };
    let (one, two) = (
        "@id(\"a\") permit (principal, action, resource);",
        "@id(\"b\") forbid (principal, action, resource);",
    );
    let base = digest(&[("x.cedar", one), ("y.cedar", two)], &services());
    assert_eq!(base, digest(&[("y.cedar", two), ("x.cedar", one)], &services()));
    assert_eq!(base, digest(&[("z.cedar", &format!("// text\n{two}\n\n  {one}"))], &services()));
    assert_ne!(base, digest(&[("x.cedar", one)], &services()));
    assert_ne!(base, digest(&[("x.cedar", &one.replace("permit", "forbid")), ("y.cedar", two)], &services()));
    assert_ne!(base, digest(&[("x.cedar", one), ("y.cedar", two)], &services()[..1]));
}

#[test]
fn the_schema_has_an_action_per_operation() {
    let schema = schema_text(&services());
    assert!(schema.contains(
        "  action \"forge/repo.fetch\" in [\"read\"] appliesTo {\n    principal: [Agent, Human],\n    resource: [Service],\n    \
         context: { \"args\": { \"owner\": String, \"repo\": String }, \"path\": Path, \"session\": Session },\n  };\n"
    ), "{schema}");
    assert_eq!(load("").unwrap().schema(), schema);
}
