//! `writ ps` and `writ revoke`.

use std::process::ExitCode;

use writ_client::Client;
use writ_control::api::Whose;

use crate::args::Revoke;
use crate::failure::Failure;
use crate::localtime::local;
use crate::output::{Output, Style, count};
use crate::table::Table;

pub(crate) async fn list(client: &Client, output: &mut Output) -> Result<ExitCode, Failure> {
    let sessions = client.run_list().await?;
    if output.is_json() {
        output.object(&sessions)?;
        return Ok(ExitCode::SUCCESS);
    }
    let heading =
        ["SESSION", "AGENT", "HUMAN", "PID", "OPENED", "EXPIRES", "CONNS", "ACTIONS", "REFUSED", "COMMAND"];
    let mut table = Table::new(&heading).right(&[3, 6, 7, 8]);
    for row in &sessions.sessions {
        let refused = if row.refused == 0 { Style::Plain } else { Style::Bad };
        table.row([
            (Style::Plain, row.session.to_string()),
            (Style::Strong, row.agent.to_string()),
            (Style::Plain, row.human.to_string()),
            (Style::Plain, row.pid.to_string()),
            (Style::Plain, local(row.opened.0)),
            (Style::Plain, local(row.expires.0)),
            (Style::Plain, row.connections.to_string()),
            (Style::Plain, row.actions.to_string()),
            (refused, row.refused.to_string()),
            (Style::Plain, row.command.join(" ")),
        ]);
    }
    output.table(&table, "no live sessions")?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn revoke(client: &Client, whose: Revoke, output: &mut Output) -> Result<ExitCode, Failure> {
    let whose = match whose {
        Revoke::Session { session } => Whose::Session(session),
        Revoke::Run { run } => Whose::Run(run),
        Revoke::Agent { agent } => Whose::Agent(agent),
        Revoke::Human { human } => Whose::Human(human),
    };
    let revoked = client.revoke(whose).await?;
    if output.is_json() {
        output.object(&revoked)?;
    } else {
        let ended = count(revoked.sessions.len(), "session");
        let cut = count(revoked.connections, "connection");
        output.text(&format!("{ended} revoked, {cut} cut"))?;
    }
    Ok(ExitCode::SUCCESS)
}
