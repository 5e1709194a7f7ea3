//! `writ run`: this process becomes a run of the agent.

use std::os::fd::BorrowedFd;
use std::process::ExitCode;

use writ_client::{Beginning, ClientError};
use writ_control::api::{Ask, Prepared, RunOpen};
use writ_core::Layout;
use writ_session::launch::{Command, Daemon, launch};

use crate::args::Run;
use crate::failure::Failure;

/// Returns only if it failed: otherwise this process is the program by then.
pub(crate) fn run(layout: &Layout, ask: Run, is_server: bool) -> Result<ExitCode, Failure> {
    let mut words = ask.command.into_iter();
    let program = words.next().ok_or_else(|| Failure::usage("no command was given"))?;
    let arguments: Vec<_> = words.collect();
    let folder = std::env::current_dir()
        .map_err(|error| Failure::caused("run.no_folder", "the working folder is gone", &error))?;
    let shown = std::iter::once(&program).chain(&arguments).map(|word| word.to_string_lossy().into_owned());
    let open = RunOpen {
        agent: ask.agent,
        command: shown.collect(),
        files: Ask { program: -1, script: None, between: None },
        grants: ask.grants,
        purpose: ask.purpose,
        ttl: ask.ttl,
    };
    let beginning = Beginning::new(layout)?;
    let mut daemon = Launching { beginning, open, refused: None };
    let command =
        Command { program, arguments, environment: std::env::vars_os().collect(), folder, is_server };
    let Err(error) = launch(&command, &mut daemon);
    Err(daemon.refused.map_or_else(|| Failure::of("run.not_started", &error), Failure::from))
}

/// The daemon as the launcher talks to it.
struct Launching {
    beginning: Beginning,
    open: RunOpen,
    /// What it said no with: the launcher keeps only the words.
    refused: Option<ClientError>,
}

impl Launching {
    fn keep<T>(&mut self, answer: Result<T, ClientError>) -> Result<T, String> {
        answer.map_err(|error| {
            let words = error.to_string();
            self.refused = Some(error);
            words
        })
    }
}

impl Daemon for Launching {
    fn connection(&self) -> BorrowedFd<'_> {
        self.beginning.descriptor()
    }

    fn prepare(&mut self, ask: Ask) -> Result<Prepared, String> {
        self.open.files = ask;
        let answer = self.beginning.open(&self.open);
        self.keep(answer)
    }

    fn ready(&mut self) -> Result<(), String> {
        let answer = self.beginning.ready().map(drop);
        self.keep(answer)
    }
}
