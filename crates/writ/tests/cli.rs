//! The command line as a whole: scripts in `tests/cli/*.txt`, each command with what it prints and ends with, run
//! against a real control server in this process. `BLESS=1` writes what was found; read the change.
//!
//! A script is blocks of: comments (`#`), the command (`$ writ ...`, or `$ as other: writ ...` for a user who is not
//! root), its standard input (`< text`), then stdout as it is, stderr as `! text`, and `? CODE` unless it is 0.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that goes wrong ends there; lints know only test functions"
)]

#[path = "cli/actions.rs"]
mod actions;
#[path = "cli/fixture.rs"]
mod fixture;
#[path = "../../writ-control/tests/support/memory.rs"]
mod memory;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use fixture::Fixture;

/// `nobody`: neither root nor a member of any group that counts.
const OTHER: u32 = 65_534;

#[derive(Default)]
struct Step {
    comments: Vec<String>,
    command: String,
    input: Vec<String>,
}

fn steps(script: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut comments = Vec::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            let command = command.to_owned();
            steps.push(Step { comments: std::mem::take(&mut comments), command, input: Vec::new() });
        } else if line.starts_with('#') {
            comments.push(line.to_owned());
        } else if let Some(text) = line.strip_prefix("< ") {
            steps.last_mut().unwrap().input.push(text.to_owned());
        }
    }
    steps
}

/// Words as a shell would see them: blanks part them, double quotes hold them together.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words
}

/// Runs one step and shows it as a script has it.
fn play(step: &Step, fixture: &Fixture) -> String {
    let root = fixture.root().to_str().unwrap();
    let (other, command) = match step.command.strip_prefix("as other: ") {
        Some(command) => (true, command),
        None => (false, step.command.as_str()),
    };
    let words = words(&command.replace("[ROOT]", root));
    assert_eq!(words[0], "writ");
    let program = if other { fixture.copied_program() } else { env!("CARGO_BIN_EXE_writ").into() };
    let mut child = Command::new(program);
    child.args(["--root", root]).args(&words[1..]).env_clear().env("TZ", "UTC").env("COLUMNS", "100");
    child.current_dir(root).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if other {
        child.uid(OTHER).gid(OTHER);
    }
    let mut child = child.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for line in &step.input {
        // A command that was refused before it read has closed its end.
        writeln!(stdin, "{line}").ok();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let clean = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        text.replace(root, "[ROOT]").replace(env!("CARGO_PKG_VERSION"), "[VERSION]")
    };
    let mut shown: Vec<String> = step.comments.clone();
    shown.push(format!("$ {}", step.command));
    shown.extend(step.input.iter().map(|line| format!("< {line}")));
    shown.extend(clean(&output.stdout).lines().map(str::to_owned));
    shown.extend(clean(&output.stderr).lines().map(|line| format!("! {line}").trim_end().to_owned()));
    match output.status.code() {
        Some(0) => {}
        Some(code) => shown.push(format!("? {code}")),
        None => shown.push("? signal".to_owned()),
    }
    shown.join("\n") + "\n"
}

fn script(name: &str, fixture: &Fixture) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli").join(name);
    let expected = std::fs::read_to_string(&path).unwrap();
    let found: Vec<_> = steps(&expected).iter().map(|step| play(step, fixture)).collect();
    let found = found.join("\n");
    if std::env::var_os("BLESS").is_some() {
        writ_host::durable::replace(&path, found.as_bytes(), 0o644).unwrap();
        return;
    }
    for (number, (expected, found)) in expected.lines().zip(found.lines()).enumerate() {
        assert_eq!(expected, found, "{name}:{}; hint: `BLESS=1`, and read the change", number + 1);
    }
    assert_eq!(expected.lines().count(), found.lines().count(), "{name}: a different number of lines");
}

/// Whether callers of different uids can be had here.
#[expect(clippy::print_stdout, reason = "a skipped test says why")]
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root, to call as root and as somebody else");
    }
    root
}

#[test]
fn asking_the_daemon() {
    if is_root() {
        let fixture = Fixture::served();
        script("sessions.txt", &fixture);
        script("log.txt", &fixture);
        script("catalog.txt", &fixture);
        script("state.txt", &fixture);
        script("people.txt", &fixture);
    }
}

#[test]
fn secrets_go_in_and_never_come_out() {
    if is_root() {
        let fixture = Fixture::served();
        script("secret.txt", &fixture);
        let stored = fixture.daemon().secrets.lock().unwrap();
        let value = |name: &str| stored.get(&name.parse().unwrap()).unwrap().expose().to_owned();
        assert_eq!(value("forge"), "planted-value", "one newline at the end is dropped");
        assert_eq!(value("lines"), "planted-one\nplanted-two\n\nx", "and only that one");
    }
}

#[test]
fn the_callers_uid_decides_what_is_seen() {
    if is_root() {
        script("other.txt", &Fixture::served());
    }
}

#[test]
fn a_socket_that_may_not_be_opened() {
    if is_root() {
        let fixture = Fixture::served();
        let run = writ_core::Layout::new(fixture.root()).run();
        writ_host::durable::folder(&run, 0o700).unwrap();
        script("forbidden.txt", &fixture);
    }
}

/// What `writ doctor --json` says of each thing it examined, and its exit code.
fn doctor(fixture: &Fixture) -> (BTreeMap<String, serde_json::Value>, Option<i32>) {
    let root = fixture.root().to_str().unwrap();
    let program = env!("CARGO_BIN_EXE_writ");
    let output = Command::new(program).args(["--root", root, "doctor", "--json"]).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = answer["checks"].as_array().unwrap().iter();
    let named = checks.map(|check| (check["name"].as_str().unwrap().to_owned(), check.clone()));
    (named.collect(), output.status.code())
}

#[test]
fn the_doctor_examines_host_and_installation_with_and_without_a_daemon() {
    let fixture = Fixture::quiet();
    let (checks, code) = doctor(&fixture);
    for name in
        ["kernel", "kernel type data", "BPF LSM", "cgroup v2", "user namespaces", "secret memory", "clock"]
    {
        assert!(checks.contains_key(name), "{name}");
    }
    assert_eq!(checks["configuration"]["found"], "1 service and 2 policies, all valid");
    assert_eq!((checks["daemon"]["state"].as_str(), code), (Some("bad"), Some(1)));
    for (name, check) in &checks {
        assert!(check["state"] == "good" || check["cost"].is_string(), "{name} says what it costs");
    }

    let layout = writ_core::Layout::new(fixture.root());
    writ_host::durable::folder(&layout.etc(), 0o777).unwrap();
    writ_host::durable::replace(&layout.services().join("bad.toml"), b"nmae = 1", 0o644).unwrap();
    let (checks, _) = doctor(&fixture);
    assert_eq!(checks["configuration"]["state"], "bad");
    assert_eq!(checks["configuration folder"]["state"], "bad");
    assert!(checks["configuration folder"]["hint"].as_str().unwrap().starts_with("chmod 0755"));

    let (checks, _) = doctor(&Fixture::served());
    assert!(
        checks.contains_key("hand-off") && !checks.contains_key("daemon"),
        "the daemon speaks for itself"
    );
}

#[test]
fn without_a_daemon() {
    script("offline.txt", &Fixture::quiet());
}

#[test]
fn the_command_line_is_checked() {
    script("usage.txt", &Fixture::quiet());
}

#[test]
fn verifying_offline() {
    let fixture = Fixture::quiet();
    fixture.evidence();
    script("verify.txt", &fixture);
}

#[test]
fn asking_what_was_recorded_again() {
    let fixture = Fixture::quiet();
    fixture.actions();
    script("replay.txt", &fixture);
    script("suggest.txt", &fixture);
    script("ask.txt", &fixture);
    // Without the evidence, which only root may read.
    script("who_can.txt", &Fixture::quiet());
}

#[test]
fn comparing_policies_with_what_is_in_force() {
    if is_root() {
        let fixture = Fixture::served();
        fixture.candidates();
        script("diff.txt", &fixture);
    }
}

#[test]
fn a_governed_caller_is_told_no() {
    if is_root() {
        let fixture = Fixture::served();
        fixture.govern_everyone();
        script("governed.txt", &fixture);
    }
}

#[test]
fn colours_only_on_a_terminal_or_when_asked_for() {
    let fixture = Fixture::served();
    let run = |arguments: &[&str], no_color: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_writ"))
            .args(["--root", fixture.root().to_str().unwrap(), "status"])
            .args(arguments)
            .env("NO_COLOR", no_color)
            .output()
            .unwrap();
        output.stdout.contains(&0x1b)
    };
    assert!(!run(&[], ""), "a pipe is no terminal");
    assert!(run(&["--color", "always"], ""));
    assert!(!run(&["--color", "never"], ""));
    assert!(!run(&["--color", "always", "--json"], ""), "JSON has no colours");
}

#[test]
fn following_shows_events_as_they_are_recorded_and_a_break_is_a_failure() {
    use std::io::{BufRead, BufReader, Read};
    if !is_root() {
        return;
    }
    let fixture = Fixture::served();
    let mut child = Command::new(env!("CARGO_BIN_EXE_writ"))
        .args(["--root", fixture.root().to_str().unwrap(), "log", "--follow", "--limit", "1", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("connection.refused"), "what was there is shown before anything new: {first}");
    fixture.daemon().record(1_790_000_100, writ_core::event::NodeStopped { cut: 0 });
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(errors.contains(r#""code":"evidence.broken""#), "{errors}");
}

#[test]
fn completions_are_scripts_that_their_shells_accept() {
    let script = |shell: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_writ")).args(["completions", shell]).output().unwrap();
        assert!(output.status.success());
        output.stdout
    };
    for shell in ["zsh", "fish"] {
        let text = String::from_utf8(script(shell)).unwrap();
        assert!(["secret", "checkpoint", "completions"].iter().all(|word| text.contains(word)), "{shell}");
    }
    let mut bash = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = bash.stdin.take().unwrap();
    stdin.write_all(&script("bash")).unwrap();
    let ask = "COMP_WORDS=(writ secret ''); COMP_CWORD=2; _writ writ '' secret; echo \"${COMPREPLY[*]}\"\n";
    stdin.write_all(ask.as_bytes()).unwrap();
    drop(stdin);
    let offered = String::from_utf8(bash.wait_with_output().unwrap().stdout).unwrap();
    assert!(
        ["set", "list", "rm"].iter().all(|word| offered.split(' ').any(|w| w.trim() == *word)),
        "{offered}"
    );
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    let status = Command::new(env!("CARGO_BIN_EXE_writ")).arg("man").arg(&pages).output().unwrap().status;
    assert!(status.success());
    for name in ["writ", "writ-run", "writ-secret", "writ-secret-set", "writ-policy-test", "writ-why"] {
        let page = std::fs::read_to_string(pages.join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".TH") && page.contains(".SH SYNOPSIS"), "{name}");
        assert!(!page.contains("help help"), "{name}");
    }
}
