//! What people ask: may this be done, who may, and what would a set change.

use std::collections::BTreeMap;

use writ_policy::{
    Deed, Difference, Everybody, Holder, Listed, May, Misasked, Pair, WhoCan, can, difference, explain,
    who_can,
};

use crate::support::{load, services};

const POLICY: &str = r#"
    @id("coder") permit (principal == Writ::Agent::"coder", action in [Writ::Action::"read", Writ::Action::"write"], resource);
    @id("no-drafts") forbid (principal is Writ::Agent, action == Writ::Action::"forge/issues.create", resource)
        when { context.args has draft && context.args.draft };
    @id("for-devs") permit (principal == Writ::Agent::"helper", action in Writ::Action::"write", resource)
        when { context.session.human in Writ::Group::"unix:dev" };
    @id("devs") permit (principal in Writ::Group::"unix:dev", action, resource);
    @id("alice") permit (principal == Writ::Human::"unix:alice", action == Writ::Action::"forge/issues.create", resource)
        when { context.args.owner == "acme" };
    @id("not-bob") forbid (principal == Writ::Human::"unix:bob", action, resource);
"#;

fn deed(operation: &str, arguments: &[(&str, &str)]) -> Deed {
    let given = arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Deed { operation: operation.parse().unwrap(), arguments: given.collect() }
}

fn ask(human: &str, groups: &[&str], deed: &Deed) -> Result<String, Misasked> {
    let pair = Pair {
        agent: "coder".parse().unwrap(),
        human: human.parse().unwrap(),
        groups: groups.iter().map(ToString::to_string).collect(),
        purpose: String::new(),
    };
    can(&load(POLICY).unwrap(), &services(), &pair, deed).map(|verdict| explain(&verdict))
}

#[test]
fn both_keys_are_asked_and_explained() {
    let both = [("owner", "acme"), ("repo", "site")];
    let create = deed("forge/issues.create", &both);
    assert_eq!(
        ask("unix:alice", &[], &create).unwrap(),
        "Permitted. The agent may, by policy `coder`. The human may, by policy `alice`."
    );
    assert!(ask("unix:carol", &["unix:dev"], &create).unwrap().starts_with("Permitted."));
    assert!(ask("unix:carol", &[], &create).unwrap().contains("(policy.human_not_permitted)"));
    let draft =
        deed("forge/issues.create", &[both[0], both[1], ("draft", "true"), ("labels", "a"), ("labels", "b")]);
    assert!(ask("unix:alice", &[], &draft).unwrap().contains("The agent may not, by policy `no-drafts`."));
}

#[test]
fn a_question_that_does_not_fit_says_what_would() {
    let of = |operation, arguments: &[(&str, &str)], groups: &[&str]| {
        let Misasked { what, hint } = ask("unix:alice", groups, &deed(operation, arguments)).unwrap_err();
        format!("{what}; {}", hint.unwrap_or_default())
    };
    assert_eq!(
        of("forge/issues.crate", &[], &[]),
        "no operation `forge/issues.crate`; did you mean `forge/issues.create`?"
    );
    let has = "it has draft (boolean, optional), labels (strings, optional), milestone (integer, optional), owner, repo";
    let create = "forge/issues.create";
    assert_eq!(
        of(create, &[("owner", "a")], &[]),
        format!("`{create}` is not asked about without repo; {has}")
    );
    assert_eq!(of(create, &[("title", "a")], &[]), format!("`{create}` has no argument `title`; {has}"));
    assert_eq!(of(create, &[("draft", "no")], &[]), format!("`no` is no boolean, as `draft` is; {has}"));
    assert_eq!(of(create, &[("owner", "a"), ("owner", "b")], &[]), format!("`owner` is given twice; {has}"));
    let groups = of(create, &[("owner", "a"), ("repo", "b")], &["dev"]);
    assert_eq!(groups, "`dev` is not a group; it is written `unix:NAME`, or `ISSUER:GROUP`");
}

fn who(arguments: &[(&str, &str)]) -> WhoCan {
    let everybody = Everybody {
        agents: ["coder", "helper", "writer"].map(|name| name.parse().unwrap()).into(),
        humans: BTreeMap::from([
            ("unix:carol".parse().unwrap(), Some(vec!["unix:dev".to_owned()])),
            ("unix:bob".parse().unwrap(), Some(vec!["unix:dev".to_owned()])),
        ]),
    };
    who_can(&load(POLICY).unwrap(), everybody, &deed("forge/issues.create", arguments)).unwrap()
}

/// Name, word, policies, conditional policies.
fn said(holders: &[Holder]) -> Vec<String> {
    let one = |holder: &Holder| {
        let conditions: Vec<_> =
            holder.conditions.iter().map(|condition| condition.policy.as_str()).collect();
        format!("{} {} {:?} if {conditions:?}", holder.name, holder.may.as_str(), holder.policies)
    };
    holders.iter().map(one).collect()
}

#[test]
fn who_may_is_told_of_each_key_and_what_is_open_is_a_condition() {
    let open = who(&[]);
    assert_eq!(
        said(&open.agents),
        [
            r#"coder depends ["coder"] if ["no-drafts"]"#,
            r#"helper depends [] if ["no-drafts", "for-devs"]"#,
            "writer no [] if []"
        ]
    );
    let humans = [
        r#"unix:alice depends [] if ["alice"]"#,
        r#"unix:bob no ["not-bob"] if []"#,
        r#"unix:carol yes ["devs"] if []"#,
    ];
    assert_eq!(said(&open.humans), humans);
    assert_eq!(open.humans[0].groups, None, "named by a policy, and seen nowhere");
    assert_eq!(said(&open.groups), [r#"unix:dev yes ["devs"] if []"#]);
    assert_eq!(said(std::slice::from_ref(&open.others)), ["anybody else no [] if []"]);
    let no_drafts = &open.agents[0].conditions[0];
    assert_eq!((no_drafts.effect, no_drafts.text.as_str()), ("forbid", DRAFTS));

    let draft = who(&[("draft", "true")]);
    assert_eq!(said(&draft.agents)[0], r#"coder no ["no-drafts"] if []"#);
    let given = who(&[("draft", "false"), ("owner", "acme")]);
    assert_eq!(said(&given.agents)[0], r#"coder yes ["coder"] if []"#);
    assert_eq!(said(&given.agents)[1], r#"helper depends [] if ["for-devs"]"#, "the session is not known");
    assert_eq!(said(&given.humans)[0], r#"unix:alice yes ["alice"] if []"#);
    assert_eq!(said(&who(&[("owner", "other")]).humans)[0], "unix:alice no [] if []");
    assert_eq!(May::Yes.and(May::Depends), May::Depends);
    assert_eq!(May::Depends.and(May::No), May::No);
}

const DRAFTS: &str = "when { (context.args has draft) && context.args.draft }";

#[test]
fn a_condition_that_reads_the_context_in_another_way_is_left_open() {
    let policy = r#"
        @id("all") permit (principal, action, resource);
        @id("text") forbid (principal, action == Writ::Action::"forge/repo.push", resource)
            when { context.args.owner == "context.session" };
        @id("whole") forbid (principal, action == Writ::Action::"forge/repo.push", resource)
            when { context.args == { owner: "a", repo: "b" } };
        @id("overflow") forbid (principal, action == Writ::Action::"forge/repo.push", resource)
            when { 9223372036854775807 + 1 == 0 };
    "#;
    let everybody = Everybody { agents: ["coder".parse().unwrap()].into(), ..Everybody::default() };
    let deed = deed("forge/repo.push", &[("owner", "a"), ("repo", "b")]);
    let found = who_can(&load(policy).unwrap(), everybody, &deed).unwrap();
    assert_eq!(said(&found.agents), [r#"coder depends ["all"] if ["whole", "overflow"]"#]);
}

fn listed(policy: &str) -> Vec<Listed> {
    load(policy).unwrap().listed()
}

fn ids(difference: &Difference) -> [Vec<&str>; 3] {
    let ids = |all: &'_ [Listed]| all.iter().map(|policy| policy.id.clone()).collect::<Vec<_>>();
    let changed: Vec<Listed> = difference.changed.iter().map(|changed| changed.now.clone()).collect();
    [ids(&difference.added), ids(&difference.removed), ids(&changed)]
        .map(|ids| ids.into_iter().map(|id| &*id.leak()).collect())
}

#[test]
fn sets_differ_by_what_they_say_and_not_by_how_it_is_written() {
    let was = listed(POLICY);
    assert!(
        difference(
            listed(&format!("// a comment\n{}", POLICY.replace("(principal", "( principal"))),
            was.clone()
        )
        .is_empty()
    );

    let now = POLICY.replace("\"acme\"", "\"other\"").replace("not-bob", "never-bob");
    let found = difference(listed(&now), was.clone());
    assert_eq!(ids(&found), [vec!["never-bob"], vec!["not-bob"], vec!["alice"]]);
    let (before, after) = (&found.changed[0].was, &found.changed[0].now);
    assert!(before.conditions.contains("\"acme\"") && after.conditions.contains("\"other\""), "{found:?}");
    assert_eq!(
        after.scope,
        r#"principal == Writ::Human::"unix:alice", action == Writ::Action::"forge/issues.create", resource"#
    );
    assert_eq!((after.effect, before.effect), ("permit", "permit"));
}

#[test]
fn policies_without_an_id_are_compared_by_their_text_and_what_is_in_force_can_be_parsed() {
    let one = r#"permit (principal is Writ::Agent, action in Writ::Action::"read", resource);"#;
    let two = r#"forbid (principal, action in [Writ::Action::"delete", Writ::Action::"execute"], resource is Writ::Service);"#;
    let found = difference(listed(&format!("{two}\n{one}")), listed(&format!("{one}\n{one}")));
    assert_eq!(
        ids(&found),
        [vec!["test#1"], vec!["test#1"], vec![]],
        "the order means nothing, the number does"
    );
    assert_eq!(
        found.added[0].scope,
        r#"principal, action in [Writ::Action::"delete", Writ::Action::"execute"], resource is Writ::Service"#
    );

    let set = load(POLICY).unwrap();
    let in_force: Option<Vec<Listed>> = set.texts().map(|(id, text)| Listed::parse(id, &text)).collect();
    assert!(difference(set.listed(), in_force.unwrap()).is_empty());
}

/// Conditions on arguments, session, principal and whole records, so that some can be decided and some cannot.
const MIXED: &str = r#"
    @id("1") permit (principal is Writ::Agent, action in Writ::Action::"write", resource)
        when { context.args has owner && context.args.owner == "acme" };
    @id("2") permit (principal == Writ::Agent::"helper", action, resource) unless { context.session.purpose == "tests" };
    @id("3") forbid (principal is Writ::Agent, action == Writ::Action::"forge/issues.create", resource)
        when { context.args has draft && context.args.draft };
    @id("4") forbid (principal is Writ::Agent, action == Writ::Action::"forge/issues.create", resource)
        when { context.args has labels && context.args.labels.contains("security") };
    @id("5") permit (principal is Writ::Human, action == Writ::Action::"forge/issues.create", resource)
        when { context.args.repo like "s*" && principal in Writ::Group::"unix:dev" };
    @id("6") permit (principal == Writ::Human::"unix:alice", action, resource)
        when { context.session.agent == Writ::Agent::"coder" };
    @id("7") forbid (principal in Writ::Group::"unix:out", action, resource);
    @id("8") permit (principal is Writ::Human, action == Writ::Action::"forge/issues.create", resource)
        when { context.args has milestone && context.args.milestone > 3 };
"#;

#[test]
fn what_is_said_to_be_yes_or_no_is_what_the_engine_decides() {
    let set = load(MIXED).unwrap();
    let people: [(&str, &[&str]); 4] = [
        ("unix:alice", &[]),
        ("unix:alice", &["unix:dev"]),
        ("unix:carol", &["unix:dev", "unix:out"]),
        ("unix:dan", &[]),
    ];
    let optional: [&[(&str, &str)]; 4] =
        [&[], &[("draft", "true")], &[("draft", "false"), ("labels", "security")], &[("labels", "ui")]];
    let (mut certain, mut open) = (0, 0);
    for (owner, more) in ["acme", "other"].iter().flat_map(|owner| optional.map(|more| (*owner, more))) {
        let whole = [&[("owner", owner), ("repo", "site")][..], more].concat();
        for (agent, (human, groups)) in
            ["coder", "helper"].iter().flat_map(|agent| people.map(|who| (agent, who)))
        {
            let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
            let keys = ["tests", "else"].map(|purpose| {
                let (agent, human, groups) = (agent.parse().unwrap(), human.parse().unwrap(), groups.clone());
                let pair = Pair { agent, human, groups, purpose: purpose.to_owned() };
                can(&set, &services(), &pair, &deed("forge/issues.create", &whole)).unwrap().keys
            });
            // What is asked about names none of the arguments, some, or all.
            for known in [&[][..], &whole[..1], &whole[1..], &whole] {
                let everybody = Everybody {
                    agents: [agent.parse().unwrap()].into(),
                    humans: [(human.parse().unwrap(), Some(groups.clone()))].into(),
                };
                let said = who_can(&set, everybody, &deed("forge/issues.create", known)).unwrap();
                let human = said.humans.iter().find(|holder| holder.name == human).unwrap();
                for keys in &keys {
                    for (holder, key) in [(&said.agents[0], &keys.agent), (human, &keys.human)] {
                        match holder.may {
                            May::Yes => assert!(key.permitted, "{holder:?} {whole:?}"),
                            May::No => assert!(!key.permitted, "{holder:?} {whole:?}"),
                            May::Depends => open += 1,
                        }
                        certain += usize::from(holder.may != May::Depends);
                    }
                }
            }
        }
    }
    assert!(certain > 200 && open > 200, "{certain} {open}");
}
