//! `writ agent`.

use std::process::ExitCode;

use writ_client::Client;
use writ_control::api::Approval;

use crate::args::Agent;
use crate::event::short;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::table::Table;

pub(crate) async fn agent(client: &Client, ask: Agent, output: &mut Output) -> Result<ExitCode, Failure> {
    match ask {
        Agent::List => list(client, output).await,
        Agent::Approve { agent, digest } => {
            let approved = client.agent_approve(&Approval { agent, digest }).await?;
            if output.is_json() {
                output.object(&approved)?;
            } else {
                output.text(&format!("{} is trusted for {}", short(&approved.digest), approved.agent))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn list(client: &Client, output: &mut Output) -> Result<ExitCode, Failure> {
    let agents = client.agent_list().await?;
    if output.is_json() {
        output.object(&agents)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["AGENT", "OWNER", "ACTS FOR", "SESSIONS", "TRUSTED", "HELD"]).right(&[3]);
    for row in &agents.agents {
        let digests = |all: &[String]| all.iter().map(|digest| short(digest)).collect::<Vec<_>>().join(" ");
        let held = if row.held.is_empty() { Style::Plain } else { Style::Warn };
        table.row([
            (Style::Strong, row.name.to_string()),
            (Style::Plain, row.owner.clone()),
            (Style::Plain, row.acts_for.as_str().to_owned()),
            (Style::Plain, row.sessions.to_string()),
            (Style::Plain, digests(&row.pinned)),
            (held, digests(&row.held)),
        ]);
    }
    output.table(&table, "no agents")?;
    Ok(ExitCode::SUCCESS)
}
