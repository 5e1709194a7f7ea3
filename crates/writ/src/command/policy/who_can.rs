//! `writ policy who-can`: whose keys turn for one operation.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use writ_core::event::{Event, Leaf};
use writ_core::{AgentName, HumanId, Layout};
use writ_evidence::VERIFIER_KEY_FILE;
use writ_policy::{Deed, Everybody, Holder, May, WhoCan, who_can as asked};

use super::{Loaded, loaded, misasked};
use crate::args::{Against, Record};
use crate::command::verify;
use crate::failure::Failure;
use crate::files;
use crate::output::{Output, Style};
use crate::table::Table;

pub(super) fn who_can(
    layout: &Layout,
    (against, record): (Against, Record),
    deed: &Deed,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let Loaded { set, .. } = loaded(layout, against.into())?;
    let everybody = Everybody { agents: agents(layout)?, humans: humans(layout, record, output)? };
    let found = asked(&set, everybody, deed).map_err(misasked)?;
    if output.is_json() {
        output.object(&found)?;
    } else {
        show(&found, output)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The agents that are configured: each is named by its file.
fn agents(layout: &Layout) -> Result<BTreeSet<AgentName>, Failure> {
    let folder = layout.agents();
    let files = if folder.is_dir() { files::read(&folder, "toml")? } else { Vec::new() };
    let name = |path: &std::path::Path| path.file_stem()?.to_str()?.parse().ok();
    Ok(files.iter().filter_map(|(path, _)| name(path)).collect())
}

/// The people of the record, with the groups that they had last. A log that was not asked for need not be readable.
fn humans(
    layout: &Layout,
    record: Record,
    output: &mut Output,
) -> Result<BTreeMap<HumanId, Option<Vec<String>>>, Failure> {
    let own = layout.evidence().join(VERIFIER_KEY_FILE);
    if record.evidence.is_none() && std::fs::metadata(&own).is_err() {
        output.note("the evidence is not readable here: people whom no policy names are left out");
        return Ok(BTreeMap::new());
    }
    let mut humans = BTreeMap::new();
    verify::read(layout, record, |leaf| meet(leaf, &mut humans))?;
    Ok(humans)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other events say nothing of groups")]
fn meet(leaf: &Leaf, humans: &mut BTreeMap<HumanId, Option<Vec<String>>>) {
    let (human, groups) = match &leaf.event {
        Event::SessionOpened(opened) => (&opened.actor.human, opened.groups.as_ref()),
        Event::SessionJoined(joined) => (&joined.actor.human, joined.groups.as_ref()),
        Event::HumanSignedIn(signed_in) => (&signed_in.human, Some(&signed_in.groups)),
        _ => return,
    };
    let known = humans.entry(human.clone()).or_default();
    if let Some(groups) = groups {
        *known = Some(groups.clone());
    }
}

fn show(found: &WhoCan, output: &mut Output) -> Result<(), Failure> {
    let others = std::slice::from_ref(&found.others);
    let kinds =
        [("agent", &*found.agents), ("human", &*found.humans), ("group", &*found.groups), ("human", others)];
    let mut table = Table::new(&["KEY", "WHOSE", "TURNS", "BY"]);
    let mut conditions = BTreeSet::new();
    for (kind, holders) in kinds {
        for holder in holders {
            let style = match holder.may {
                May::Yes => Style::Good,
                May::Depends => Style::Warn,
                May::No => Style::Bad,
            };
            table.row([
                (Style::Plain, kind.to_owned()),
                (Style::Plain, holder.name.clone()),
                (style, holder.may.as_str().to_owned()),
                (Style::Plain, by(holder)),
            ]);
            conditions
                .extend(holder.conditions.iter().map(|c| format!("{} {} {}", c.effect, c.policy, c.text)));
        }
    }
    output.table(&table, "")?;
    for condition in conditions {
        output.line(&[(Style::Faint, "if "), (Style::Plain, &condition)])?;
    }
    if found.agents.is_empty() {
        output.note("no agent is configured");
    }
    found.agents.iter().try_for_each(|agent| output.text(&pairs(agent, found)))
}

/// The policies that decide, and those that it depends on.
fn by(holder: &Holder) -> String {
    let depends: Vec<&str> = holder.conditions.iter().map(|condition| condition.policy.as_str()).collect();
    let policies = holder.policies.join(", ");
    let said = match (policies.as_str(), depends.join(", ").as_str()) {
        ("", "") => "no permit".to_owned(),
        (policies, "") => policies.to_owned(),
        ("", depends) => format!("depends on {depends}"),
        (policies, depends) => format!("{policies}, depends on {depends}"),
    };
    if holder.groups.is_none() { format!("{said} (groups not known)") } else { said }
}

/// For whom both keys turn.
fn pairs(agent: &Holder, found: &WhoCan) -> String {
    let humans = found.humans.iter().map(|human| (human, human.name.clone()));
    let groups = found.groups.iter().map(|group| (group, format!("group {}", group.name)));
    let others = [(&found.others, found.others.name.clone())];
    let all: Vec<_> = humans.chain(groups).chain(others).collect();
    let names = |may: May| {
        let those = all.iter().filter(|(human, _)| agent.may.and(human.may) == may);
        those.map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ")
    };
    match (names(May::Yes).as_str(), names(May::Depends).as_str()) {
        ("", "") => format!("{} may for nobody", agent.name),
        (yes, "") => format!("{} may for {yes}", agent.name),
        ("", depends) => format!("{} may, as that depends, for {depends}", agent.name),
        (yes, depends) => format!("{} may for {yes}; as that depends, for {depends}", agent.name),
    }
}
