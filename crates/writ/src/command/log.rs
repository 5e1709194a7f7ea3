//! `writ log` and `writ why`.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::value::RawValue;
use writ_client::Client;
use writ_control::api::{LeafText, LogQuery, Time};
use writ_core::event::Leaf;
use writ_core::{ActionId, Clock, Timestamp};
use writ_host::SystemClock;

use crate::args::{Log, Since};
use crate::event;
use crate::failure::Failure;
use crate::output::Output;

/// A leaf as `--json` shows it: when it was recorded, and its canonical text.
#[derive(Serialize)]
struct Line<'a> {
    time: Time,
    leaf: &'a RawValue,
}

pub(crate) async fn log(client: &Client, ask: Log, output: &mut Output) -> Result<ExitCode, Failure> {
    let since = ask.since.map(|since| Time(beginning(since)));
    let query = LogQuery {
        agent: ask.agent,
        denied: ask.denied,
        follow: ask.follow,
        human: ask.human,
        limit: ask.limit,
        service: ask.service,
        session: ask.session,
        since,
    };
    let mut leaves = client.log_query(&query).await?;
    let mut any = false;
    while let Some(leaf) = leaves.next().await? {
        any = true;
        show(&leaf, output)?;
        if query.follow {
            output.flush()?;
        }
    }
    if !any {
        output.note("no events match");
    }
    Ok(ExitCode::SUCCESS)
}

/// The point in time from which on something is asked for.
pub(super) fn beginning(since: Since) -> Timestamp {
    match since {
        Since::At(time) => time.0,
        Since::Ago(span) => {
            let back = u64::try_from(span.get().as_micros()).unwrap_or(u64::MAX);
            Timestamp::from_micros(SystemClock.now().micros().saturating_sub(back))
        }
    }
}

fn show(leaf: &Leaf, output: &mut Output) -> Result<(), Failure> {
    if !output.is_json() {
        let pieces = event::line(leaf);
        let pieces: Vec<_> = pieces.iter().map(|(style, text)| (*style, text.as_str())).collect();
        return output.line(&pieces);
    }
    let failed =
        |error: &dyn std::error::Error| Failure::caused("cli.output", "cannot write the leaf", error);
    let bytes = leaf.encode().map_err(|error| failed(&error))?;
    let raw: &RawValue = serde_json::from_slice(&bytes).map_err(|error| failed(&error))?;
    output.object(&Line { time: Time(leaf.time), leaf: raw })
}

pub(crate) async fn why(client: &Client, action: ActionId, output: &mut Output) -> Result<ExitCode, Failure> {
    let story = client.action_why(action).await?;
    if output.is_json() {
        output.object(&story)?;
        return Ok(ExitCode::SUCCESS);
    }
    output.text(&story.text)?;
    let sequence: Vec<_> = story.leaves.iter().map(|LeafText(leaf)| leaf.seq.to_string()).collect();
    if !sequence.is_empty() {
        output.note(&format!("evidence: leaves {}", sequence.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}
