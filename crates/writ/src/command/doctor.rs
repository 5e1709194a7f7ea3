//! `writ doctor`: what this host offers, what is wrong with this installation, and what the daemon says of itself.
//! Works without a daemon; then its absence is one of the findings.

mod host;
mod install;

use std::process::ExitCode;

use writ_client::{Client, ClientError};
use writ_control::api::{Check, CheckState, Checks};
use writ_core::Layout;

use crate::failure::Failure;
use crate::output::{Output, Style};

/// Ends with 1 if something is bad.
pub(crate) async fn doctor(
    layout: &Layout,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let mut checks = host::checks(layout);
    checks.extend(install::checks(layout));
    checks.extend(daemon(client).await);
    let bad = checks.iter().any(|check| check.state == CheckState::Bad);
    let checks = Checks { checks };
    if output.is_json() {
        output.object(&checks)?;
    } else {
        checks.checks.iter().try_for_each(|check| show(check, output))?;
    }
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn daemon(client: &Client) -> Vec<Check> {
    match client.doctor().await {
        Ok(found) => found.checks,
        Err(error) => vec![Check {
            cost: Some("no run can start, and live ones reach nothing".into()),
            found: error.to_string(),
            hint: error.hint().map(str::to_owned),
            name: "daemon".into(),
            state: if matches!(error, ClientError::Fault(_)) { CheckState::Unknown } else { CheckState::Bad },
        }],
    }
}

fn show(check: &Check, output: &mut Output) -> Result<(), Failure> {
    let (style, word) = match check.state {
        CheckState::Good => (Style::Good, "good   "),
        CheckState::Weaker => (Style::Warn, "weaker "),
        CheckState::Unknown => (Style::Faint, "unknown"),
        CheckState::Bad => (Style::Bad, "BAD    "),
    };
    output.line(&[
        (style, word),
        (Style::Plain, &format!("  {:<22}", check.name)),
        (Style::Plain, &check.found),
    ])?;
    if let Some(cost) = &check.cost {
        output.line(&[(Style::Plain, &format!("{:31}costs: {cost}", ""))])?;
    }
    if let Some(hint) = &check.hint {
        output.line(&[(Style::Faint, &format!("{:31}hint: {hint}", ""))])?;
    }
    Ok(())
}

fn good(name: &str, found: impl Into<String>) -> Check {
    Check { cost: None, found: found.into(), hint: None, name: name.into(), state: CheckState::Good }
}

/// A finding that is not good: what was found, what that costs, what to do.
fn finding(name: &str, state: CheckState, [found, cost, hint]: [&str; 3]) -> Check {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Check { cost: some(cost), found: found.into(), hint: some(hint), name: name.into(), state }
}
