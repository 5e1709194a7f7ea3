//! `writ completions` and `writ man`: written from the same types that read the command line.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::aot::{Bash, Fish, Generator, Zsh};
use writ_host::durable;

use crate::args::{Arguments, Shell};
use crate::failure::Failure;
use crate::output::Output;

pub(crate) fn completions(shell: Shell, output: &mut Output) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    match shell {
        Shell::Bash => complete(Bash, &mut script),
        Shell::Zsh => complete(Zsh, &mut script),
        Shell::Fish => complete(Fish, &mut script),
    }
    output.raw(&script)?;
    Ok(ExitCode::SUCCESS)
}

fn complete(shell: impl Generator, script: &mut Vec<u8>) {
    clap_complete::aot::generate(shell, &mut Arguments::command(), "writ", script);
}

pub(crate) fn manual(folder: &Path, output: &mut Output) -> Result<ExitCode, Failure> {
    let unwritten = |error: &dyn std::error::Error| {
        Failure::caused("cli.man", format!("cannot write into `{}`", folder.display()), error)
    };
    std::fs::create_dir_all(folder).map_err(|error| unwritten(&error))?;
    let mut root = Arguments::command().disable_help_subcommand(true);
    root.build();
    let mut pages = vec![("writ".to_owned(), root)];
    while let Some((name, command)) = pages.pop() {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            pages.push((format!("{name}-{}", sub.get_name()), sub.clone()));
        }
        let mut page = Vec::new();
        let command = command.display_name(name.clone());
        clap_mangen::Man::new(command)
            .source(concat!("writ ", env!("CARGO_PKG_VERSION")))
            .render(&mut page)
            .map_err(|error| unwritten(&error))?;
        durable::replace(&folder.join(format!("{name}.1")), &page, 0o644)
            .map_err(|error| unwritten(&error))?;
    }
    output.note(&format!("the manual is in `{}`", folder.display()));
    Ok(ExitCode::SUCCESS)
}
