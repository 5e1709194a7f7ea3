//! One file per command, or per group of them.

mod doctor;
mod generate;
mod log;
mod policy;
mod run;
mod secret;
mod service;
mod session;
mod status;
mod verify;

use std::process::ExitCode;

use writ_client::Client;
use writ_core::Layout;

use crate::args::{Arguments, Command};
use crate::failure::Failure;
use crate::output::Output;

/// Does what was asked, and says what the program ends with.
pub(crate) fn execute(arguments: Arguments, output: &mut Output) -> Result<ExitCode, Failure> {
    let layout = Layout::new(arguments.root);
    match arguments.command {
        // Before any runtime exists: the process becomes the program, and must have one thread.
        Command::Run(ask) => run::run(&layout, ask),
        Command::Completions { shell } => generate::completions(shell, output),
        Command::Man { folder } => generate::manual(&folder, output),
        Command::Verify(ask) => verify::verify(&layout, ask, output),
        command => asynchronous(&layout, command, output),
    }
}

fn asynchronous(layout: &Layout, command: Command, output: &mut Output) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::caused("cli.runtime", "cannot start", &error))?;
    runtime.block_on(async {
        let client = Client::new(layout);
        match command {
            Command::Ps => session::list(&client, output).await,
            Command::Revoke { session } => session::revoke(&client, session, output).await,
            Command::Log(ask) => log::log(&client, ask, output).await,
            Command::Why { action } => log::why(&client, action, output).await,
            Command::Secret(ask) => secret::secret(&client, ask, output).await,
            Command::Policy(ask) => policy::policy(layout, &client, ask, output).await,
            Command::Service(ask) => service::service(layout, &client, ask, output).await,
            Command::Doctor => doctor::doctor(layout, &client, output).await,
            Command::Reload => status::reload(&client, output).await,
            Command::Status => status::status(&client, output).await,
            Command::Run(_) | Command::Completions { .. } | Command::Man { .. } | Command::Verify(_) => {
                Ok(ExitCode::FAILURE)
            }
        }
    })
}
