//! What bad service files get: every problem, with its place, at once.

use writ_catalog::{KEYS, Services};
use writ_core::config::{Absent, Problems, reference};

fn problems(files: &[(&str, &str)]) -> String {
    let mut problems = Problems::default();
    assert_eq!(Services::read(files.iter().copied(), &mut problems), None);
    problems.to_string()
}

fn service(extra: &str) -> String {
    let operation = "\n[[operation]]\nname = 'x'\neffect = 'read'\npath = '/'\n";
    format!("name = 'a'\nhosts = ['a.test']\nports = [443]\n{extra}{operation}")
}

#[test]
fn one_file_with_many_mistakes() {
    let text = r#"name = "forge co"
hosts = ["forge.test", "*.com", "192.0.2.1"]
ports = [443, 53, 70000]
protcol = "https"
addresses = ["198.18.0.9", "0.0.0.0", "::1"]

[upstream]
address = "127.0.0.1"
ca_file = "ca.pem"

[credential]
secret = "forge token"
place = { headr = "X" }

[[operation]]
name = "repo/read"
effect = "peek"
methods = ["get", "TRACE"]
path = "/{owner}/{owner}"

[[operation]]
name = "ok"
effect = "read"
path = "/a//b"
query = { service = 1 }
"#;
    let expected = r#"services/forge.toml:1:8: key `name`: `forge co` is not a service name: letters, digits, `.`, `-`, `_`, at most 128, not `.` or `..`
    hint: as in `name = "github"`
services/forge.toml:2:24: key `hosts[1]`: `*.com` covers a whole top-level domain
    hint: name the domain below it
services/forge.toml:2:33: key `hosts[2]`: `192.0.2.1` is not a host name: a DNS name of letters, digits, `-`, `_` in labels of at most 63, not an address
    hint: as in `hosts = ["api.example.com"]`
services/forge.toml:3:15: key `ports[1]`: port 53 is refused: DNS is answered by Writ itself
    hint: leave it out; names are resolved as they are listed
services/forge.toml:3:19: key `ports[2]`: 70000 is not between 0 and 65535
    hint: as in `ports = [443]`
services/forge.toml:4:1: key `protcol`: unknown key
    hint: did you mean `protocol`?
services/forge.toml:5:14: key `addresses[0]`: 198.18.0.9 is in the range that Writ gives out for names
    hint: as in `addresses = ["192.0.2.1"]`
services/forge.toml:5:28: key `addresses[1]`: 0.0.0.0 is not the address of one host
    hint: as in `addresses = ["192.0.2.1"]`
services/forge.toml:8:11: key `upstream.address`: `127.0.0.1` is not `address:port` or `name:port`
    hint: as in `address = "127.0.0.1:8443"`
services/forge.toml:9:11: key `upstream.ca_file`: `ca.pem` is not an absolute path
    hint: as in `ca_file = "/etc/writ/ca.pem"`
services/forge.toml:12:10: key `credential.secret`: `forge token` is not a secret name: letters, digits, `.`, `-`, `_`, at most 128, not `.` or `..`
    hint: as in `secret = "github-token"`
services/forge.toml:13:9: key `credential.place`: `headr` is none of `header`, `basic`, `query`, `cookie`
    hint: or `place = "bearer"`
services/forge.toml:16:8: key `operation[0].name`: `repo/read` is not an operation's name
    hint: letters, digits, `.`, `-`, `_`; the service's name is put before it
services/forge.toml:17:10: key `operation[0].effect`: `peek` is none of `read`, `write`, `delete`, `execute`, `connect`
    hint: as in `effect = "read"`
services/forge.toml:18:12: key `operation[0].methods[0]`: `get` is not a method: letters in upper case
    hint: as in `methods = ["GET"]`
services/forge.toml:18:19: key `operation[0].methods[1]`: `TRACE` is never relayed
    hint: as in `methods = ["GET"]`
services/forge.toml:19:8: key `operation[0].path`: `/{owner}/{owner}` is not a path template: two arguments have the same name
    hint: as in `path = "/{owner}/{repo}"`
services/forge.toml:24:8: key `operation[1].path`: `/a//b` is not a path template: it has an empty segment
    hint: as in `path = "/{owner}/{repo}"`
services/forge.toml:25:21: key `operation[1].query.service`: expected text, `true` or `false`, found the number 1
    hint: as in `service = "text"`"#;
    let found = problems(&[("services/forge.toml", text)]);
    assert_eq!(found.lines().collect::<Vec<_>>(), expected.lines().collect::<Vec<_>>());
}

#[test]
fn two_files_may_not_claim_the_same_destination() {
    let one = "name = 'one'\nhosts = ['a.x.test', 'same.test']\naddresses = ['192.0.2.1', '::ffff:192.0.2.2']\n\
        ports = [443, 8443]\nprotocol = 'tcp'\n";
    let two = "name = 'two'\nhosts = ['*.x.test', 'SAME.test.']\naddresses = ['::ffff:192.0.2.1', '192.0.2.2']\n\
        ports = [8443]\nprotocol = 'tcp'\n";
    let expected = "\
two.toml:2:10: `*.x.test` on port 8443 is claimed by `two` and by `one` (`a.x.test` at one.toml:2:10)
two.toml:2:22: `same.test` on port 8443 is claimed by `two` and by `one` (`same.test` at one.toml:2:22)
two.toml:3:14: 192.0.2.1 on port 8443 is claimed by `two` and by `one` (at one.toml:3:14)
two.toml:3:34: 192.0.2.2 on port 8443 is claimed by `two` and by `one` (at one.toml:3:27)";
    let found = problems(&[("one.toml", one), ("two.toml", two)]);
    let keyless: Vec<String> = found.lines().map(without_key).collect();
    assert_eq!(keyless.join("\n"), expected);

    let other_port = two.replace("[8443]", "[9443]");
    let mut none = Problems::default();
    let services = Services::read([("one.toml", one), ("two.toml", &other_port)], &mut none).unwrap();
    assert_eq!((services.len(), none.len()), (2, 0));
}

fn without_key(line: &str) -> String {
    let Some((place, rest)) = line.split_once(" key `") else { return line.to_owned() };
    format!("{place} {}", rest.split_once(": ").map_or(rest, |(_, what)| what))
}

#[test]
fn two_services_may_not_share_a_name() {
    let text = service("");
    let other = text.replace("a.test", "b.test");
    assert_eq!(
        problems(&[("one.toml", &text), ("two.toml", &other)]),
        "two.toml:1:8: key `name`: `a` is already the service of one.toml:1:8"
    );
}

#[test]
fn what_does_not_go_together_is_refused() {
    let credential = "\n[credential]\nsecret = 's'\nplace = 'bearer'\n";
    for (text, what) in [
        (service("protocol = 'tcp'\n"), "a `tcp` or `pass` service lists no operations"),
        (
            format!("name='a'\nhosts=['a.test']\nports=[1]\nprotocol='tcp'{credential}"),
            "a `tcp` or `pass` service has no credential",
        ),
        (
            format!("name='a'\naddresses=['192.0.2.1']\nports=[1]\nprotocol='pass'{credential}"),
            "a `tcp` or `pass` service has no credential",
        ),
        ("name='a'\nhosts=['a.test']\nports=[1]\nprotocol='pass'".to_owned(), "needs at least one address"),
        (
            "name='a'\naddresses=['192.0.2.1']\nports=[1]\nprotocol='pass'\nupstream.address='192.0.2.2:1'"
                .to_owned(),
            "a `pass` service is not relayed",
        ),
        ("name='a'\nports=[1]\nprotocol='tcp'".to_owned(), "a service needs a host or an address"),
        ("name='a'\nhosts=['a.test']\nports=[1]".to_owned(), "without operations nothing can be done"),
        (service("hosts = []\n").replacen("hosts = ['a.test']\n", "", 1), "needs at least one host"),
        (service("").replace("[443]", "[]"), "a service needs at least one port"),
        (service("").replace("[443]", "[443, 443]"), "a port is listed twice"),
        (service("").replace("['a.test']", "['a.test', 'A.test']"), "`a.test` is listed twice"),
        (service("addresses = ['192.0.2.1', '192.0.2.1']\n"), "192.0.2.1 is listed twice"),
        (service(&format!("protocol = 'http'{credential}")), "would send the credential in plain text"),
        (service("upstream.danger_plaintext_credential = true\n"), "has no effect here"),
        (service("protocol = 'http'\nupstream.ca_file = '/ca.pem'\n"), "only an `https` service is verified"),
        (service("upstream.address = 'other.test:0'\n"), "port 0 cannot be connected to"),
        (service("upstream.address = '198.19.0.1:443'\n"), "in the range that Writ gives out"),
        (service("credential.secret = 's'\n"), "key `credential.place`: missing"),
        (
            service("credential = { secret = 's', place = { header = 'Host' } }\n"),
            "is no place for a credential",
        ),
        (service("credential = { secret = 's', place = { basic = 'a:b' } }\n"), "is not a user name"),
        (service("credential = { secret = 's', place = { query = 'a&b' } }\n"), "is not a parameter's name"),
        (service("credential = { secret = 's', place = { cookie = 'a=b' } }\n"), "is not a cookie's name"),
        (service("credential = { secret = 's', place = 'Bearer' }\n"), "`Bearer` is none of `bearer`"),
        (service("").replace("'read'", "'connect'"), "a request has another effect than `connect`"),
    ] {
        let found = problems(&[("a.toml", &text)]);
        assert!(found.contains(what), "{what}\n{found}");
    }
}

/// A service with one operation.
fn rule(more: &str) -> String {
    format!("name='a'\nhosts=['a.test']\nports=[1]\n[[operation]]\nname='x'\neffect='write'\n{more}\n")
}

/// With this argument.
fn with(argument: &str) -> String {
    rule(&format!("path='/{{p}}'\nmethods=['POST']\narguments={{ {argument} }}"))
}

#[test]
fn arguments_that_cannot_be_are_refused_where_they_stand() {
    let many: Vec<String> = (0..33).map(|n| format!("a{n} = 'body:/{n} string'")).collect();
    for (text, what) in [
        (
            with("t = 'body:/t'"),
            "a.toml:9:17: key `operation[0].arguments.t`: `body:/t` is not an argument: it is a place",
        ),
        (with("t = 'body:/t text'"), "its type is none of `string`, `integer`, `boolean`, `strings`"),
        (
            with("t = 'cookie:t string'"),
            "its place is none of `query:NAME`, `header:NAME`, `header-path:NAME`, `body:POINTER`, `keys:POINTER`, \
             `form:NAME`, `graphql:POINTER`, `mcp:POINTER`, `push:refs`",
        ),
        (with("t = 'header:Authorization string'"), "is one that the relay takes away"),
        (with("t = 'header:authorization string'"), "is one that the relay takes away"),
        (with("t = 'header:x-t strings'"), "a header has one value"),
        (with("t = 'header-path:x-t integer'"), "a path is a `string`"),
        (with("t = 'keys:/t string'"), "there are several, so its type is `strings`"),
        (with("t = 'push:refs string'"), "there are several, so its type is `strings`"),
        (with("t = 'push:forces strings'"), "a push has `refs`, `creates` and `deletes`"),
        (with("t = 'form: string'"), "it names no parameter"),
        (
            with("t = 'body:t string'"),
            "`t` is no JSON Pointer: it must begin with `/`\n    hint: as in `/title`",
        ),
        (with("t = 'body:/t~2 string'"), "`~` is written `~0`"),
        (with("t = 'query: string'"), "it names no parameter"),
        (
            with("t = 'query:t strings'"),
            "a query parameter has one value\n    hint: sets are read from bodies",
        ),
        (
            with("t = 'query:Key string'")
                .replace("[[op", "credential={secret='s', place={query='key'}}\n[[op"),
            "key `credential.place`: an argument of `a/x` reads the place of the credential",
        ),
        (
            with("t = 'header:x-key string'")
                .replace("[[op", "credential={secret='s', place={header='X-Key'}}\n[[op"),
            "key `credential.place`: an argument of `a/x` reads the place of the credential",
        ),
        (
            with("t = 1"),
            "expected an argument, found the number 1\n    hint: as in `t = \"body:/title string\"`",
        ),
        (
            with("T = 'body:/t string'"),
            "key `operation[0].arguments.T`: an argument's name is of a-z, 0-9 and `_`",
        ),
        (with("p = 'body:/t string'"), "the path has an argument of this name"),
        (with(&many.join(", ")), "33 arguments, more than 32"),
    ] {
        let found = problems(&[("a.toml", &text)]);
        assert!(found.contains(what), "{what}\n{found}");
    }
}

#[test]
fn fields_and_bodies_where_they_cannot_be_are_refused() {
    let graph = |more: &str| rule(&format!("path='/'\ngraphql='mutation m'\n{more}"));
    for (text, what) in [
        (with("t = 'graphql:/t string'"), "the operation is not a GraphQL one"),
        (
            graph("methods=['POST']\narguments={ t = 'body:/t string' }"),
            "are its field's\n    hint: as in `graphql:/",
        ),
        (graph(""), "a GraphQL operation is sent by POST alone"),
        (graph("methods=['POST','GET']"), "a GraphQL operation is sent by POST alone"),
        (
            graph("methods=['POST']").replace("'mutation m'", "'createIssue'"),
            "is not `query` or `mutation` and",
        ),
        (
            graph("methods=['POST']").replace("'mutation m'", "'mutation a-b'"),
            "is not `query` or `mutation` and",
        ),
        (
            graph("methods=['POST']").replace("mutation m", "subscription m"),
            "is not `query` or `mutation` and",
        ),
        (
            rule("path='/'\narguments={ t = 'body:/t string' }"),
            "arguments in a body need methods that have one",
        ),
        (
            rule("path='/'\nmethods=['GET','PUT']\narguments={ t = 'body:/t string' }"),
            "`GET` and `HEAD` have no body",
        ),
        (with("t = 'body:/t string', u = 'push:refs strings'"), "its body would be read in two ways"),
        (with("t = 'body:/t string', u = 'form:u string'"), "its body would be read in two ways"),
        (graph("methods=['POST']\nform={ a = 'b' }"), "its body would be read in two ways"),
        (rule("path='/'\nform={ a = 'b' }"), "a form is sent by POST or GET alone"),
        (rule("path='/'\nmethods=['PUT']\nform={ a = 'b' }"), "a form is sent by POST or GET alone"),
        (with("t = 'push:refs strings'").replace("POST", "PUT"), "a push is sent by POST alone"),
        (rule("path='/'\nheaders={ Host = 'a' }"), "it is no header's name, or one of those"),
        (rule("path='/'\nheaders={ cookie = true }"), "it is no header's name, or one of those"),
        (rule("path='/'\nparameters = 'page'"), "it is no list of names"),
        (
            rule("path='/'\nparameters = [1]"),
            "expected a list of names of query parameters, found the number 1",
        ),
    ] {
        let found = problems(&[("a.toml", &text)]);
        assert!(found.contains(what), "{what}\n{found}");
    }
}

#[test]
fn rules_that_share_a_name_are_one_operation() {
    let more = |rule: &str| service("") + "\n[[operation]]\nname = 'x'\n" + rule;
    for (rule, what) in [
        ("effect = 'delete'\npath = '/b'\n", "`a/x` has another effect in a rule above"),
        ("effect = 'read'\npath = '/{b}'\n", "`a/x` has other arguments in a rule above"),
        ("effect = 'read'\npath = '/'\n", "covers the same requests as `a/x` above"),
        (
            "effect = 'read'\npath = '/f'\nmethods = ['POST']\nform = { a = 'b' }\n[[operation]]\nname = 'y'\n\
             effect = 'read'\npath = '/f'\nmethods = ['POST']\nform = { a = 'b' }\n",
            "covers the same requests as `a/x` above",
        ),
        (
            "effect = 'read'\npath = '/f'\nmethods = ['POST']\nform = { a = 'b' }\n[[operation]]\nname = 'y'\n\
             effect = 'read'\npath = '/f'\nmethods = ['POST']\n",
            "covers the same requests as `a/x` above",
        ),
        (
            "effect = 'read'\npath = '/b'\narguments = { q = 'query:q string' }\n",
            "key `operation[1].arguments`: `a/x` has other arguments in a rule above",
        ),
        (
            "effect = 'read'\npath = '/g'\nmethods = ['POST']\ngraphql = 'query a'\n[[operation]]\nname = 'y'\n\
             effect = 'read'\npath = '/g'\nmethods = ['POST']\n",
            "shares its requests with `a/x` above, and one of them is not GraphQL",
        ),
        (
            "effect = 'read'\npath = '/g'\nmethods = ['POST']\ngraphql = 'query a'\n[[operation]]\nname = 'y'\n\
             effect = 'read'\npath = '/g'\nmethods = ['POST']\ngraphql = 'query a'\n",
            "covers the same requests as `a/x` above",
        ),
    ] {
        let found = problems(&[("a.toml", &more(rule))]);
        assert!(found.contains(what), "{what}\n{found}");
    }
    let mut none = Problems::default();
    let text = more("effect = 'read'\npath = '/b'\n");
    assert!(Services::read([("a.toml", text.as_str())], &mut none).is_some(), "{none}");
}

#[test]
fn an_absent_ca_file_or_folder_of_services_is_no_mistake() {
    let mut none = Problems::default();
    assert!(Services::read([], &mut none).unwrap().is_empty());
}

#[test]
fn every_key_is_described() {
    let page = reference(KEYS);
    assert_eq!(page.lines().count(), KEYS.len() + 2);
    assert!(KEYS.iter().all(|doc| doc.effect.ends_with('.') && !doc.kind.is_empty()));
    assert!(KEYS.iter().any(|doc| doc.danger.is_some() && doc.absent == Absent::Default("false")));
}
