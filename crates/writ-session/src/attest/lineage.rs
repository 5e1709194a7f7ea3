//! The programs and runs that a process comes from.
//!
//! The caller knows the lineage from the kernel's exec events, or asks [`super::Attestors::ancestors`]. A process can lose ancestors
//! (a child whose parent exits belongs to init) and cannot gain any.

use rustix::process::{Pid, PidfdFlags};
use writ_core::selector::Key;
use writ_core::{AgentName, Attestor};
use writ_gate::limits;

use super::digest::Digests;
use super::{Attest, Facts, Subject, Unknown, code};
use crate::peer::Peer;

/// Where a process comes from, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lineage {
    /// The programs of its ancestors, nearest first.
    pub ancestors: Vec<Ancestor>,
    /// The agents of the runs that led to it, nearest first.
    pub agents: Vec<AgentName>,
}

/// The program of one ancestor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ancestor {
    /// Its path, if that leads to the program from the host's own root.
    pub path: Option<String>,
    /// Its SHA-256, hex, if it is known.
    pub sha256: Option<String>,
}

/// The attestor.
#[derive(Debug)]
pub(super) struct Parents;

impl Attest for Parents {
    fn attestor(&self) -> Attestor {
        Attestor::Lineage
    }

    fn attest(&self, subject: &Subject<'_>, facts: &mut Facts<'_>) -> Result<(), Unknown> {
        for agent in &subject.lineage.agents {
            facts.add(Key::LineageAgent, agent.as_str());
        }
        for ancestor in &subject.lineage.ancestors {
            if let Some(path) = &ancestor.path {
                facts.add(Key::LineagePath, path);
            }
            if let Some(sha256) = &ancestor.sha256 {
                facts.add(Key::LineageSha256, sha256);
            }
        }
        Ok(())
    }
}

/// Follows the parents up. Stops at the first that cannot be proven.
pub(super) fn observe(digests: &Digests, peer: &Peer) -> Vec<Ancestor> {
    let mut ancestors = Vec::new();
    let mut last: Option<Peer> = None;
    while ancestors.len() < limits::ANCESTORS_MAX {
        let child = last.as_ref().unwrap_or(peer);
        let Some(parent) = parent(child) else { break };
        // A namespace of its own lets it choose its program, and what it started may be anything.
        let Ok(code) = code::running(digests, &parent) else { break };
        if !code.is_provable() {
            break;
        }
        let path = code.program.on_host.then(|| code.program.path.to_str().map(str::to_owned)).flatten();
        ancestors.push(Ancestor { path, sha256: Some(code.program.sha256.to_string()) });
        last = Some(parent);
    }
    ancestors
}

/// The parent, held. The child still has it after it was held, so its number was not used again in between.
fn parent(child: &Peer) -> Option<Peer> {
    let number = child.status().ok()?.parent.filter(|pid| *pid > 0)?;
    let pidfd =
        rustix::process::pidfd_open(Pid::from_raw(number.cast_signed())?, PidfdFlags::empty()).ok()?;
    let parent = Peer::held(pidfd, number).ok()?;
    let still = child.status().ok()?.parent == Some(number) && parent.is_alive() && child.is_alive();
    (still && parent.process().start_us <= child.process().start_us).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[test]
    fn the_attestor_conforms() {
        conformance::check(&Parents);
    }
}
