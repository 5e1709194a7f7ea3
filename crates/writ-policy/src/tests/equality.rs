//! Random policies and requests: the slice must give what the plain authorizer gives over the whole set.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::{Authorizer, Context, Decision, Effect, Entities, EntityUid, Policy, PolicyId, Request};
use proptest::prelude::*;
use writ_core::argument::ArgumentKind;
use writ_core::{Argument, Arguments};

use crate::index::{Anchors, Index};
use crate::slice::{Rule, Shared, Slice};
use crate::turn::Answer;

/// What must be equal: the decision, the determining policies, the policies in error.
type Said = (Decision, BTreeSet<String>, BTreeSet<String>);

/// Cedar's own answer.
pub(super) fn plain(set: &cedar_policy::PolicySet, request: &Request, entities: &Entities) -> Said {
    let response = Authorizer::new().is_authorized(request, set, entities);
    let diagnostics = response.diagnostics();
    let failed = diagnostics.errors().map(|error| {
        let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
        error.policy_id().to_string()
    });
    (response.decision(), diagnostics.reason().map(ToString::to_string).collect(), failed.collect())
}

/// Ours, reduced to the same terms: without the refusal that an error means for us.
pub(super) fn sliced(rules: &[Rule], index: &Index, request: &Request, entities: &Entities) -> Said {
    let anchors = |uid: Option<&EntityUid>| Anchors::of(uid.unwrap(), entities);
    let (principal, action) = (anchors(request.principal()), anchors(request.action()));
    let candidates = index.candidates(&principal, &action, &anchors(request.resource()));
    let slice = Slice::new(&candidates, rules, &Shared::default());
    let Answer { permits, forbids, failed, waiting } = slice.answer(&Authorizer::new(), request, entities);
    assert!(waiting.is_empty(), "nothing waits that has no obligation");
    let names = |ids: &[Arc<str>]| ids.iter().map(ToString::to_string).collect::<BTreeSet<String>>();
    let failed = failed.iter().map(|(id, _)| id.to_string()).collect();
    match (forbids.is_empty(), permits.is_empty()) {
        (true, false) => (Decision::Allow, names(&permits), failed),
        (true, true) => (Decision::Deny, BTreeSet::new(), failed),
        (false, _) => (Decision::Deny, names(&forbids), failed),
    }
}

pub(super) fn indexed(set: &cedar_policy::PolicySet) -> (Vec<Rule>, Index) {
    let rules: Vec<Rule> = set.policies().cloned().map(|policy| Rule::new(policy, Vec::new())).collect();
    let mut index = Index::default();
    for (number, rule) in (0..).zip(&rules) {
        index.insert(number, &rule.policy);
    }
    (rules, index)
}

const PRINCIPALS: [&str; 9] = [
    "principal",
    "principal is Writ::Agent",
    "principal is Writ::Human",
    "principal == Writ::Agent::\"coder\"",
    "principal == Writ::Human::\"unix:alice\"",
    "principal in Writ::Group::\"unix:wheel\"",
    "principal in Writ::Human::\"unix:alice\"",
    "principal is Writ::Human in Writ::Group::\"unix:dev\"",
    "principal is Writ::Agent in Writ::Group::\"unix:dev\"",
];
const ACTIONS: [&str; 7] = [
    "action",
    "action == Writ::Action::\"forge/fetch\"",
    "action in Writ::Action::\"read\"",
    "action in [Writ::Action::\"read\", Writ::Action::\"forge/delete\"]",
    "action in [Writ::Action::\"forge/fetch\", Writ::Action::\"read\"]",
    "action in []",
    "action == Writ::Action::\"read\"",
];
const RESOURCES: [&str; 5] = [
    "resource",
    "resource == Writ::Service::\"forge\"",
    "resource in Writ::Service::\"mail\"",
    "resource is Writ::Service",
    "resource is Writ::Service in Writ::Service::\"forge\"",
];
const CONDITIONS: [&str; 9] = [
    "",
    "",
    "",
    "when { context.args.repo == \"site\" }",
    "unless { context.args has repo && context.args.repo like \"s*\" }",
    "when { context.session.human in Writ::Group::\"unix:wheel\" }",
    "when { action in Writ::Action::\"read\" && principal != Writ::Agent::\"coder\" }",
    "when { context.missing }",
    "when { 9223372036854775807 + 1 == 0 }",
];

fn entities() -> Entities {
    let json = serde_json::json!([
        { "uid": { "type": "Writ::Human", "id": "unix:alice" }, "attrs": {},
          "parents": [{ "type": "Writ::Group", "id": "unix:wheel" }, { "type": "Writ::Group", "id": "unix:dev" }] },
        { "uid": { "type": "Writ::Group", "id": "unix:dev" }, "attrs": {},
          "parents": [{ "type": "Writ::Group", "id": "unix:all" }] },
        { "uid": { "type": "Writ::Action", "id": "forge/fetch" }, "attrs": {},
          "parents": [{ "type": "Writ::Action", "id": "read" }] },
        { "uid": { "type": "Writ::Action", "id": "forge/delete" }, "attrs": {},
          "parents": [{ "type": "Writ::Action", "id": "delete" }] },
    ]);
    Entities::from_json_value(json, None).unwrap()
}

fn policy() -> impl Strategy<Value = String> {
    let pick = |from: &'static [&'static str]| proptest::sample::select(from);
    let effect = pick(&["permit", "permit", "forbid"]);
    (effect, pick(&PRINCIPALS), pick(&ACTIONS), pick(&RESOURCES), pick(&CONDITIONS))
        .prop_map(|(effect, p, a, r, condition)| format!("{effect} ({p}, {a}, {r}) {condition};"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_slice_says_what_the_plain_authorizer_says(texts in prop::collection::vec(policy(), 0..24)) {
        let policies = texts.iter().enumerate()
            .map(|(n, text)| Policy::parse(Some(PolicyId::new(format!("p{n}"))), text).unwrap());
        let set = cedar_policy::PolicySet::from_policies(policies).unwrap();
        let (rules, index) = indexed(&set);
        let entities = entities();
        for principal in ["Writ::Agent::\"coder\"", "Writ::Agent::\"other\"", "Writ::Human::\"unix:alice\"",
            "Writ::Human::\"unix:bob\""] {
            for action in ["forge/fetch", "forge/delete", "mail/send"] {
                for service in ["forge", "mail"] {
                    let context = Context::from_json_value(serde_json::json!({
                        "args": { "repo": "site" },
                        "session": { "human": { "__entity": { "type": "Writ::Human", "id": "unix:alice" } } },
                    }), None).unwrap();
                    let action = format!("Writ::Action::\"{action}\"").parse().unwrap();
                    let resource = format!("Writ::Service::\"{service}\"").parse().unwrap();
                    let request = Request::new(principal.parse().unwrap(), action, resource, context, None).unwrap();
                    prop_assert_eq!(
                        sliced(&rules, &index, &request, &entities),
                        plain(&set, &request, &entities),
                        "{:?}\n{}", request, texts.join("\n")
                    );
                }
            }
        }
    }

    #[test]
    fn what_failed_never_turns_a_key(
        permits in 0..3_usize, forbids in 0..2_usize, failed in prop::collection::vec(any::<bool>(), 0..3)
    ) {
        let ids = |count: usize| (0..count).map(|n| Arc::from(format!("p{n}"))).collect::<Vec<Arc<str>>>();
        let effect = |permit: &bool| if *permit { Effect::Permit } else { Effect::Forbid };
        let failed: Vec<_> = failed.iter().map(|permit| (Arc::from("f"), effect(permit))).collect();
        let answer = Answer { permits: ids(permits), forbids: ids(forbids), failed: failed.clone(), ..Answer::default() };
        let (key, _) = answer.key();
        prop_assert_eq!(key.permitted, permits > 0 && forbids == 0 && failed.is_empty());
    }
}

#[test]
fn a_request_has_the_required_arguments_and_no_unknown_ones_each_of_its_type() {
    let typed = |required| crate::schema::Typed { kind: ArgumentKind::String, required };
    let shape = crate::schema::Shape {
        service: "forge".parse().unwrap(),
        effect: writ_core::Effect::Read,
        arguments: [("a".to_owned(), typed(true)), ("b".to_owned(), typed(false))].into(),
    };
    let covers = |names: &[&str]| {
        shape.covers(&names.iter().map(|n| ((*n).to_owned(), "".into())).collect::<Arguments>())
    };
    assert!(!shape.covers(&[("a".to_owned(), Argument::Boolean(true))].into()));
    assert!(covers(&["a"]) && covers(&["a", "b"]));
    assert!(!covers(&[]) && !covers(&["b"]) && !covers(&["a", "c"]) && !covers(&["a", "b", "c"]));
}
