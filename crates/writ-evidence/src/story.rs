//! Leaves in words: the sentences of `writ why`. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use writ_core::event::{
    Actor, Answer, Counted, Event, Hop, HopKind, Key, Keys, Leaf, LeaseFate, Outcome, Request, Terms,
};
use writ_core::{Argument, Label};

/// The story of one action, from its leaves: who, for whom, what, both keys, lease, outcome.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an action has three kinds of leaves, and its approvals three more"
)]
pub fn why(leaves: &[Leaf]) -> String {
    let mut story = String::new();
    for leaf in leaves {
        let told = match &leaf.event {
            Event::ActionIntended(body) => tell_intent(&mut story, body),
            Event::ActionRefused(body) => tell_refusal(&mut story, body),
            Event::ActionClosed(body) => tell_receipt(&mut story, body),
            Event::ApprovalRequested(body) => writeln!(
                story,
                "Approval {} was asked for, because of {}.",
                body.approval,
                body.rules.join("; ")
            ),
            Event::ApprovalAnswered(body) => tell_answer(&mut story, body),
            Event::ApprovalClosed(body) => {
                writeln!(story, "Approval {} is over: {}.", body.approval, body.cause)
            }
            _ => Ok(()),
        };
        debug_assert!(told.is_ok(), "writing to a string cannot fail");
    }
    story
}

type Told = std::fmt::Result;

fn tell_answer(story: &mut String, body: &writ_core::event::ApprovalAnswered) -> Told {
    let word = match body.answer {
        Answer::Approved => "approved it",
        Answer::ApprovedForSession => "approved it for the session",
        Answer::Denied => "said no",
    };
    let note = body.note.as_ref().map_or(String::new(), |note| format!(", saying \"{note}\""));
    writeln!(story, "{} {word}{note}.", body.by)
}

/// The session's labels, and what it was counted against.
fn tell_terms(story: &mut String, terms: &Terms) -> Told {
    tell_labels(story, &terms.labels)?;
    if !terms.acquired.is_empty() {
        writeln!(story, "The session has these labels from here on: {}.", words(&terms.acquired))?;
    }
    for Counted { amount, obligation, policy } in &terms.counted {
        writeln!(story, "It counts {amount} against {obligation} of {policy}.")?;
    }
    Ok(())
}

fn tell_labels(story: &mut String, labels: &BTreeSet<Label>) -> Told {
    if labels.is_empty() {
        Ok(())
    } else {
        writeln!(story, "The session had these labels: {}.", words(labels))
    }
}

fn words(labels: &BTreeSet<Label>) -> String {
    labels.iter().map(Label::as_str).collect::<Vec<_>>().join(", ")
}

fn tell_intent(story: &mut String, body: &writ_core::event::ActionIntended) -> Told {
    tell_request(story, &body.actor, &body.request)?;
    match body.observed {
        None => writeln!(story, "It was permitted.")?,
        Some(reason) => writeln!(
            story,
            "It was done because its agent or service is observed only, and would have been refused: {} ({}).",
            reason.public_text(),
            reason.code()
        )?,
    }
    tell_keys(story, &body.keys)?;
    tell_terms(story, &body.terms)?;
    tell_path(story, &body.tool_path)?;
    writeln!(
        story,
        "Enforced by: {}. The intent was durable before any credential existed.",
        body.assurance.as_str()
    )
}

fn tell_refusal(story: &mut String, body: &writ_core::event::ActionRefused) -> Told {
    match &body.request {
        Some(request) => tell_request(story, &body.actor, request)?,
        None => writeln!(
            story,
            "Agent {} asked for something that is not one known operation, acting for {}.",
            body.actor.agent, body.actor.human
        )?,
    }
    writeln!(story, "It was refused: {} ({}).", body.reason.public_text(), body.reason.code())?;
    if let Some(keys) = &body.keys {
        tell_keys(story, keys)?;
    }
    tell_labels(story, &body.labels)?;
    tell_path(story, &body.tool_path)?;
    writeln!(story, "Nothing was sent to the service, and no credential was minted.")?;
    writeln!(story, "hint: {}", body.reason.hint())
}

fn tell_receipt(story: &mut String, body: &writ_core::event::ActionClosed) -> Told {
    let status = body.status.map_or(String::new(), |status| format!(" with status {status}"));
    let because = body.reason.map_or(String::new(), |reason| format!(", because {}", reason.public_text()));
    writeln!(
        story,
        "It {}{status}{because}, after {}; {} bytes up, {} bytes down.",
        outcome(body.outcome),
        milliseconds(body.duration_us),
        body.bytes_up,
        body.bytes_down
    )?;
    let lease = body
        .lease
        .map_or("No credential was lent".to_owned(), |lease| format!("Lease {lease} was lent for it alone"));
    writeln!(story, "{lease}{}.", fate(body.lease_fate))
}

fn tell_request(story: &mut String, actor: &Actor, request: &Request) -> Told {
    writeln!(
        story,
        "Agent {} asked to do {} ({}) at {}, acting for {}: {} {}.",
        actor.agent,
        request.operation,
        request.effect.as_str(),
        request.host,
        actor.human,
        request.method,
        request.path
    )?;
    if request.arguments.is_empty() {
        return Ok(());
    }
    let argument = |(name, value): (&String, &Argument)| format!("{name} = {value}");
    let arguments: Vec<String> = request.arguments.iter().map(argument).collect();
    writeln!(story, "Its arguments: {}.", arguments.join(", "))
}

fn tell_keys(story: &mut String, keys: &Keys) -> Told {
    for (whose, key) in [("agent", &keys.agent), ("human", &keys.human)] {
        let Key { permitted, policies } = key;
        let word = if *permitted { "turned" } else { "did not turn" };
        let by = if policies.is_empty() {
            "no policy spoke".to_owned()
        } else {
            format!("by {}", policies.join(", "))
        };
        writeln!(story, "The {whose}'s key {word}: {by}.")?;
    }
    writeln!(story, "Policy set: {}.", short(&keys.policy_digest))
}

fn tell_path(story: &mut String, path: &[Hop]) -> Told {
    let hop = |hop: &Hop| match hop.kind {
        HopKind::Human | HopKind::Exec | HopKind::Mcp => hop.name.clone(),
        HopKind::Run => format!("run {}", hop.name),
    };
    writeln!(story, "The way there: {}.", path.iter().map(hop).collect::<Vec<_>>().join(" -> "))
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Failed => "failed",
        Outcome::Cut => "was cut",
        Outcome::Abandoned => "was abandoned",
    }
}

fn fate(fate: LeaseFate) -> &'static str {
    match fate {
        LeaseFate::NotMinted => "",
        LeaseFate::Standing => {
            "; it is a standing credential, which lives on at its issuer, and the agent never saw it"
        }
        LeaseFate::Echoed => {
            "; the service echoed it, and the echo was removed from the answer: treat it as exposed there"
        }
        LeaseFate::Unknown => {
            "; whether a credential was lent is unknown, because the daemon stopped in between"
        }
    }
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{:03} ms", micros / 1_000, micros % 1_000)
}

#[cfg(test)]
mod tests {
    use writ_core::event::{ActionClosed, ActionRefused};
    use writ_core::{LeaseId, Reason, Timestamp};

    use super::*;
    use crate::trials::intent;

    fn leaf(event: impl Into<Event>) -> Leaf {
        Leaf { event: event.into(), seq: 0, time: Timestamp::default() }
    }

    fn permitted() -> writ_core::event::ActionIntended {
        let mut intent = intent(1);
        intent.request.path = "/repos/site".into();
        intent.request.arguments =
            [("draft".into(), Argument::Boolean(true)), ("title".into(), "a \"bug\"".into())].into();
        intent.tool_path = vec![
            Hop { how: writ_core::event::Known::Observed, kind: HopKind::Human, name: "unix:ann".into() },
            Hop { how: writ_core::event::Known::Observed, kind: HopKind::Exec, name: "/usr/bin/git".into() },
        ];
        intent
    }

    #[test]
    fn what_was_observed_only_is_not_called_permitted() {
        let mut intent = permitted();
        intent.keys.human.permitted = false;
        intent.observed = Some(Reason::HumanNotPermitted);
        let story = why(&[leaf(intent)]);
        assert!(!story.contains("It was permitted"), "{story}");
        assert!(
            story.contains("observed only") && story.contains(Reason::HumanNotPermitted.code()),
            "{story}"
        );
    }

    #[test]
    fn an_action_is_told_from_request_to_lease() {
        let intent = permitted();
        let closed = ActionClosed {
            outcome: Outcome::Completed,
            reason: None,
            status: Some(200),
            bytes_up: 12,
            bytes_down: 3_400,
            duration_us: 41_250,
            lease: Some(LeaseId::from_bits(9)),
            lease_fate: LeaseFate::Standing,
            ..writ_gate::abandoned(&intent, Reason::ClientGone)
        };
        let told = why(&[leaf(intent), leaf(closed)]);
        assert_eq!(
            told,
            "Agent coder asked to do forge/read (read) at forge.test, acting for unix:ann: GET /repos/site.\n\
             Its arguments: draft = true, title = \"a \\\"bug\\\"\".\n\
             It was permitted.\n\
             The agent's key turned: by a.\n\
             The human's key turned: by h.\n\
             Policy set: 00.\n\
             The way there: unix:ann -> /usr/bin/git.\n\
             Enforced by: kernel. The intent was durable before any credential existed.\n\
             It completed with status 200, after 41.250 ms; 12 bytes up, 3400 bytes down.\n\
             Lease 00000000000000000000000009 was lent for it alone; it is a standing credential, which lives on at \
             its issuer, and the agent never saw it.\n"
        );
    }

    #[test]
    fn a_refusal_says_which_key_did_not_turn_and_what_to_do() {
        let intent = permitted();
        let mut keys = intent.keys;
        keys.human = Key { permitted: false, policies: vec![] };
        let refused = ActionRefused {
            action: intent.action,
            actor: intent.actor,
            assurance: intent.assurance,
            conn: intent.conn,
            keys: Some(keys),
            process: intent.process,
            reason: Reason::HumanNotPermitted,
            request: Some(intent.request),
            tool_path: intent.tool_path,
            labels: BTreeSet::new(),
        };
        assert_eq!(
            why(&[leaf(refused)]),
            "Agent coder asked to do forge/read (read) at forge.test, acting for unix:ann: GET /repos/site.\n\
             Its arguments: draft = true, title = \"a \\\"bug\\\"\".\n\
             It was refused: no policy permits the human behind this agent to do this (policy.human_not_permitted).\n\
             The agent's key turned: by a.\n\
             The human's key did not turn: no policy spoke.\n\
             Policy set: 00.\n\
             The way there: unix:ann -> /usr/bin/git.\n\
             Nothing was sent to the service, and no credential was minted.\n\
             hint: see `writ why`; add a permit for the human\n"
        );
    }
}
