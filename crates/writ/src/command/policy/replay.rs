//! `writ policy replay`: recorded actions, asked again of policies that are not in force.

use std::process::ExitCode;

use writ_core::Layout;
use writ_policy::{Change, Decided, Replay, ReplayScope, Replayed};

use super::{DIFFERS, Loaded, loaded};
use crate::args::{PolicyFiles, Record};
use crate::command::verify;
use crate::failure::Failure;
use crate::output::{Output, Style, count};
use crate::table::Table;

pub(super) fn replay(
    layout: &Layout,
    (policies, record): (PolicyFiles, Record),
    scope: ReplayScope,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let Loaded { services, set, .. } = loaded(layout, policies)?;
    let mut replay = Replay::new(set, &services, scope);
    verify::read(layout, record, |leaf| replay.take(leaf))?;
    let found = replay.finish();
    if output.is_json() {
        output.object(&found)?;
    } else {
        show(&found, output)?;
    }
    Ok(if found.changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
}

fn show(found: &Replayed, output: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&["CHANGE", "AGENT", "OPERATION", "ACTIONS", "NEWEST", "BECAUSE"]).right(&[3]);
    for change in &found.changes {
        let style = if change.now == Decided::Refused { Style::Bad } else { Style::Warn };
        table.row([
            (style, format!("{} -> {}", change.was.as_str(), change.now.as_str())),
            (Style::Plain, change.agent.to_string()),
            (Style::Plain, change.operation.to_string()),
            (Style::Plain, change.count.to_string()),
            (Style::Plain, change.example.to_string()),
            (Style::Plain, because(change)),
        ]);
    }
    if !found.changes.is_empty() {
        output.table(&table, "")?;
    }
    let would = |now| found.changes.iter().filter(|change| change.now == now).map(|c| c.count).sum::<u64>();
    output.text(&format!(
        "{} of {} replayed: {} would be refused, {} would be permitted",
        found.replayed,
        count(found.actions, "recorded action"),
        would(Decided::Refused),
        would(Decided::Permitted)
    ))?;
    if found.observed > 0 {
        output.text(&format!(
            "{} done only because observed: refused then and now, and done no more once enforced",
            found.observed
        ))?;
    }
    for skipped in &found.skipped {
        output.text(&format!("not replayed: {} {}", skipped.count, skipped.why.text()))?;
    }
    Ok(())
}

/// The policies that decide now, behind those that did; nothing permits where there are none.
fn because(change: &Change) -> String {
    let names = |ids: &std::collections::BTreeSet<String>| match ids.len() {
        0 => "no permit".to_owned(),
        _ => ids.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    };
    format!("{}; was: {}", names(&change.policies), names(&change.policies_before))
}
