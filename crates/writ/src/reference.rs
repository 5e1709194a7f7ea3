//! `docs/cli.md`, written from the types that read the command line. A test compares; `BLESS=1` writes.

use std::fmt::Write as _;

use clap::{Command, CommandFactory};

use crate::args::Arguments;

const HEAD: &str = "\
# Command line

`writ` asks the daemon over its control socket, or works on files by itself; it decides nothing. Results go to
stdout, everything else to stderr; `--json` makes both JSON. Written from `crates/writ/src/args.rs`.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed; also a daemon that is not ready (`status`) and a bad finding (`doctor`) |
| 2 | denied; also an answer that is no (`policy can`) |
| 3 | configuration or policy invalid |
| 4 | done, and something differs (`policy replay`, `policy diff`) |
| 64 | the command line was not understood |

`writ run` ends with the exit code of the program that it became.
";

fn page() -> String {
    let mut root = Arguments::command().disable_help_subcommand(true).term_width(100);
    root.build();
    let mut page = HEAD.to_owned();
    section(&root, "writ", &mut page);
    page
}

fn section(command: &Command, name: &str, page: &mut String) {
    let help = command.clone().bin_name(name).render_long_help();
    let lines: Vec<_> = help.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    write!(page, "\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end()).unwrap();
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        section(sub, &format!("{name} {}", sub.get_name()), page);
    }
}

#[test]
fn the_reference_page_is_fresh() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let page = page();
    if std::env::var_os("BLESS").is_some() {
        writ_host::durable::replace(&path, page.as_bytes(), 0o644).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/cli.md is not what the code says; hint: `BLESS=1 cargo test -p writ`");
}

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}
