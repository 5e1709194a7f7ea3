//! What is tried to have a service do one thing while policy is asked about another. Each row is a request, and what it is taken
//! for: what the service does with it, or nothing at all. The readers of each part have tests of their own; here is what they
//! come to together. What the wire itself allows (framing, pseudo-headers) is tried in `writ-proxy`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use writ_catalog::{CatalogStore, Services};
use writ_core::config::Problems;
use writ_core::service::{Headers, Needed, RequestHead};
use writ_core::{Argument, HostName, Reason};
use writ_gate::{Catalog as _, Destination};

use Reason::{
    AmbiguousRequest as Ambiguous, ArgumentRefused as Mistyped, BodyRefused as Unreadable,
    NoOperation as Nothing, NoService, SeveralOperations as Several,
};

/// One service of each way to say what is asked for.
const SERVICES: [(&str, &str); 2] = [
    (
        "api.toml",
        r#"
name = "api"
hosts = ["api.test"]
ports = [443]
operation = [
  { name = "repo.read", effect = "read", methods = ["GET"], path = "/repos/{owner}/{repo}", arguments = { ref = "query:ref string?" } },
  { name = "repo.delete", effect = "delete", methods = ["DELETE"], path = "/repos/{owner}/{repo}" },
  { name = "file.read", effect = "read", methods = ["GET"], path = "/files/{path...}" },
  { name = "package.read", effect = "read", methods = ["GET"], path = "/packages/{scope}%2F{name}" },
  { name = "issue.create", effect = "write", methods = ["POST"], path = "/repos/{owner}/{repo}/issues", arguments = { title = "body:/title string", draft = "body:/draft boolean?", labels = "body:/labels strings?" } },
  { name = "comment", effect = "write", methods = ["POST"], path = "/comments" },
  { name = "viewer", effect = "read", methods = ["POST"], path = "/graphql", graphql = "query viewer" },
  { name = "ref.delete", effect = "delete", methods = ["POST"], path = "/graphql", graphql = "mutation deleteRef", arguments = { ref = "graphql:/input/id string" } },
  { name = "push", effect = "write", methods = ["POST"], path = "/{repo}.git/git-receive-pack", arguments = { refs = "push:refs strings" } },
  { name = "table.read", effect = "read", methods = ["POST"], path = "/tables", headers = { x-target = "Table.Read" }, arguments = { table = "body:/Table string" } },
  { name = "table.drop", effect = "delete", methods = ["POST"], path = "/tables", headers = { x-target = "Table.Drop" }, arguments = { table = "body:/Table string" } },
  { name = "vm.list", effect = "read", methods = ["GET", "POST"], path = "/", form = { Action = "List" } },
  { name = "vm.stop", effect = "delete", methods = ["GET", "POST"], path = "/", form = { Action = "Stop" }, arguments = { vms = "form:Id strings" } },
]
"#,
    ),
    (
        "store.toml",
        r#"
name = "store"
hosts = ["store.test", "*.store.test"]
ports = [443]
virtual_hosts = true
operation = [
  { name = "list", effect = "read", methods = ["GET"], path = "/{bucket}", parameters = ["prefix"] },
  { name = "acl.read", effect = "read", methods = ["GET"], path = "/{bucket}", query = { acl = "" }, parameters = [] },
  { name = "read", effect = "read", methods = ["GET"], path = "/{bucket}/{key...}", parameters = [] },
  { name = "copy", effect = "write", methods = ["PUT"], path = "/{bucket}/{key...}", headers = { x-source = true }, parameters = [], arguments = { source = "header-path:x-source string" } },
  { name = "write", effect = "write", methods = ["PUT"], path = "/{bucket}/{key...}", headers = { x-source = false }, parameters = [] },
]
"#,
    ),
];

type Outcome = Result<&'static str, Reason>;

const JSON: &str = "content-type: application/json\n";

/// In the path.
const PATHS: &[(&str, &str, Outcome)] = &[
    ("plain", "DELETE api.test/repos/acme/site", Ok("api/repo.delete owner=acme repo=site")),
    ("a letter encoded", "DELETE api.test/repos/%61cme/site", Ok("api/repo.delete owner=acme repo=site")),
    ("a slash encoded", "GET api.test/repos/acme%2Fsite", Err(Ambiguous)),
    ("a slash encoded in a rest", "GET api.test/files/a%2Fb", Err(Ambiguous)),
    (
        "a slash encoded where one is meant",
        "GET api.test/packages/a%2fb",
        Ok("api/package.read name=b scope=a"),
    ),
    ("and then one more", "GET api.test/packages/a%2Fb%2Fc", Err(Ambiguous)),
    ("a slash encoded twice", "GET api.test/repos/acme%252Fsite/x", Err(Ambiguous)),
    ("a letter encoded twice", "DELETE api.test/repos/%2561cme/site", Err(Ambiguous)),
    ("encoded three times", "DELETE api.test/repos/%25252e/site", Err(Ambiguous)),
    ("a broken escape", "DELETE api.test/repos/acme/site%2", Err(Ambiguous)),
    ("up", "DELETE api.test/files/../repos/acme/site", Err(Ambiguous)),
    ("up, encoded", "DELETE api.test/files/%2e%2E/repos/acme/site", Err(Ambiguous)),
    ("up, half encoded", "GET api.test/files/.%2e/repos/acme/site", Err(Ambiguous)),
    ("up, behind an encoded slash", "GET api.test/packages/a%2F..", Err(Ambiguous)),
    ("up, with a parameter", "GET api.test/files/..;/repos/acme/site", Err(Ambiguous)),
    ("up, by a backslash", "GET api.test/files/..\\repos", Err(Ambiguous)),
    ("up, by an encoded backslash", "GET api.test/files/..%5crepos", Err(Ambiguous)),
    ("here", "GET api.test/repos/./acme/site", Err(Ambiguous)),
    ("an empty segment", "DELETE api.test/repos//acme/site", Err(Ambiguous)),
    ("a slash at the end", "DELETE api.test/repos/acme/site/", Err(Nothing)),
    ("a segment's parameter", "DELETE api.test/repos/acme/site;v=1", Err(Ambiguous)),
    ("NUL", "DELETE api.test/repos/acme/site%00.txt", Err(Ambiguous)),
    ("a line feed", "DELETE api.test/repos/acme/site%0a", Err(Ambiguous)),
    ("upper case", "DELETE api.test/Repos/acme/site", Err(Nothing)),
    ("upper case in a name", "DELETE api.test/repos/ACME/site", Ok("api/repo.delete owner=ACME repo=site")),
    ("a path of another host", "DELETE api.test/https://api.test/repos/acme/site", Err(Ambiguous)),
    ("overlong slash", "GET api.test/repos/acme%c0%afsite", Err(Ambiguous)),
    ("overlong dot", "GET api.test/files/%c0%ae%c0%ae/x", Err(Ambiguous)),
    ("half a surrogate", "GET api.test/files/%ed%a0%80", Err(Ambiguous)),
    ("a fullwidth slash is a letter", "GET api.test/files/a%ef%bc%8fb", Ok("api/file.read path=a\u{ff0f}b")),
    (
        "fullwidth dots are letters",
        "GET api.test/files/%ef%bc%8e%ef%bc%8e",
        Ok("api/file.read path=\u{ff0e}\u{ff0e}"),
    ),
    ("composed", "GET api.test/files/%c3%a9", Ok("api/file.read path=\u{e9}")),
    ("decomposed is another name", "GET api.test/files/e%cc%81", Ok("api/file.read path=e\u{301}")),
    ("not encoded at all", "GET api.test/files/\u{e9}", Err(Ambiguous)),
];

/// In the method, and what overrides it.
const METHODS: &[(&str, &str, Outcome)] = &[
    ("lower case", "delete api.test/repos/acme/site", Err(Nothing)),
    ("a header", "GET api.test/repos/acme/site\nx-http-method-override: DELETE\n\n", Err(Ambiguous)),
    ("with underscores", "GET api.test/repos/acme/site\nX_HTTP_METHOD_OVERRIDE: DELETE\n\n", Err(Ambiguous)),
    ("another header", "GET api.test/repos/acme/site\nx-method-override: DELETE\n\n", Err(Ambiguous)),
    (
        "the same method",
        "GET api.test/repos/acme/site\nx-http-method: get\n\n",
        Ok("api/repo.read owner=acme repo=site"),
    ),
    ("a parameter", "GET api.test/repos/acme/site?_method=DELETE", Err(Ambiguous)),
    ("a parameter, encoded", "GET api.test/repos/acme/site?%5Fmethod=DELETE", Err(Ambiguous)),
    (
        "a field of a form",
        "POST api.test/comments\ncontent-type: application/x-www-form-urlencoded\n\na=1&_method=DELETE",
        Err(Ambiguous),
    ),
    ("of a body without a type", "POST api.test/comments\n\n_method=DELETE", Err(Ambiguous)),
    (
        "a member of a document",
        "POST api.test/repos/acme/site/issues\ncontent-type: application/json\n\n{\"title\":\"t\",\"_method\":\"DELETE\"}",
        Err(Ambiguous),
    ),
];

/// In the query.
const QUERIES: &[(&str, &str, Outcome)] = &[
    ("plain", "GET api.test/repos/a/b?ref=main", Ok("api/repo.read owner=a ref=main repo=b")),
    ("twice", "GET api.test/repos/a/b?ref=main&ref=dev", Err(Ambiguous)),
    ("twice, once encoded", "GET api.test/repos/a/b?ref=main&r%65f=dev", Err(Ambiguous)),
    ("in other case", "GET api.test/repos/a/b?ref=main&Ref=dev", Err(Ambiguous)),
    ("as a list", "GET api.test/repos/a/b?ref[]=dev", Err(Ambiguous)),
    ("behind a semicolon", "GET api.test/repos/a/b?x=1;ref=dev", Err(Ambiguous)),
    ("encoded twice", "GET api.test/repos/a/b?ref=%2564ev", Err(Ambiguous)),
    ("cut by NUL", "GET api.test/repos/a/b?ref%00x=dev", Err(Ambiguous)),
    ("overlong", "GET api.test/repos/a/b?ref=%c0%ae", Err(Ambiguous)),
    ("a parameter that makes it another operation", "GET store.test/b?policy", Err(Nothing)),
    ("two of them", "GET store.test/b?acl&policy", Err(Nothing)),
    ("in other case", "GET store.test/b?ACL", Err(Nothing)),
    ("with a value", "GET store.test/b?acl=1", Err(Nothing)),
    ("with none", "GET store.test/b?acl=", Ok("store/acl.read bucket=b")),
];

/// In a JSON body. The first line is left out.
const BODIES: &[(&str, &str, Outcome)] = &[
    ("plain", r#"{"title":"t","draft":true}"#, Ok("api/issue.create draft=true owner=a repo=b title=t")),
    ("escaped", r#"{"\u0074itle":"\u0074"}"#, Ok("api/issue.create owner=a repo=b title=t")),
    ("a name twice", r#"{"title":"t","draft":false,"draft":true}"#, Err(Ambiguous)),
    ("a name twice, once escaped", r#"{"title":"t","draft":false,"dr\u0061ft":true}"#, Err(Ambiguous)),
    ("a name in other case", r#"{"title":"t","Draft":true}"#, Err(Ambiguous)),
    ("a long s", "{\"title\":\"t\",\"label\u{17f}\":[]}", Err(Ambiguous)),
    (
        "a fullwidth name is another",
        "{\"title\":\"t\",\"\u{ff44}raft\":true}",
        Ok("api/issue.create owner=a repo=b title=t"),
    ),
    ("a name cut by NUL", r#"{"title":"t","draft\u0000x":true}"#, Err(Ambiguous)),
    ("a byte order mark", "\u{feff}{\"title\":\"t\"}", Err(Ambiguous)),
    ("half a surrogate", r#"{"title":"\ud800"}"#, Err(Ambiguous)),
    ("a comment", "{\"title\":\"t\"/*,\"draft\":true*/}", Err(Ambiguous)),
    ("a second document", r#"{"title":"t"}{"title":"t","draft":true}"#, Err(Ambiguous)),
    ("a list around it", r#"[{"title":"t"}]"#, Err(Mistyped)),
    ("another type", r#"{"title":"t","draft":"true"}"#, Err(Mistyped)),
    ("a type within a list", r#"{"title":"t","labels":["a",["security"]]}"#, Err(Mistyped)),
    (
        "composed and not",
        r#"{"title":"t","labels":["e\u0301","\u00e9"]}"#,
        Ok("api/issue.create labels=[\"e\u{301}\",\"\u{e9}\"] owner=a repo=b title=t"),
    ),
];

/// In what the head says of a body.
const CONTENTS: &[(&str, &str, Outcome)] = &[
    ("no type", "POST api.test/repos/a/b/issues\n\n{\"title\":\"t\"}", Err(Unreadable)),
    (
        "two types",
        "POST api.test/repos/a/b/issues\ncontent-type: application/json\ncontent-type: text/plain\n\n{\"title\":\"t\"}",
        Err(Unreadable),
    ),
    (
        "another character set",
        "POST api.test/repos/a/b/issues\ncontent-type: application/json; charset=utf-7\n\n{\"title\":\"t\"}",
        Err(Unreadable),
    ),
    (
        "compressed",
        "POST api.test/repos/a/b/issues\ncontent-type: application/json\ncontent-encoding: gzip\n\n{\"title\":\"t\"}",
        Err(Unreadable),
    ),
    (
        "a form",
        "POST api.test/repos/a/b/issues\ncontent-type: application/x-www-form-urlencoded\n\ntitle=t",
        Err(Unreadable),
    ),
];

/// In a header that names the operation.
const TARGETS: &[(&str, &str, Outcome)] = &[
    ("plain", "x-target: Table.Read\n", Ok("api/table.read table=t")),
    ("twice", "x-target: Table.Read\nx-target: Table.Drop\n", Err(Ambiguous)),
    ("with an underscore", "x-target: Table.Read\nx_target: Table.Drop\n", Err(Ambiguous)),
    ("only with an underscore", "x_target: Table.Read\n", Err(Ambiguous)),
    ("taken away on the way", "x-target: Table.Read\nconnection: close, X-Target\n", Err(Ambiguous)),
    ("two in one", "x-target: Table.Read, Table.Drop\n", Err(Nothing)),
    ("in other case", "x-target: table.read\n", Err(Nothing)),
    ("in fullwidth letters", "x-target: Table\u{ff0e}Read\n", Err(Ambiguous)),
    ("none", "", Err(Nothing)),
];

/// In a form.
const FORMS: &[(&str, &str, Outcome)] = &[
    ("plain", "POST api.test/\nF\n\nAction=Stop&Id.1=a&Id.2=b", Ok("api/vm.stop vms=[\"a\",\"b\"]")),
    ("in a query", "GET api.test/?Action=Stop&Id.1=a", Ok("api/vm.stop vms=[\"a\"]")),
    ("in both", "POST api.test/?Action=Stop&Id.1=a\nF\n\nAction=List", Err(Ambiguous)),
    ("twice", "POST api.test/\nF\n\nAction=List&Action=Stop&Id.1=a", Err(Ambiguous)),
    ("in other case", "POST api.test/\nF\n\nAction=List&action=Stop", Err(Ambiguous)),
    ("behind a semicolon", "POST api.test/\nF\n\nAction=List;Action=Stop", Err(Ambiguous)),
    ("a number twice", "POST api.test/\nF\n\nAction=Stop&Id.1=a&Id.%31=b", Err(Ambiguous)),
    ("a number with a zero", "POST api.test/\nF\n\nAction=Stop&Id.1=a&Id.01=b", Err(Ambiguous)),
    ("without a number", "POST api.test/\nF\n\nAction=Stop&Id.1=a&Id=b", Err(Ambiguous)),
    ("encoded twice", "POST api.test/\nF\n\nAction=%2553top", Err(Ambiguous)),
    ("as JSON", "POST api.test/\ncontent-type: application/json\n\n{\"Action\":\"Stop\"}", Err(Unreadable)),
    (
        "of several parts",
        "POST api.test/\ncontent-type: multipart/form-data; boundary=x\n\n--x",
        Err(Unreadable),
    ),
];

/// In a GraphQL document; `viewer` is what policy permits.
const DOCUMENTS: &[(&str, &str, Outcome)] = &[
    ("plain", r#"{"query":"{ viewer { login } }"}"#, Ok("api/viewer")),
    (
        "an alias",
        r#"{"query":"mutation { viewer: deleteRef(input: {id: \"r\"}) { x } }"}"#,
        Ok("api/ref.delete ref=r"),
    ),
    (
        "a fragment",
        r#"{"query":"mutation { ...F } fragment F on M { deleteRef(input: {id: \"r\"}) { x } }"}"#,
        Ok("api/ref.delete ref=r"),
    ),
    (
        "a variable",
        r#"{"query":"mutation($i: I!) { deleteRef(input: $i) { x } }","variables":{"i":{"id":"r"}}}"#,
        Ok("api/ref.delete ref=r"),
    ),
    (
        "variables in other case",
        r#"{"query":"mutation($i: I!) { deleteRef(input: $i) { x } }","variables":{"i":{"id":"r"}},"Variables":{}}"#,
        Err(Unreadable),
    ),
    (
        "two fields",
        r#"{"query":"mutation { deleteRef(input: {id: \"r\"}) { x } b: deleteRef(input: {id: \"s\"}) { x } }"}"#,
        Err(Several),
    ),
    (
        "two operations",
        r#"{"query":"{ viewer { x } } mutation M { deleteRef(input: {id: \"r\"}) { x } }"}"#,
        Err(Ambiguous),
    ),
    (
        "a batch",
        r#"[{"query":"{ viewer { x } }"},{"query":"mutation { deleteRef(input: {id: \"r\"}) { x } }"}]"#,
        Err(Several),
    ),
    (
        "a persisted document",
        r#"{"extensions":{"persistedQuery":{"sha256Hash":"00","version":1}}}"#,
        Err(Unreadable),
    ),
    ("a field that no rule names", r#"{"query":"{ viewer { x } node(id: 1) { id } }"}"#, Err(Nothing)),
    (
        "a query twice",
        r#"{"query":"{ viewer { x } }","query":"mutation { deleteRef(input: {id: \"r\"}) { x } }"}"#,
        Err(Ambiguous),
    ),
];

/// In the name of a reference that is pushed, in one command; `refs/heads/main` is forbidden.
const REFERENCES: &[(&str, &str, Outcome)] = &[
    ("plain", "refs/heads/main", Ok("api/push refs=[\"refs/heads/main\"] repo=r")),
    ("short", "main", Err(Ambiguous)),
    ("HEAD", "HEAD", Err(Ambiguous)),
    ("up", "refs/heads/x/../main", Err(Ambiguous)),
    ("here", "refs/heads/./main", Err(Ambiguous)),
    ("an empty part", "refs/heads//main", Err(Ambiguous)),
    ("a slash at the end", "refs/heads/main/", Err(Ambiguous)),
    ("a slash before it", "/refs/heads/main", Err(Ambiguous)),
    ("a dot at the end", "refs/heads/main.", Err(Ambiguous)),
    ("a lock", "refs/heads/main.lock", Err(Ambiguous)),
    ("a space at the end", "refs/heads/main ", Err(Ambiguous)),
    ("relative", "refs/heads/main~0", Err(Ambiguous)),
    ("by its log", "refs/heads/main@{0}", Err(Ambiguous)),
    ("encoded is another name", "refs/heads/m%61in", Ok("api/push refs=[\"refs/heads/m%61in\"] repo=r")),
    ("upper case is another name", "refs/heads/MAIN", Ok("api/push refs=[\"refs/heads/MAIN\"] repo=r")),
    ("a line feed within", "refs/heads/main\nx", Err(Ambiguous)),
];

/// In which bucket is meant.
const BUCKETS: &[(&str, &str, Outcome)] = &[
    ("in the path", "GET store.test/b/k", Ok("store/read bucket=b key=k")),
    ("in the host", "GET b.store.test/k", Ok("store/read bucket=b key=k")),
    ("in both", "GET b.store.test/other/k", Ok("store/read bucket=b key=other/k")),
    ("in upper case", "GET B.STORE.TEST/k", Ok("store/read bucket=b key=k")),
    ("a host below it", "GET a.b.store.test/k", Err(NoService)),
    ("the root of a bucket", "GET b.store.test/", Ok("store/list bucket=b")),
    ("with a slash", "GET store.test/b/", Ok("store/list bucket=b")),
    ("out of the bucket", "GET b.store.test/../other/k", Err(Ambiguous)),
    ("out of it, encoded", "GET b.store.test/%2e%2e/other/k", Err(Ambiguous)),
    ("a slash encoded", "GET store.test/b%2Fk", Err(Ambiguous)),
    ("a copy", "PUT b.store.test/k\nx-source: secret/k\n\n", Ok("store/copy bucket=b key=k source=secret/k")),
    ("a copy by a parameter", "PUT b.store.test/k?x-source=secret%2Fk", Err(Nothing)),
    ("a copy from elsewhere", "PUT b.store.test/k\nx-source: b/../secret/k\n\n", Err(Ambiguous)),
    ("a copy with a disguise", "PUT b.store.test/k\nx_source: secret/k\n\n", Err(Ambiguous)),
];

/// What a request is taken for: a line, its headers, an empty line and its body. `F` says that the body is a form.
fn taken(catalog: &CatalogStore, request: &str) -> Result<String, Reason> {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut lines = head.lines();
    let (method, url) = lines.next().unwrap().split_once(' ').unwrap();
    let headers: Vec<(&str, &[u8])> = lines
        .map(|line| line.split_once(": ").unwrap_or(("content-type", "application/x-www-form-urlencoded")))
        .map(|(name, value)| (name, value.as_bytes()))
        .collect();
    let at = url.find('/').unwrap();
    let (host, target) = url.split_at(at);
    let host = HostName::new(host).unwrap();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let destination = Destination { address: ([198, 18, 0, 1], 443).into(), name: Some(host.clone()) };
    let service = catalog.service(&destination)?;
    let head = RequestHead { method, path, query, headers: Headers(&headers) };
    let selected = catalog.select(&service, &host, &head)?;
    let body = (selected.needed() != Needed::Nothing).then_some(body.as_bytes());
    let operation = catalog.operation(selected, &head, body)?;
    let plain = |value: &Argument| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let arguments = operation.arguments.iter().map(|(name, value)| format!(" {name}={}", plain(value)));
    Ok(format!("{}{}", operation.rule.name, arguments.collect::<String>()))
}

/// Every row of a table, as the request that `write` makes of it.
#[track_caller]
fn hold(table: &[(&str, &str, Outcome)], write: impl Fn(&str) -> String) {
    let mut problems = Problems::default();
    let services = Services::read(SERVICES, &mut problems).unwrap_or_else(|| panic!("{problems}"));
    let catalog = CatalogStore::new(services);
    let off: Vec<String> = table
        .iter()
        .map(|(trick, row, outcome)| (trick, row, outcome.map(str::to_owned), taken(&catalog, &write(row))))
        .filter(|(_, _, outcome, found)| outcome != found)
        .map(|(trick, row, outcome, found)| {
            format!("{trick}: {row}\n  wanted {outcome:?}\n  found  {found:?}")
        })
        .collect();
    assert!(off.is_empty(), "{}", off.join("\n"));
}

#[test]
fn in_the_path() {
    hold(PATHS, str::to_owned);
}

#[test]
fn in_the_method() {
    hold(METHODS, str::to_owned);
}

#[test]
fn in_the_query() {
    hold(QUERIES, str::to_owned);
}

#[test]
fn in_a_json_body() {
    hold(BODIES, |body| format!("POST api.test/repos/a/b/issues\n{JSON}\n{body}"));
}

#[test]
fn in_what_a_head_says_of_its_body() {
    hold(CONTENTS, str::to_owned);
}

#[test]
fn in_a_header_that_names_the_operation() {
    hold(TARGETS, |lines| format!("POST api.test/tables\n{JSON}{lines}\n{{\"Table\":\"t\"}}"));
}

#[test]
fn in_a_form() {
    hold(FORMS, str::to_owned);
}

#[test]
fn in_a_graphql_document() {
    hold(DOCUMENTS, |body| format!("POST api.test/graphql\n{JSON}\n{body}"));
}

#[test]
fn in_the_name_of_a_reference() {
    hold(REFERENCES, |name| {
        let command = format!("{} {} {name}\0report-status", "1".repeat(40), "2".repeat(40));
        let length = command.len() + 4;
        let kind = "content-type: application/x-git-receive-pack-request";
        format!("POST api.test/r.git/git-receive-pack\n{kind}\n\n{length:04x}{command}0000PACK")
    });
}

#[test]
fn in_which_bucket_is_meant() {
    hold(BUCKETS, str::to_owned);
}
