//! `writ`: the command line. It asks the daemon, or works on files by itself; it decides nothing.
//!
//! Exit codes: 0 done, 1 failed, 2 denied, 3 configuration or policy invalid, 4 done and something differs, 64 usage;
//! `writ run` ends with the program's own. What is printed, and where, is in [`output`].

mod args;
mod command;
mod drafted;
mod event;
mod failure;
mod files;
mod localtime;
mod mcp;
mod openapi;
mod output;
#[cfg(test)]
mod reference;
mod table;
mod yaml;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Arguments;
use crate::output::Output;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let mut output = Output::new(arguments.json, arguments.color);
    let done = command::execute(arguments, &mut output);
    match done.and_then(|code| output.flush().map(|()| code)) {
        Ok(code) => code,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Help and version go to stdout and are no failure; everything else that clap says is a usage error.
fn usage(error: &clap::Error) -> ExitCode {
    // If even the terminal is gone there is nobody to tell.
    let _gone = error.print();
    if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS }
}
