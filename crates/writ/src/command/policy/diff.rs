//! `writ policy diff`: what one set of policies has against another.

use std::process::ExitCode;

use writ_client::Client;
use writ_control::Class;
use writ_policy::{Listed, difference};

use super::DIFFERS;
use crate::failure::Failure;
use crate::output::{Output, Style};

/// The policies that the daemon decides by.
pub(super) async fn in_force(client: &Client) -> Result<Vec<Listed>, Failure> {
    let view = client.policy_show().await?;
    let listed = |policy: &writ_control::api::PolicyText| {
        let wrong = || format!("policy `{}` in force cannot be read", policy.id);
        Listed::parse(&policy.id, &policy.text)
            .ok_or_else(|| Failure::new(Class::Failed, "policy.unreadable", wrong()))
    };
    view.policies.iter().map(listed).collect()
}

pub(super) fn diff(now: Vec<Listed>, was: Vec<Listed>, output: &mut Output) -> Result<ExitCode, Failure> {
    let found = difference(now, was);
    let code = if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) };
    if output.is_json() {
        output.object(&found)?;
        return Ok(code);
    }
    for policy in &found.added {
        output.line(&[(Style::Good, "+ "), (Style::Plain, &line(policy))])?;
    }
    for policy in &found.removed {
        output.line(&[(Style::Bad, "- "), (Style::Plain, &line(policy))])?;
    }
    for changed in &found.changed {
        output.line(&[(Style::Warn, "~ "), (Style::Plain, &line(&changed.now))])?;
        output.line(&[(Style::Faint, &format!("    was: {}", said(&changed.was)))])?;
    }
    if found.is_empty() {
        output.note("the policies are the same");
    }
    Ok(code)
}

fn line(policy: &Listed) -> String {
    format!("{}: {}", policy.id, said(policy))
}

fn said(policy: &Listed) -> String {
    format!("{} ({}) {}", policy.effect, policy.scope, policy.conditions)
}
