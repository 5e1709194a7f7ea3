//! The service definitions that are shipped, and the demo's: they are valid together, and requests that clients
//! really send become the operations that they should.
#![expect(clippy::unwrap_used, reason = "a test may")]

mod clouds;

use std::path::Path;

use writ_catalog::{CatalogStore, Services};
use writ_core::config::Problems;
use writ_core::service::{Headers, RequestHead};
use writ_core::{Argument, HostName, Reason};
use writ_gate::{Catalog as _, Destination};

fn shipped() -> CatalogStore {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files: Vec<(String, String)> = Vec::new();
    for folder in ["catalog", "demo/etc/services"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap().replace("@DIR@", "/demo");
            files.push((path.file_name().unwrap().to_str().unwrap().to_owned(), text));
        }
    }
    let mut problems = Problems::default();
    let services = Services::read(files.iter().map(|(f, t)| (f.as_str(), t.as_str())), &mut problems);
    assert_eq!(problems.to_string(), "");
    assert!(files.len() >= 8, "{files:?}");
    CatalogStore::new(services.unwrap())
}

/// What a request is: its first line, lines of headers with an empty one after them, and its body; without headers, the body is
/// JSON.
fn ask(catalog: &CatalogStore, request: &str) -> Result<String, Reason> {
    let (request, rest) = request.split_once('\n').unwrap_or((request, ""));
    let (lines, body) = rest.split_once("\n\n").unwrap_or(("content-type: application/json", rest));
    let (method, url) = request.split_once(' ').unwrap();
    let (host, target) = url.split_once('/').unwrap();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let host = HostName::new(host).unwrap();
    let port = if host.as_str().starts_with("kubernetes.") { 6443 } else { 443 };
    let destination = Destination { address: ([198, 18, 0, 1], port).into(), name: Some(host.clone()) };
    let service = catalog.service(&destination)?;
    let headers: Vec<(&str, &[u8])> =
        lines.lines().map(|line| line.split_once(": ").unwrap()).map(|(n, v)| (n, v.as_bytes())).collect();
    let head = RequestHead { method, path: &format!("/{path}"), query, headers: Headers(&headers) };
    let selected = catalog.select(&service, &host, &head)?;
    let operation = catalog.operation(selected, &head, Some(body.as_bytes()))?;
    let plain = |argument: &Argument| argument.as_str().map_or_else(|| argument.to_string(), str::to_owned);
    let arguments: Vec<String> =
        operation.arguments.iter().map(|(k, v)| format!(" {k}={}", plain(v))).collect();
    let rule = &operation.rule;
    Ok(format!("{} {}{}", rule.effect.as_str(), rule.name, arguments.concat()))
}

/// Requests as clients send them, and what they are.
const REQUESTS: &[(&str, &str)] = &[
    ("GET api.github.com/repos/o/r/issues?state=open", "read github/issues.list owner=o repo=r"),
    (
        "POST api.github.com/repos/o/r/issues\n{\"title\":\"t\",\"labels\":[{\"name\":\"l\"}]}",
        "write github/issues.create owner=o repo=r title=t",
    ),
    (
        "POST api.github.com/repos/o/r/pulls\n{\"head\":\"h\",\"base\":\"main\",\"draft\":true}",
        "write github/pulls.create base=main draft=true head=h owner=o repo=r",
    ),
    ("POST api.github.com/graphql\n{\"query\":\"{ viewer { login } }\"}", "read github/graphql.viewer"),
    (
        "POST api.github.com/graphql\n{\"query\":\"query R($o: String!, $n: String!) { repository(owner: $o, name: $n) \
             { id } }\",\"variables\":{\"o\":\"acme\",\"n\":\"site\"}}",
        "read github/graphql.repository owner=acme repo=site",
    ),
    (
        "POST api.github.com/graphql\n{\"query\":\"mutation($i: DeleteRefInput!) { viewer: deleteRef(input: $i) \
             { clientMutationId } }\",\"variables\":{\"i\":{\"refId\":\"R_1\"}}}",
        "delete github/graphql.refs.delete ref=R_1",
    ),
    (
        "POST api.github.com/graphql\n{\"query\":\"mutation { mergePullRequest(input: {pullRequestId: \\\"P\\\", \
             mergeMethod: SQUASH}) { x } }\"}",
        "write github/graphql.pulls.merge method=SQUASH pull=P",
    ),
    ("DELETE api.github.com/repos/o/r", "delete github/repos.delete owner=o repo=r"),
    ("PUT api.github.com/repos/o/r/pulls/7/merge", "write github/pulls.merge number=7 owner=o repo=r"),
    (
        "GET api.github.com/repos/o/r/contents/src/a%20b.rs?ref=main",
        "read github/contents.read owner=o path=src/a b.rs repo=r",
    ),
    ("GET github.com/o/r.git/info/refs?service=git-upload-pack", "read github-git/repo.fetch owner=o repo=r"),
    (
        "GET github.com/o/r.git/info/refs?service=git-receive-pack",
        "read github-git/repo.push.discover owner=o repo=r",
    ),
    ("POST github.com/o/r.git/git-upload-pack", "read github-git/repo.fetch owner=o repo=r"),
    (
        "POST github.com/o/r/git-receive-pack\ncontent-type: application/x-git-receive-pack-request\n\n0000",
        "write github-git/repo.push creates=[] deletes=[] owner=o refs=[] repo=r",
    ),
    (
        "GET forge.test/acme/site.git/info/refs?service=git-upload-pack",
        "read forge/repo.fetch owner=acme repo=site",
    ),
    ("DELETE forge.test/api/repos/acme/site", "delete forge/repo.delete owner=acme repo=site"),
    ("GET pypi.example.com/simple/requests/", "read pypi/project.read project=requests"),
    (
        "GET files.pypi.example.com/packages/aa/bb/x-1.0-py3-none-any.whl",
        "read pypi/file.read path=aa/bb/x-1.0-py3-none-any.whl",
    ),
    ("POST upload.pypi.example.com/legacy/", "write pypi-upload/release.upload"),
    ("GET npm.example.com/lodash", "read npm/package.read package=lodash"),
    ("GET npm.example.com/@types%2fnode", "read npm/scoped.read package=node scope=@types"),
    (
        "GET npm.example.com/@types/node/-/node-1.0.0.tgz",
        "read npm/scoped.file file=node-1.0.0.tgz package=node scope=@types",
    ),
    ("PUT npm.example.com/lodash", "write npm/package.publish package=lodash"),
    ("GET npm.example.com/-/ping", "read npm/registry.ping"),
    ("POST api.anthropic.com/v1/messages", "execute anthropic/messages.create"),
    ("GET api.anthropic.com/v1/models/m-1", "read anthropic/models.read model=m-1"),
    ("POST api.openai.com/v1/chat/completions", "execute openai/chat.create"),
    (
        "POST generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
        "execute gemini/content.generate model=gemini-2.5-pro",
    ),
    (
        "POST generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:countTokens",
        "read gemini/tokens.count model=gemini-2.5-pro",
    ),
    ("GET generativelanguage.googleapis.com/v1beta/models", "read gemini/models.list"),
    ("POST slack.com/api/chat.postMessage", "write slack/chat.post-message"),
    ("GET slack.com/api/conversations.history?channel=C1&limit=15", "read slack/conversations.history"),
    ("POST slack.com/api/files.getUploadURLExternal", "write slack/files.get-upload-url-external"),
    ("POST slack.com/api/chat.delete", "delete slack/chat.delete"),
    ("POST api.stripe.com/v1/refunds", "execute stripe/refunds.create"),
    (
        "POST api.stripe.com/v1/payment_intents\ncontent-type: application/x-www-form-urlencoded\n\n\
         amount=1099&currency=eur&payment_method_types[]=card",
        "execute stripe/payment-intents.create amount=1099 currency=eur",
    ),
    ("GET api.stripe.com/v1/customers/search?query=email", "read stripe/customers.search"),
    ("GET api.stripe.com/v1/customers/cus_1", "read stripe/customers.read customer=cus_1"),
    (
        "POST api.stripe.com/v1/payment_intents/pi_1/confirm",
        "execute stripe/payment-intents.confirm intent=pi_1",
    ),
    (
        "POST gitlab.com/api/v4/projects/acme%2Fsite/issues\n{\"title\":\"t\"}",
        "write gitlab/issues.create group=acme project=site title=t",
    ),
    (
        "PUT gitlab.com/api/v4/projects/17/merge_requests/3/merge",
        "write gitlab/numbered.merges.accept merge=3 project=17",
    ),
    (
        "DELETE gitlab.com/api/v4/projects/acme%2fsite/repository/branches/main",
        "delete gitlab/branches.delete branch=main group=acme project=site",
    ),
    ("GET index.crates.example.com/config.json", "read crates-index/index.config"),
    ("GET index.crates.example.com/3/l/log", "read crates-index/index.three crate=log first=l"),
    (
        "GET index.crates.example.com/se/rd/serde",
        "read crates-index/index.read crate=serde first=se second=rd",
    ),
    ("PUT crates.example.com/api/v1/crates/new", "write crates/crate.publish"),
    (
        "GET crates.example.com/api/v1/crates/serde/1.0.0/download",
        "read crates/version.download crate=serde version=1.0.0",
    ),
    (
        "DELETE crates.example.com/api/v1/crates/serde/1.0.0/yank",
        "delete crates/version.yank crate=serde version=1.0.0",
    ),
    ("GET registry.example.com/v2/", "read registry/registry.check"),
    (
        "HEAD registry.example.com/v2/library/nginx/manifests/latest",
        "read registry/manifest.read image=nginx namespace=library reference=latest",
    ),
    (
        "PUT registry.example.com/v2/site/blobs/uploads/u1?digest=sha256:00",
        "write registry/single.blob.upload.part image=site upload=u1",
    ),
    ("POST registry.example.com/v2/site/blobs/uploads/", "write registry/single.blob.upload image=site"),
    (
        "GET kubernetes.example.com/api/v1/namespaces/shop/pods?watch=true",
        "read kubernetes/core.list namespace=shop resource=pods",
    ),
    (
        "POST kubernetes.example.com/apis/apps/v1/namespaces/shop/deployments",
        "write kubernetes/group.create group=apps namespace=shop resource=deployments version=v1",
    ),
    (
        "GET kubernetes.example.com/api/v1/namespaces/shop/secrets/db",
        "read kubernetes/secrets.get name=db namespace=shop",
    ),
    (
        "POST kubernetes.example.com/api/v1/namespaces/shop/pods/web/exec?command=sh&command=-c",
        "execute kubernetes/pods.exec name=web namespace=shop",
    ),
    (
        "GET kubernetes.example.com/api/v1/namespaces/shop/services/db:5432/proxy",
        "execute kubernetes/services.proxy-root name=db:5432 namespace=shop",
    ),
    (
        "GET kubernetes.example.com/api/v1/watch/namespaces/shop/secrets",
        "execute kubernetes/watch.core path=namespaces/shop/secrets",
    ),
    (
        "POST kubernetes.example.com/api/v1/namespaces/shop/serviceaccounts/ci/token",
        "execute kubernetes/tokens.create name=ci namespace=shop",
    ),
    (
        "DELETE kubernetes.example.com/apis/rbac.authorization.k8s.io/v1/clusterroles/admin",
        "delete kubernetes/cluster.group.delete group=rbac.authorization.k8s.io name=admin resource=clusterroles version=v1",
    ),
    ("DELETE api.openai.com/v1/files/f", "delete openai/files.delete file=f"),
];

#[test]
fn requests_become_the_operations_that_they_should() {
    let catalog = shipped();
    for (request, expected) in REQUESTS.iter().chain(clouds::REQUESTS) {
        assert_eq!(ask(&catalog, request).as_deref(), Ok(*expected), "{request}");
    }
}

#[test]
fn anything_else_is_no_operation() {
    let catalog = shipped();
    for (request, reason) in [
        ("POST api.github.com/graphql", Reason::BodyRefused),
        (
            "POST api.github.com/graphql\n{\"query\":\"mutation { deleteProject { x } }\"}",
            Reason::NoOperation,
        ),
        ("GET api.github.com/graphql?query={viewer}", Reason::NoOperation),
        ("DELETE api.github.com/repos/o/r/issues", Reason::NoOperation),
        ("get api.github.com/user", Reason::NoOperation),
        ("GET api.github.com/User", Reason::NoOperation),
        ("GET github.com/o/r.git/info/refs", Reason::NoOperation),
        (
            "GET github.com/o/r.git/info/refs?service=git-upload-pack&service=git-receive-pack",
            Reason::AmbiguousRequest,
        ),
        ("DELETE api.github.com/repos/o/x/../r", Reason::AmbiguousRequest),
        ("GET api.github.com/repos/o%2Fr", Reason::AmbiguousRequest),
        ("POST slack.com/api/admin.users.remove", Reason::NoOperation),
        ("POST generativelanguage.googleapis.com/v1beta/models/m:tuneModel", Reason::NoOperation),
        ("GET registry.example.com/v2/a/b/c/manifests/latest", Reason::NoOperation),
        ("GET kubernetes.example.com/api/v1/namespaces/a%2Fb/pods", Reason::AmbiguousRequest),
        ("GET unlisted.example.com/", Reason::NoService),
    ]
    .iter()
    .chain(clouds::REFUSED)
    {
        assert_eq!(ask(&catalog, request), Err(*reason), "{request}");
    }
}

#[test]
fn the_examples_of_the_documentation_are_valid() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policy.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let operations: String = blocks.filter(|block| block.contains("[[operation]]")).collect();
    assert!(operations.matches("[[operation]]").count() >= 2);
    let text = format!("name = \"forge\"\nhosts = [\"forge.test\"]\nports = [443]\n{operations}");
    let mut problems = Problems::default();
    let services = Services::read([("docs/policy.md", text.as_str())], &mut problems);
    assert!(services.is_some(), "{problems}");
}
