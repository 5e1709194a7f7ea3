//! One file per command, or per group of them.

mod agent;
mod approval;
mod doctor;
mod generate;
mod human;
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
    let layout = &Layout::new(arguments.root);
    let client = &Client::new(layout);
    match arguments.command {
        // Without a runtime: the process becomes the program.
        Command::Run(ask) => run::run(layout, ask, false),
        Command::Mcp(ask) => run::run(layout, ask, true),
        Command::Ps => wait(session::list(client, output)),
        Command::Log(ask) => wait(log::log(client, ask, output)),
        Command::Why { action } => wait(log::why(client, action, output)),
        Command::Verify(ask) => verify::verify(layout, ask, output),
        Command::Secret(ask) => wait(secret::secret(client, ask, output)),
        Command::Policy(ask) => wait(policy::policy(layout, client, ask, output)),
        Command::Service(ask) => wait(service::service(layout, client, ask, output)),
        Command::Doctor => wait(doctor::doctor(layout, client, output)),
        Command::Reload => wait(status::reload(client, output)),
        Command::Status => wait(status::status(client, output)),
        Command::Revoke(whose) => wait(session::revoke(client, whose, output)),
        Command::Login(ask) => wait(human::login(client, ask, output)),
        Command::Logout => wait(human::logout(client, output)),
        Command::Whoami => wait(human::whoami(client, output)),
        Command::Agent(ask) => wait(agent::agent(client, ask, output)),
        Command::Approvals(ask) => wait(approval::approvals(client, &ask, output)),
        Command::Approve(ask) => wait(approval::approve(client, ask, output)),
        Command::Deny { approval, reason } => wait(approval::deny(client, approval, reason, output)),
        Command::Completions { shell } => generate::completions(shell, output),
        Command::Man { folder } => generate::manual(&folder, output),
    }
}

/// Waits on this thread; no other is started.
fn wait(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::caused("cli.runtime", "cannot start", &error))?.block_on(command)
}
