//! The shipped policies, their samples, the decision matrix, and the examples of the documentation.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{argument, files, operation, services, session, shipped};
use writ_core::Service;
use writ_core::argument::ArgumentKind;
use writ_gate::{Decide, Moment};
use writ_policy::{Engine, PolicySet, read_samples, run_samples};

fn shipped_set() -> Arc<PolicySet> {
    Arc::new(PolicySet::load(&files(&shipped(), "cedar"), &services()).unwrap())
}

#[test]
fn the_default_policy_permits_nothing_and_its_examples_are_valid() {
    let text = std::fs::read_to_string(shipped().join("default.cedar")).unwrap();
    let as_shipped = PolicySet::load(&[(PathBuf::from("default.cedar"), text.clone())], &services()).unwrap();
    assert!(as_shipped.is_empty());
    // Its examples are what is indented in the comments.
    let examples: String =
        text.lines().filter_map(|line| line.strip_prefix("//     ")).flat_map(|line| [line, "\n"]).collect();
    let set = PolicySet::load(&[(PathBuf::from("default.cedar"), examples)], &services()).unwrap();
    assert_eq!(
        set.ids().collect::<Vec<_>>(),
        ["coder-reads-forge", "developers-read-forge", "agents-never-delete"]
    );
}

#[test]
fn the_shipped_policies_have_nothing_to_warn_of() {
    let set = shipped_set();
    assert!(set.warnings().is_empty(), "{:?}", set.warnings());
}

#[test]
fn every_sample_is_answered_as_it_says() {
    let samples = read_samples(&files(&shipped().join("samples"), "toml"), &services()).unwrap();
    assert!(samples.len() >= 6);
    let report = run_samples(&shipped_set(), &samples);
    let wrong: Vec<String> = report
        .outcomes
        .iter()
        .filter(|outcome| !outcome.passed)
        .map(|outcome| format!("{}: {}: {}", outcome.sample.place, outcome.sample.title, outcome.explanation))
        .collect();
    assert!(report.passed(), "{}", wrong.join("\n"));

    // The same samples must fail where nothing is permitted: they are able to.
    let none = Arc::new(PolicySet::load(&[], &services()).unwrap());
    assert!(!run_samples(&none, &samples).passed());
}

#[test]
fn a_bad_sample_is_told_with_line_and_nearest_name() {
    let text = "[[sample]]\ntitle = \"t\"\nagent = \"coder\"\nhuman = \"alice\"\noperation = \"forge/repo.fetsh\"\nexpect = \"permitt\"\nreson = \"x\"\n\
        [[sample]]\ntitle = \"u\"\nagent = \"coder\"\nhuman = \"unix:a\"\noperation = \"forge/repo.fetch\"\narguments = { repo = \"x\" }\nexpect = \"permit\"\nreason = \"policy.error\"\n";
    let problems =
        read_samples(&[(PathBuf::from("s.toml"), text.to_owned())], &services()).unwrap_err().to_string();
    for part in [
        "s.toml:4:",
        "s.toml:5:",
        "did you mean `forge/repo.fetch`?",
        "s.toml:6:",
        "did you mean `permit`?",
        "s.toml:7:",
        "did you mean `reason`?",
        "not the arguments of `forge/repo.fetch`\n    hint: it has owner, repo",
    ] {
        assert!(problems.contains(part), "`{part}` is missing in:\n{problems}");
    }
}

/// Every sample principal with every operation, verdict and reason. `WRIT_BLESS=1` writes the file anew.
#[test]
fn the_decision_matrix_is_as_it_was() {
    let engine = Engine::new(shipped_set());
    let mut matrix =
        String::from("# policies/*.cedar: agent, human (groups), operation, verdict, determining policies\n");
    let people: [(&str, &[&str]); 4] = [
        ("unix:alice", &["unix:alice", "unix:developers"]),
        ("unix:bob", &["unix:bob"]),
        ("unix:carol", &["unix:wheel"]),
        ("unix:1234", &[]),
    ];
    for agent in ["coder", "reviewer"] {
        for (human, groups) in people {
            let who = session(agent, human, groups);
            writeln!(matrix, "\n## {agent} for {human} ({})", groups.join(", ")).unwrap();
            for service in services() {
                let reach = engine.reach(&who, &service);
                writeln!(matrix, "{:<20} {}", format!("{}:", service.name), line(&reach)).unwrap();
                for rule in &service.operations {
                    let (service, operation) = operation(&services(), rule.name.as_str());
                    let verdict = engine.decide(&who, &service, &operation, &Moment::default());
                    writeln!(matrix, "{:<20} {}", rule.name.as_str(), line(&verdict)).unwrap();
                }
            }
        }
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/matrix.golden");
    if std::env::var_os("WRIT_BLESS").is_some() {
        let parent = golden.parent().unwrap();
        let mut file = tempfile::NamedTempFile::new_in(parent).unwrap();
        std::io::Write::write_all(&mut file, matrix.as_bytes()).unwrap();
        file.persist(&golden).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(matrix, expected, "the decisions changed; WRIT_BLESS=1 accepts them");
}

fn line(verdict: &writ_gate::Verdict) -> String {
    let word = verdict.permits().then_some("permit");
    let word = word.unwrap_or_else(|| verdict.refusal().code());
    let side = |key: &writ_core::event::Key| {
        format!("{}[{}]", if key.permitted { "+" } else { "-" }, key.policies.join(" "))
    };
    format!("{word:<28} agent {} human {}", side(&verdict.keys.agent), side(&verdict.keys.human))
}

/// The services, and a push with its references as the page has it.
fn documented() -> Vec<Arc<Service>> {
    let mut services = services();
    let (_, push) = operation(&services, "forge/repo.push");
    let mut rule = (*push.rule).clone();
    rule.name = "forge/refs.push".parse().unwrap();
    rule.arguments.insert("refs".to_owned(), argument("refs", ArgumentKind::Strings, true));
    Arc::make_mut(services.first_mut().unwrap()).operations.push(Arc::new(rule));
    services
}

#[test]
fn the_examples_of_the_documentation_are_valid() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policy.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks = |kind: &str| -> Vec<String> {
        let fence = format!("```{kind}\n");
        let opened = page.split(&fence).skip(1);
        opened.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    };
    let cedar = blocks("cedar");
    assert!(cedar.len() >= 4);
    let files: Vec<(PathBuf, String)> = cedar
        .into_iter()
        .enumerate()
        .map(|(n, text)| (PathBuf::from(format!("example-{n}.cedar")), text))
        .collect();
    let set = PolicySet::load(&files, &documented()).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(set.warnings().is_empty(), "{:?}", set.warnings());
    // The other blocks are of service files, which the catalog's tests read.
    let samples: Vec<(PathBuf, String)> = blocks("toml")
        .into_iter()
        .filter(|text| text.contains("[[sample]]"))
        .map(|text| (PathBuf::from("docs/policy.md"), text))
        .collect();
    let samples = read_samples(&samples, &documented()).unwrap_or_else(|problems| panic!("{problems}"));
    let report = run_samples(&Arc::new(set), &samples);
    assert!(!samples.is_empty() && report.passed(), "{report:?}");
}
