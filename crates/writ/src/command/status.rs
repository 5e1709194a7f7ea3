//! `writ status` and `writ reload`.

use std::process::ExitCode;

use writ_client::Client;
use writ_core::units::ByteSize;

use crate::event::short;
use crate::failure::Failure;
use crate::localtime::local;
use crate::output::{Output, Style, count};

pub(crate) async fn status(client: &Client, output: &mut Output) -> Result<ExitCode, Failure> {
    let status = client.status().await?;
    let code = if status.is_ready() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if output.is_json() {
        output.object(&status)?;
        return Ok(code);
    }
    let (style, ready) = match &status.not_ready {
        None => (Style::Good, "yes".to_owned()),
        Some(why) => (Style::Bad, format!("no: {why}")),
    };
    let checkpoint = status.checkpoint.as_ref().map_or_else(
        || "none yet".to_owned(),
        |checkpoint| format!("{}, root {}", leaves(checkpoint.size), checkpoint.root_hash),
    );
    let assurance = status.assurance.map_or("none", writ_core::Assurance::as_str);
    let log = format!("{}, {}", leaves(status.log_leaves), ByteSize::bytes(status.log_bytes));
    let misses = if status.misses == 0 { Style::Plain } else { Style::Warn };
    let facts = [
        ("ready", style, ready),
        ("version", Style::Plain, status.version.clone()),
        ("started", Style::Plain, local(status.started.0)),
        ("assurance", Style::Plain, assurance.to_owned()),
        ("sessions", Style::Plain, status.sessions.to_string()),
        ("connections", Style::Plain, status.connections.to_string()),
        ("misses", misses, status.misses.to_string()),
        ("log", Style::Plain, log),
        ("checkpoint", Style::Plain, checkpoint),
        ("config", Style::Plain, short(&status.config_digest).to_owned()),
        ("policies", Style::Plain, short(&status.policy_digest).to_owned()),
    ];
    for (name, style, value) in &facts {
        output.line(&[(Style::Faint, &format!("{name:<12}")), (*style, value)])?;
    }
    for danger in &status.dangers {
        output.line(&[(Style::Faint, "danger      "), (Style::Warn, danger)])?;
    }
    Ok(code)
}

pub(crate) async fn reload(client: &Client, output: &mut Output) -> Result<ExitCode, Failure> {
    let loaded = client.reload().await?;
    if output.is_json() {
        output.object(&loaded)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (agents, services) = (count(loaded.agents, "agent"), count(loaded.services, "service"));
    let policies = count(loaded.policies, "policy");
    output.text(&format!(
        "in force: {agents}, {services}, {policies}; configuration {}, policies {}",
        short(&loaded.config_digest),
        short(&loaded.policy_digest)
    ))?;
    for danger in &loaded.dangers {
        output.note(&format!("danger: {danger}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn leaves(number: u64) -> String {
    format!("{number} {}", if number == 1 { "leaf" } else { "leaves" })
}
