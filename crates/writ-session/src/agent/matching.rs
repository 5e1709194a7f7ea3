//! Which agent a process is, and whether it is the one that it was started as.
//!
//! Pure. A refusal says which key of which rule did not hold, for the operator; never a value.

use std::collections::BTreeMap;
use std::sync::Arc;

use writ_core::{AgentName, Reason};

use super::Agent;
use super::rule::{Block, Pin};
use crate::attest::{Attested, Refusal, Wanted};

/// The one agent whose rules a process matches. For processes that nobody started as an agent.
///
/// Agents without `[[match]]` mean whatever `writ run` starts as them, so no process is one of them by itself. Digests
/// trusted on first use are not looked at here: ask [`super::pins::pinned`] next.
pub fn matching<'a>(
    agents: &'a BTreeMap<AgentName, Arc<Agent>>,
    attested: &Attested,
) -> Result<&'a Arc<Agent>, Refusal> {
    let mut nearest: Option<(usize, Refusal)> = None;
    let mut found: Option<&Arc<Agent>> = None;
    for agent in agents.values().filter(|agent| !agent.blocks.is_empty()) {
        match fits(agent, attested) {
            Ok(()) if found.is_some() => {
                return Err(Refusal::new(
                    Reason::Unattested,
                    "the rules of two agents hold; hint: run `writ check`",
                ));
            }
            Ok(()) => found = Some(agent),
            Err((missing, refusal)) => {
                if nearest.as_ref().is_none_or(|(least, _)| missing < *least) {
                    nearest = Some((missing, refusal));
                }
            }
        }
    }
    match (found, nearest) {
        (Some(agent), _) => digest(agent, attested).map(|()| agent),
        (None, Some((_, refusal))) => Err(refusal),
        (None, None) => Err(Refusal::new(Reason::NoAgent, "no agent has a `[[match]]` block")),
    }
}

/// Whether a process may be this agent, which it was started as. An agent without `[[match]]` may be any program, as far
/// as its pinned digests go.
pub fn admits(agent: &Agent, attested: &Attested) -> Result<(), Refusal> {
    if !agent.blocks.is_empty() {
        fits(agent, attested).map_err(|(_, refusal)| refusal)?;
    }
    digest(agent, attested)
}

impl Wanted {
    /// What the rules of these agents name.
    pub fn of<'a>(agents: impl IntoIterator<Item = &'a Arc<Agent>>) -> Self {
        let blocks = agents.into_iter().flat_map(|agent| &agent.blocks);
        blocks.flat_map(|block| &block.selectors).map(writ_core::Selector::key).collect()
    }
}

/// Whether some block holds. An error has how much the nearest lacks.
fn fits(agent: &Agent, attested: &Attested) -> Result<(), (usize, Refusal)> {
    let mut nearest: Option<(usize, Refusal)> = None;
    for block in &agent.blocks {
        match lacks(agent, block, attested) {
            None => return Ok(()),
            Some(lack) if nearest.as_ref().is_none_or(|(least, _)| lack.0 < *least) => nearest = Some(lack),
            Some(_) => {}
        }
    }
    Err(nearest.unwrap_or_else(|| (0, Refusal::new(Reason::NoAgent, "the agent has no `[[match]]` block"))))
}

/// What a block lacks in this process.
fn lacks(agent: &Agent, block: &Block, attested: &Attested) -> Option<(usize, Refusal)> {
    let missing: Vec<_> = block.selectors.iter().filter(|selector| !attested.holds(selector)).collect();
    let refused = |reason, what: &str| {
        let Block { place, .. } = block;
        Refusal::new(reason, format!("agent `{}`, block at {place}: {what}", agent.name))
    };
    let Some(first) = missing.first() else {
        return vouched(agent, block, attested).map(|what| (0, refused(Reason::Unattested, what)));
    };
    // What could not be found out might have held: then it is not known that this is another program.
    let key = first.key();
    let unknown = missing.iter().find_map(|selector| {
        attested.unknown().iter().find(|unknown| unknown.attestor == selector.key().attestor())
    });
    let refusal = match unknown {
        Some(unknown) => {
            refused(Reason::Unattested, &format!("`{key}` could not be proven: {}", unknown.what))
        }
        None if attested.has(key) => refused(Reason::NoAgent, &format!("`{key}` is another one")),
        None => refused(Reason::NoAgent, &format!("the process has no such `{key}`")),
    };
    Some((missing.len(), refusal))
}

/// What stands against believing a block whose selectors all hold.
fn vouched(agent: &Agent, block: &Block, attested: &Attested) -> Option<&'static str> {
    if !block.is_about_a_script() {
        return None;
    }
    if !(attested.has_trusted_interpreter() || block.names_the_program()) {
        return Some(UNTRUSTED);
    }
    // A process that nobody launched can make its arguments lead to any file: only a digest says that it is that one.
    let digest = block.has(writ_core::selector::Key::ScriptSha256) || agent.pin != Pin::None;
    (!attested.is_launched() && !digest).then_some(
        "the script of a process that was not launched counts by its digest only; hint: add `script:sha256`",
    )
}

const UNTRUSTED: &str =
    "anybody could have put its interpreter there; hint: add `exe:sha256`, or use one that root owns";

/// Whether what it runs is among the listed digests.
fn digest(agent: &Agent, attested: &Attested) -> Result<(), Refusal> {
    let refused = |reason, what: &str| Err(Refusal::new(reason, format!("agent `{}`: {what}", agent.name)));
    if agent.pin == Pin::None {
        return Ok(());
    }
    let Some(digest) = attested.digest() else {
        return refused(
            Reason::Unattested,
            "what it runs has no digest that could be compared with the pinned ones",
        );
    };
    let script = attested.program().script.is_some_and(|script| script.sha256 == digest);
    let named = || {
        agent.blocks.iter().any(|block| block.names_the_program() && lacks(agent, block, attested).is_none())
    };
    if script && attested.program().sha256 != digest && !attested.has_trusted_interpreter() && !named() {
        return refused(Reason::Unattested, UNTRUSTED);
    }
    match &agent.pin {
        Pin::Listed(digests) if !digests.contains(digest) => {
            refused(Reason::IdentityChanged, "what it runs has a digest that is not pinned")
        }
        Pin::Listed(_) | Pin::FirstUse | Pin::None => Ok(()),
    }
}
