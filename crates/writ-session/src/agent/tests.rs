//! What agents' files may say, and which processes they mean.

use super::*;
use crate::Governed;

fn read(text: &str) -> Result<Agent, String> {
    let mut problems = Problems::default();
    Agent::read("coder", "agents/coder.toml", text, &mut problems).ok_or_else(|| problems.to_string())
}

#[test]
fn a_short_file_has_safe_defaults() {
    let agent = read("owner = \"platform\"").unwrap();
    assert_eq!(agent.ttl_max, Duration::from_hours(1));
    assert_eq!(agent.concurrent_runs_max, 16);
    assert!(!agent.terms.without_namespaces && !agent.terms.io_uring);
    assert!(agent.terms.files.is_empty() && agent.terms.unix_sockets.is_empty());
}

#[test]
fn a_full_file_is_read() {
    let agent = read(
        "owner = \"a\"\nttl_max = \"2h\"\nuser = \"4242\"\nunix_sockets = [\"/run/db.sock\"]\n\
         files = [\"~/.aws/config\"]\nenvironment = [\"NPM_TOKEN\"]\nconcurrent_runs_max = 2\n\
         [placeholders]\nGH_TOKEN = \"x\"\n[danger]\nwithout_namespaces = true\nio_uring = true\n",
    )
    .unwrap();
    assert_eq!(agent.user, Some(RunUser::Uid(4242)));
    assert_eq!(agent.terms.placeholders["GH_TOKEN"], "x");
    assert_eq!(agent.dangers(), ["io_uring", "without_namespaces"]);
}

#[test]
fn one_bad_file_refuses_all_and_each_problem_names_its_file() {
    let good = ("a", "agents/a.toml", "owner = \"x\"");
    assert_eq!(agents([good]).unwrap().len(), 1);
    let bad = [good, ("b", "agents/b.toml", "x = 1"), ("..", "agents/...toml", "owner = \"x\"")];
    let problems = agents(bad).unwrap_err().to_string();
    assert!(problems.contains("agents/b.toml:1:1") && problems.contains("agents/...toml"), "{problems}");
}

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    let text = "ttl_max = \"99d\"\nuser = \"root\"\nfiles = [\"relative\", \"/a/../b\"]\nenvironmnt = []\n\
                unix_sockets = [\"run/x\"]\nconcurrent_runs_max = 0\n";
    let problems = read(text).unwrap_err();
    for part in [
        "coder.toml:1:",
        "not between",
        "coder.toml:2:",
        "may not be root",
        "coder.toml:3:",
        "coder.toml:4:",
        "did you mean `environment`",
        "coder.toml:5:",
        "coder.toml:6:",
        "no run could ever start",
        "`owner`: missing",
    ] {
        assert!(problems.contains(part), "{part} not in:\n{problems}");
    }
}

#[test]
fn a_run_is_never_uid_0() {
    let nobody = read("owner = \"a\"").unwrap();
    assert!(nobody.run_user(0).unwrap_err().to_string().contains("set `user`"));
    assert_eq!(nobody.run_user(4242).unwrap().uid, 4242);
    let named = read("owner = \"a\"\nuser = \"4242\"").unwrap();
    assert_eq!(named.run_user(0).unwrap().uid, 4242);
    assert_eq!(named.run_user(77).unwrap().uid, 77, "a caller that is not root stays who it is");
    for root in ["0", "root", "4294967295", ""] {
        assert!(read(&format!("owner = \"a\"\nuser = \"{root}\"")).is_err(), "{root}");
    }
    let alias = Agent { user: Some(RunUser::Name("root".into())), ..named };
    assert!(alias.run_user(0).is_err());
}

fn problems(files: &[(&str, &str)]) -> String {
    let named: Vec<_> =
        files.iter().map(|(name, text)| (*name, format!("agents/{name}.toml"), *text)).collect();
    let read = agents(named.iter().map(|(name, file, text)| (*name, file.as_str(), *text)));
    read.map_or_else(|problems| problems.to_string(), |_| String::new())
}

#[test]
fn rules_pins_and_humans_are_read() {
    let digest = "a".repeat(64);
    let agent = read(&format!(
        "owner = \"a\"\nacts_for = \"owner\"\nowner_human = \"unix:alice\"\npin = [\"sha256:{digest}\"]\n\
         [[match]]\nselectors = [\"unix:uid:1000\", \"exe:path:/usr/bin/coder\"]\n\
         [[match]]\nselectors = [\"systemd:unit:coder.service\"]\n\
         [[govern]]\nprocesses = {{ unit = \"coder.service\" }}\n"
    ))
    .unwrap();
    assert_eq!(agent.blocks.iter().map(|block| block.selectors.len()).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(agent.pin, Pin::Listed([digest].into()));
    assert_eq!(agent.acts_for, ActsFor::Owner);
    assert_eq!(agent.owner_human.unwrap().as_str(), "unix:alice");
    assert_eq!(agent.govern[0].processes, Governed::Unit("coder.service".into()));
    let first = read("owner = \"a\"\npin = \"first-use\"").unwrap();
    assert_eq!((first.pin, first.acts_for, first.blocks.len()), (Pin::FirstUse, ActsFor::Starter, 0));
}

#[test]
fn every_problem_of_a_rule_is_reported_with_its_line() {
    let text = "owner = \"a\"\nacts_for = \"owner\"\npin = \"first\"\n[[match]]\nselectors = [\"exec:path:/x\"]\n\
                [[match]]\nselectors = [\"unix:uid:1\", \"unix:uid:2\"]\n[[match]]\nselectors = [\"script:module:x\"]\n\
                [[match]]\nselectors = []\n[[govern]]\nprocesses = { cgroup = \"/\" }\n";
    let problems = read(text).unwrap_err();
    for part in [
        "coder.toml:3:7: key `pin`: `first` is none of `first-use`",
        "coder.toml:5:14: key `match[0].selectors[0]`: `exec` is no attestor\n    hint: did you mean `exe`?",
        "coder.toml:7:13: key `match[1].selectors`: two of them contradict",
        "coder.toml:9:13: key `match[2].selectors`: whoever can write",
        "coder.toml:11:13: key `match[3].selectors`: a block without selectors",
        "coder.toml:13:13: key `govern[0].processes`: the root would govern",
        "key `owner_human`: nobody answers",
    ] {
        assert!(problems.contains(part), "{part} not in:\n{problems}");
    }
    for (text, part) in [
        ("pin = []", "nothing could ever run"),
        ("pin = [\"abc\"]", "`abc` is no digest"),
        ("[[govern]]\nprocesses = { unit = \"a.service\" }", "could never be this agent"),
    ] {
        let problems = read(&format!("owner = \"a\"\n{text}")).unwrap_err();
        assert!(problems.contains(part) && problems.contains("coder.toml:"), "{text}: {problems}");
    }
}

#[test]
fn two_agents_that_could_match_one_process_are_refused_naming_both() {
    let agent = |selectors: &str| format!("owner = \"a\"\n[[match]]\nselectors = [{selectors}]\n");
    let (one, two) =
        (agent("\"unix:uid:1\", \"exe:path:/a\""), agent("\"unix:uid:1\", \"systemd:slice:a.slice\""));
    let text = problems(&[("one", &one), ("two", &two)]);
    assert!(text.contains("agents/one.toml:2:1"), "{text}");
    assert!(
        text.contains("agent `one`") && text.contains("agent `two`") && text.contains("agents/two.toml:2:1"),
        "{text}"
    );
    // They stand together as soon as they differ in something that a process has one of.
    let two = agent("\"unix:uid:2\", \"systemd:slice:a.slice\"");
    assert_eq!(problems(&[("one", &one), ("two", &two)]), "");
    // A slice is not such a thing: a process is below several.
    let (one, two) = (agent("\"systemd:slice:a.slice\""), agent("\"systemd:slice:b.slice\""));
    assert!(problems(&[("one", &one), ("two", &two)]).contains("agent `one`"));
    // Whom nobody matches by rules, nobody can take for another; alternatives of one agent may overlap.
    let twice = format!("{one}[[match]]\nselectors = [\"unix:uid:1\"]\n");
    assert_eq!(problems(&[("one", &twice), ("two", "owner = \"b\"")]), "");
}

#[test]
fn agents_that_may_be_started_must_exist() {
    let text = "owner = \"a\"\nmay_start = [\"two\", \"three\", \"four\"]";
    let problems = problems(&[("one", text), ("two", "owner = \"b\"")]);
    assert!(
        problems.contains("agents/one.toml:2:21: key `may_start[1]`: there is no agent `three`"),
        "{problems}"
    );
    assert!(problems.contains("`four`") && !problems.contains("`two`"), "{problems}");
}
