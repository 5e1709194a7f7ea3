//! What agents' files may say, and which processes they mean.

use super::*;

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
