//! GraphQL requests, and what is tried to have a field executed that policy did not see.

use proptest::prelude::*;
use writ_core::Reason;

use crate::support::{JSON, ask_with, shown};

fn graph(query: &str, rest: &str) -> Result<String, Reason> {
    let body = format!("{{\"query\":{}{rest}}}", serde_json::Value::from(query));
    ask_with("POST", "/graphql", &[JSON], body.as_bytes()).map(|operation| shown(&operation))
}

#[test]
fn a_graphql_request_is_the_root_field_that_it_has_executed() {
    for (query, rest, shown) in [
        ("{ viewer { login } }", "", "forge/graph.read"),
        ("query { viewer { login } repository(owner: \"a\", name: \"b\") { id } }", "", "forge/graph.read"),
        (
            "query A { viewer { login } } mutation B { deleteRef { x } }",
            r#","operationName":"A""#,
            "forge/graph.read",
        ),
        (
            "query A { viewer { login } } mutation B { deleteRef { x } }",
            r#","operationName":"B""#,
            "forge/graph.delete",
        ),
        ("{ harmless: viewer { login } }", r#","operationName":null,"variables":null"#, "forge/graph.read"),
        ("mutation { viewer: deleteRef(input: {}) { x } }", "", "forge/graph.delete"),
        ("mutation { ...F } fragment F on Mutation { deleteRef { x } }", "", "forge/graph.delete"),
        ("mutation { ... on Mutation { ... { deleteRef { x } } } }", "", "forge/graph.delete"),
        (
            "mutation { ...F ...F } fragment F on Mutation { ...G } fragment G on Mutation { deleteRef { x } ...F }",
            "",
            "forge/graph.delete",
        ),
        (
            "mutation ($no: Boolean!) { deleteRef @include(if: $no) { x } }",
            r#","variables":{"no":false}"#,
            "forge/graph.delete",
        ),
        ("mutation { __typename deleteRef { x } }", "", "forge/graph.delete"),
        ("# mutation { deleteRef }\nquery { viewer { login } }", "", "forge/graph.read"),
        (
            "{ search(query: \"a\\u0062\", type: ISSUE, first: 5) { x } }",
            "",
            r#"forge/graph.search first=5 kind="ISSUE" text="ab""#,
        ),
        (
            "{ a: search(query: \"q\") { x } b: search(query: \"q\") { y } }",
            "",
            r#"forge/graph.search text="q""#,
        ),
        (
            "mutation ($i: I!) { createIssue(input: $i) { x } }",
            r#","variables":{"i":{"title":"t","draft":true,"labelIds":["b","a"]}}"#,
            r#"forge/graph.create draft=true labels=["a","b"] title="t""#,
        ),
        (
            "mutation ($t: String!, $d: Boolean = true, $l: ID) { createIssue(input: {title: $t, draft: $d, labelIds: [\"a\", $l]}) { x } }",
            r#","variables":{"t":"t","l":"b"}"#,
            r#"forge/graph.create draft=true labels=["a","b"] title="t""#,
        ),
        (
            "mutation ($d: Boolean) { createIssue(input: {title: \"\"\"\n  t\n\"\"\", draft: $d, labelIds: \"a\"}) { x } }",
            "",
            r#"forge/graph.create labels=["a"] title="t""#,
        ),
    ] {
        assert_eq!(graph(query, rest).as_deref(), Ok(shown), "{query}");
    }
}

#[test]
fn a_graphql_request_that_is_not_one_known_operation_is_refused() {
    let two = "query A { viewer { login } } mutation B { deleteRef { x } }";
    for (query, rest, reason) in [
        (two, "", Reason::AmbiguousRequest),
        (two, r#","operationName":null"#, Reason::AmbiguousRequest),
        (two, r#","operationName":"C""#, Reason::BodyRefused),
        (two, r#","operationName":"""#, Reason::BodyRefused),
        (two, r#","operationName":1"#, Reason::BodyRefused),
        (
            "query A { viewer { x } } query A { viewer { x } }",
            r#","operationName":"A""#,
            Reason::AmbiguousRequest,
        ),
        ("{ viewer { x } } query A { viewer { x } }", r#","operationName":"A""#, Reason::AmbiguousRequest),
        ("{ viewer { x } }", r#","operationName":"A""#, Reason::BodyRefused),
        (
            "mutation { createIssue(input: {title: \"t\"}) { x } deleteRef { x } }",
            "",
            Reason::SeveralOperations,
        ),
        ("mutation { a: deleteRef { x } b: deleteRef { x } }", "", Reason::SeveralOperations),
        (
            "mutation { ...F deleteRef { x } } fragment F on M { deleteRef { x } }",
            "",
            Reason::SeveralOperations,
        ),
        ("{ viewer { x } search(query: \"q\") { x } }", "", Reason::SeveralOperations),
        ("{ a: search(query: \"q\") { x } b: search(query: \"r\") { x } }", "", Reason::SeveralOperations),
        ("{ viewer { x } node(id: 1) { x } }", "", Reason::NoOperation),
        ("{ viewer { x } ... on Query { x: node(id: 1) { y } } }", "", Reason::NoOperation),
        ("{ __schema { types { name } } }", "", Reason::NoOperation),
        ("{ __typename }", "", Reason::NoOperation),
        ("{ deleteRef { x } }", "", Reason::NoOperation),
        ("mutation { viewer { x } }", "", Reason::NoOperation),
        ("mutation { DeleteRef { x } }", "", Reason::NoOperation),
        ("subscription { viewer { x } }", "", Reason::NoOperation),
    ] {
        assert_eq!(graph(query, rest), Err(reason), "{query:.120} {rest}");
    }
}

#[test]
fn a_graphql_document_that_others_may_read_differently_is_refused() {
    let deep = format!("{{ viewer {} }}", "{ a ".repeat(200) + &"}".repeat(200));
    let long = format!("{{ viewer {{ {} }} }}", "a ".repeat(20_000));
    for (query, rest, reason) in [
        ("mutation { ...F }", "", Reason::BodyRefused),
        (
            "mutation { ...F } fragment F on M { deleteRef } fragment F on M { x }",
            "",
            Reason::AmbiguousRequest,
        ),
        ("{ viewer { x } } type A { x: Int }", "", Reason::BodyRefused),
        ("fragment F on M { x }", "", Reason::BodyRefused),
        ("", "", Reason::BodyRefused),
        ("{ viewer { x }", "", Reason::BodyRefused),
        ("{ viewer { x } } }", "", Reason::BodyRefused),
        ("{ }", "", Reason::BodyRefused),
        (&deep, "", Reason::BodyRefused),
        (&long, "", Reason::BodyRefused),
        ("{ viewer { x } }", r#","extensions":{"persistedQuery":{"version":1}}"#, Reason::BodyRefused),
        ("{ viewer { x } }", r#","id":"1""#, Reason::BodyRefused),
        ("{ viewer { x } }", r#","documentId":"1""#, Reason::BodyRefused),
        ("{ viewer { x } }", r#","Query":"mutation { deleteRef }""#, Reason::BodyRefused),
        ("{ viewer { x } }", r#","query":"mutation { deleteRef }""#, Reason::AmbiguousRequest),
        ("{ viewer { x } }", r#","variables":[]"#, Reason::BodyRefused),
    ] {
        assert_eq!(graph(query, rest), Err(reason), "{query:.120} {rest}");
    }
}

#[test]
fn arguments_of_a_graphql_field_are_refused_as_those_of_a_body_are() {
    let create = |input: &str| format!("mutation ($v: X) {{ createIssue({input}) {{ x }} }}");
    for (query, rest, reason) in [
        (&*create("input: {title: \"a\", title: \"b\"}"), "", Reason::AmbiguousRequest),
        (&create("input: {title: \"a\"}, input: {title: \"b\"}"), "", Reason::AmbiguousRequest),
        (&create("input: {}"), "", Reason::ArgumentRefused),
        (&create("input: {title: 1}"), "", Reason::ArgumentRefused),
        (&create("input: {title: null}"), "", Reason::ArgumentRefused),
        (&create("input: {title: \"t\\u0000\"}"), "", Reason::ArgumentRefused),
        (&create("input: {title: $v}"), "", Reason::ArgumentRefused),
        (&create("input: {title: $v}"), r#","variables":{"v":1}"#, Reason::ArgumentRefused),
        (&create("input: {title: $v}"), r#","variables":{"v":null}"#, Reason::ArgumentRefused),
        (&create("input: {title: \"t\", labelIds: [\"a\", $v]}"), "", Reason::ArgumentRefused),
        (&create("input: {title: $w}"), r#","variables":{"w":"t"}"#, Reason::BodyRefused),
        ("mutation ($v: X, $v: X) { createIssue(input: $v) { x } }", "", Reason::AmbiguousRequest),
    ] {
        assert_eq!(graph(query, rest), Err(reason), "{query:.120} {rest}");
    }
}

#[test]
fn a_graphql_request_is_one_object_in_the_body() {
    let raw = |target: &str, headers: &[(&str, &[u8])], body: &[u8]| {
        ask_with("POST", target, headers, body).map(|operation| shown(&operation))
    };
    let viewer = br#"{"query":"{ viewer { x } }"}"#;
    assert!(raw("/graphql?opname=a", &[JSON], viewer).is_ok());
    for (target, body, reason) in [
        ("/graphql", &br#"[{"query":"{ viewer { x } }"}]"#[..], Reason::SeveralOperations),
        ("/graphql", br#"{"variables":{}}"#, Reason::BodyRefused),
        ("/graphql", br#"{"query":null}"#, Reason::BodyRefused),
        ("/graphql", b"null", Reason::BodyRefused),
        ("/graphql", b"", Reason::BodyRefused),
        ("/graphql?query=mutation{deleteRef}", viewer, Reason::AmbiguousRequest),
        ("/graphql?x=1&Query=x", viewer, Reason::AmbiguousRequest),
        ("/graphql?operationName=B", viewer, Reason::AmbiguousRequest),
        ("/graphql?variables[v]=1", viewer, Reason::AmbiguousRequest),
    ] {
        assert_eq!(raw(target, &[JSON], body), Err(reason), "{target}");
    }
    let graphql: (&str, &[u8]) = ("content-type", b"application/graphql");
    assert_eq!(raw("/graphql", &[graphql], b"{ viewer { x } }"), Err(Reason::BodyRefused));
    let get = ask_with("GET", "/graphql?query={viewer}", &[], b"");
    assert_eq!(get, Err(Reason::NoOperation));
}

/// Pieces of documents, whole and broken.
const PIECES: [&str; 52] = [
    "query",
    "mutation",
    "subscription",
    "fragment F on M",
    "on",
    "{",
    "{",
    "}",
    "}",
    "(",
    ")",
    "[",
    "]",
    "...",
    "...F",
    ":",
    "=",
    "!",
    "|",
    "&",
    "@include(if: true)",
    "$v",
    "$",
    "viewer",
    "deleteRef",
    "createIssue",
    "search",
    "a",
    "null",
    "true",
    "1",
    "-1.5e3",
    r#""s""#,
    r#""\u0061""#,
    r#""\u{1F600}""#,
    r#""\ud83d\ude00""#,
    r#""\ud83d""#,
    r#""\uzzzz""#,
    r#""\q""#,
    r#""\"#,
    "\"",
    "\"\"\" b\n  \\\"\"\" c \"\"\"",
    "\"\"\"",
    "#",
    "#c\n",
    ",",
    "\u{feff}",
    "\0",
    "input: {title: ",
    "labelIds: ",
    "query ($v: X = {title: [",
    "{ createIssue(input: {title: ",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_document_is_it_is_read_or_refused(
        pieces in prop::collection::vec(prop_oneof![9 => proptest::sample::select(&PIECES[..]).prop_map(str::to_owned), 1 => "[ -~]{0,3}"], 0..24),
        wrapped in any::<bool>(),
    ) {
        let text = pieces.join(" ");
        let text = if wrapped { format!("mutation {{ createIssue(input: {{title: {text}}}) {{ x }} }}") } else { text };
        // What is permitted is named in the document itself.
        if let Ok(name) = graph(&text, r#","variables":{"v":"t"}"#) {
            let field = match name.split(' ').next() {
                Some("forge/graph.delete") => "deleteRef",
                Some("forge/graph.create") => "createIssue",
                Some("forge/graph.search") => "search",
                _ => "viewer",
            };
            prop_assert!(text.contains(field), "{} {}", name, text);
        }
    }
}
