//! Sample files and what becomes of them, down to the text of each problem.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::service::{Effect, Protocol};
use crate::units::{ByteSize, Span};
use crate::{AgentName, HostName};

const KEYS: &[KeyDoc] = &[
    KeyDoc::required("name", "agent name", "The agent's name."),
    KeyDoc::optional("hosts", "list of host names", "none", "Hosts."),
    KeyDoc::defaulted("ports", "list of ports", "[443]", "Ports."),
    KeyDoc::defaulted("protocol", "`https` or `http`", "\"https\"", "What is spoken."),
    KeyDoc::defaulted("limits.ttl", "length of time", "\"1h\"", "Time limit."),
    KeyDoc::defaulted("limits.body", "size", "\"64 KiB\"", "Size | limit."),
    KeyDoc::optional("limits.file", "absolute path", "none", "File."),
    KeyDoc::defaulted("danger.off", "`true` or `false`", "false", "Turns it off.")
        .danger("Nothing is checked."),
    KeyDoc::required("step.effect", "effect", "Effect."),
    KeyDoc::optional("step.query.*", "text", "any", "Parameter."),
];

#[derive(Debug, PartialEq)]
struct Sample {
    name: AgentName,
    hosts: Vec<HostName>,
    ports: Vec<u16>,
    protocol: Protocol,
    ttl: Span,
    body: ByteSize,
    file: Option<PathBuf>,
    off: bool,
    steps: Vec<(Effect, usize)>,
}

fn sample(table: &Table<'_>) -> Option<Sample> {
    let name = table.required("name");
    let hosts = table.list("hosts");
    let ports = table.list("ports");
    let protocol = table.defaulted("protocol");
    let limits = table.sub_table("limits");
    let (ttl, body, file) = (limits.defaulted("ttl"), limits.defaulted("body"), limits.optional("file"));
    let off = table.sub_table("danger").defaulted("off");
    let step = |step: &Table<'_>| {
        let effect = step.required("effect");
        let query = step.map::<String>("query");
        Some((effect?, query.len()))
    };
    let steps = table.tables("step").iter().filter_map(step).collect();
    Some(Sample {
        name: name?,
        hosts,
        ports,
        protocol: protocol?,
        ttl: ttl?,
        body: body?,
        file,
        off: off?,
        steps,
    })
}

fn problems(text: &str) -> String {
    let mut problems = Problems::default();
    assert_eq!(read("etc/a.toml", text, KEYS, &mut problems, sample), None);
    assert!(!problems.is_empty());
    problems.to_string()
}

#[test]
fn reads_values_and_takes_defaults_from_the_description() {
    let mut problems = Problems::default();
    let text = "name = 'coder'\nhosts = ['A.example.']\nlimits.ttl = '90s'\n\
        [[step]]\neffect = 'write'\nquery = { a = 'b', c = 'd' }\n";
    let value = read("a.toml", text, KEYS, &mut problems, sample);
    assert_eq!(problems, Problems::default());
    let expected = Sample {
        name: AgentName::new("coder").unwrap(),
        hosts: vec![HostName::new("a.example").unwrap()],
        ports: vec![443],
        protocol: Protocol::Https,
        ttl: "90s".parse().unwrap(),
        body: ByteSize::kib(64),
        file: None,
        off: false,
        steps: vec![(Effect::Write, 2)],
    };
    assert_eq!(value, Some(expected));
}

#[test]
fn all_problems_are_reported_at_once_with_their_place_and_a_hint() {
    let text = r#"hosts = ["ok.example", 7, "not a host"]
ports = 443
protocol = "htps"
colour = "red"

[limits]
ttl = 30
body = "64 KB"
file = "ca.pem"
tll = "1s"

[[step]]
effect = "destroy"

[[step]]
query = { a = 1 }
"#;
    let expected = r#"etc/a.toml:1:1: key `name`: missing
    hint: agent name, as in `name = "coder"`
etc/a.toml:1:24: key `hosts[1]`: expected a host name, found the number 7
    hint: as in `hosts = ["api.example.com"]`
etc/a.toml:1:27: key `hosts[2]`: `not a host` is not a host name: a DNS name of letters, digits, `-`, `_` in labels of at most 63, not an address
    hint: as in `hosts = ["api.example.com"]`
etc/a.toml:2:9: key `ports`: expected a list
    hint: as in `ports = [443]`
etc/a.toml:3:12: key `protocol`: `htps` is none of `https`, `http`, `tcp`, `pass`, `stdio`
    hint: did you mean `https`?
etc/a.toml:4:1: key `colour`: unknown key
    hint: known here: `name`, `hosts`, `ports`, `protocol`, `limits`, `danger`, `step`
etc/a.toml:7:7: key `limits.ttl`: expected a length of time, found the number 30
    hint: as in `ttl = "30s"`
etc/a.toml:8:8: key `limits.body`: `64 KB` is not a size
    hint: write a whole number and a unit, as in `"64 KiB"`
etc/a.toml:9:8: key `limits.file`: `ca.pem` is not an absolute path
    hint: as in `file = "/etc/writ/ca.pem"`
etc/a.toml:10:1: key `limits.tll`: unknown key
    hint: did you mean `ttl`?
etc/a.toml:13:10: key `step[0].effect`: `destroy` is none of `read`, `write`, `delete`, `execute`, `connect`
    hint: as in `effect = "read"`
etc/a.toml:15:1: key `step[1].effect`: missing
    hint: effect, as in `effect = "read"`
etc/a.toml:16:15: key `step[1].query.a`: expected text, found the number 1
    hint: as in `a = "text"`"#;
    assert_eq!(problems(text), expected);
}

#[test]
fn several_files_are_reported_together() {
    let mut problems = Problems::default();
    for file in ["a.toml", "b.toml"] {
        assert_eq!(read(file, "", KEYS, &mut problems, sample), None);
    }
    let files: Vec<_> = problems.iter().map(|problem| &*problem.place.file).collect();
    assert_eq!(files, ["a.toml", "b.toml"]);
    assert!(problems.clone().or(()).is_err() && Problems::default().or(()).is_ok());
}

#[test]
fn broken_toml_names_its_lines() {
    let text = "name = \"x\nhosts = [\n";
    let shown = problems(text);
    assert!(shown.starts_with("etc/a.toml:1:"), "{shown}");
    assert!(shown.contains("not valid TOML"), "{shown}");
    assert!(
        problems("name = 'a'\nname = 'b'\n").starts_with("etc/a.toml:2:1: not valid TOML: duplicate key")
    );
}

#[test]
fn tables_of_the_wrong_shape_are_problems() {
    assert!(problems("name = 'a'\nlimits = 3").contains("2:10: key `limits`: expected a table\n"));
    assert!(problems("name = 'a'\nstep = 3").contains("2:8: key `step`: expected a list of tables\n"));
    assert!(problems("name = 'a'\nstep = [3]").contains("expected a list of tables"));
    assert!(problems("name = 'a'\n[step]\neffect = 'read'").contains("expected a list of tables"));
}

#[test]
fn numbers_have_a_range() {
    assert!(problems("name = 'a'\nports = [65536]").contains("65536 is not between 0 and 65535"));
    assert!(problems("name = 'a'\nports = [-1]").contains("-1 is not between 0 and 65535"));
    assert!(problems("name = 'a'\nports = [1.5]").contains("expected a whole number, found the number 1.5"));
}

#[test]
fn columns_count_characters() {
    assert!(problems("name = 'é'\nhosts = ['é', 1]").contains(":2:15: key `hosts[1]`"));
}

#[test]
fn a_reader_that_says_nothing_is_refused_all_the_same() {
    let mut problems = Problems::default();
    assert_eq!(read("a.toml", "name = 'x'", KEYS, &mut problems, |_| None::<()>), None);
    assert_eq!(problems.to_string(), "a.toml:1:1: the file could not be read");
}

#[test]
fn every_default_of_a_description_can_be_read() {
    let mut problems = Problems::default();
    assert!(read("a.toml", "name = 'x'", KEYS, &mut problems, sample).is_some());
}

#[test]
fn the_reference_page_is_printed_from_the_description() {
    let page = reference(KEYS);
    assert!(page.contains("| `name` | agent name | refused: required | The agent's name. |\n"));
    assert!(page.contains("| `limits.body` | size | `\"64 KiB\"` | Size \\| limit. |\n"));
    assert!(page.contains("Turns it off. **Danger:** Nothing is checked. |\n"));
}

proptest! {
    #[test]
    fn arbitrary_text_gives_a_value_or_problems_and_never_panics(
        lines in proptest::collection::vec(
            "(name|hosts|ports|limits|limits\\.ttl|step|x|\\[limits\\]|\\[\\[step\\]\\])( = ('é'|3|\\[\\]|\\[1, 'a'\\]|\\{ttl = 1\\}|true|\"))?",
            0..8,
        ),
        noise in any::<String>(),
    ) {
        for text in [lines.join("\n"), noise] {
            let mut problems = Problems::default();
            let value = read("a.toml", &text, KEYS, &mut problems, sample);
            prop_assert_eq!(value.is_some(), problems.is_empty());
            prop_assert!(problems.iter().all(|p| p.place.line >= 1 && p.place.column >= 1));
        }
    }
}
