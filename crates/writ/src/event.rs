//! An evidence event in one line: kind, who for whom, what. Sentences are `writ why`'s.

use writ_core::Argument;
use writ_core::event::{Answer, Event, Leaf, Outcome, Request};
use writ_core::units::ByteSize;

use crate::localtime::local;
use crate::output::Style;

/// The pieces of a leaf's line.
pub(crate) fn line(leaf: &Leaf) -> Vec<(Style, String)> {
    let style = style(&leaf.event);
    let actor = leaf.event.actor().map(|actor| format!("{} for {}: ", actor.agent, actor.human));
    vec![
        (Style::Faint, format!("{}  ", local(leaf.time))),
        (style, format!("{:<19}", leaf.event.kind())),
        (Style::Plain, actor.unwrap_or_default()),
        (Style::Plain, what(&leaf.event)),
    ]
}

fn style(event: &Event) -> Style {
    match event {
        Event::ApprovalAnswered(e) if e.answer == Answer::Denied => Style::Bad,
        Event::ActionRefused(_)
        | Event::ConnectionRefused(_)
        | Event::ConfigRefused(_)
        | Event::AgentRefused(_)
        | Event::EvidenceDropped(_) => Style::Bad,
        Event::ActionClosed(closed) if closed.outcome != Outcome::Completed => Style::Warn,
        Event::RevocationOrdered(_)
        | Event::HumanSignal(_)
        | Event::ApprovalRequested(_)
        | Event::ApprovalClosed(_) => Style::Warn,
        Event::NodeStarted(started) if !started.dangers.is_empty() => Style::Warn,
        Event::SessionOpened(opened) if !opened.dangers.is_empty() => Style::Warn,
        Event::ActionIntended(_) | Event::ActionClosed(_) | Event::ApprovalAnswered(_) => Style::Good,
        Event::NodeStarted(_)
        | Event::NodeStopped(_)
        | Event::EvidenceRecovered(_)
        | Event::ConfigLoaded(_)
        | Event::SecretSet(_)
        | Event::SecretRemoved(_)
        | Event::SessionOpened(_)
        | Event::SessionJoined(_)
        | Event::HumanSignedIn(_)
        | Event::HumanSignedOut(_)
        | Event::IdentityIssued(_)
        | Event::IdentityAuthority(_)
        | Event::AgentPinned(_)
        | Event::SessionEnded(_)
        | Event::ProcessExecuted(_) => Style::Plain,
    }
}

fn what(event: &Event) -> String {
    match event {
        Event::NodeStarted(e) => {
            let dangers = some("; dangers: ", &e.dangers.join(", "));
            format!("version {}, assurance {}{dangers}", e.version, e.assurance.as_str())
        }
        Event::NodeStopped(e) => format!("{} actions cut", e.cut),
        Event::EvidenceDropped(e) => format!("{} notes could not be recorded and are lost", e.count),
        Event::EvidenceRecovered(e) => {
            let (abandoned, replayed, cut) = (e.abandoned, e.replayed, e.cut);
            format!(
                "{replayed} records replayed, {abandoned} actions abandoned, {cut} unacknowledged cut off"
            )
        }
        Event::ConfigLoaded(e) => {
            format!(
                "configuration {}, policies {}{}",
                short(&e.config_digest),
                short(&e.policy_digest),
                by(e.uid)
            )
        }
        Event::ConfigRefused(e) => format!("{} problems, the old one stays{}", e.problems, by(e.uid)),
        Event::SecretSet(e) => format!("`{}` by uid {}", e.name, e.uid),
        Event::SecretRemoved(e) => format!("`{}` by uid {}", e.name, e.uid),
        Event::SessionOpened(e) => {
            let purpose = some(" for ", &quoted(&e.purpose));
            let dangers = some("; without: ", &e.dangers.join(", "));
            let (session, run) = (e.actor.session, e.actor.run);
            format!(
                "session {session}, run {run}, `{}`{purpose}, until {}{dangers}",
                e.exe,
                local(e.expires_us)
            )
        }
        Event::SessionEnded(e) => format!("session {} {}", e.actor.session, e.cause),
        Event::SessionJoined(_)
        | Event::RevocationOrdered(_)
        | Event::HumanSignedIn(_)
        | Event::HumanSignedOut(_)
        | Event::HumanSignal(_)
        | Event::IdentityIssued(_)
        | Event::IdentityAuthority(_)
        | Event::AgentPinned(_)
        | Event::AgentRefused(_) => identity(event),
        Event::ProcessExecuted(e) => format!("`{}` (pid {}, parent {})", e.exe, e.process.pid, e.parent),
        Event::ConnectionRefused(e) => {
            format!("{} to {}: {}: {}", e.transport, e.destination, e.reason.code(), e.reason.public_text())
        }
        Event::ActionRefused(e) => {
            let request = e.request.as_ref().map_or_else(|| "request".to_owned(), request);
            format!("{request}: {}: {} [{}]", e.reason.code(), e.reason.public_text(), e.action)
        }
        Event::ActionIntended(e) => format!("{} [{}]", request(&e.request), e.action),
        Event::ActionClosed(e) => closed(e),
        Event::ApprovalRequested(e) => {
            let until = local(e.expires_us);
            format!("{}, until {until}; {} [{}]", request(&e.request), e.rules.join("; "), e.approval)
        }
        Event::ApprovalAnswered(e) => {
            let note = some(": ", &quoted(e.note.as_deref().unwrap_or_default()));
            let more = if e.settled { "" } else { ", others are still asked" };
            format!("{} by {}{note}{more} [{}]", word(&e.answer), e.by, e.approval)
        }
        Event::ApprovalClosed(e) => format!("{} [{}]", e.cause, e.approval),
    }
}

/// Of who is who, and until when.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds have their words in `what`")]
fn identity(event: &Event) -> String {
    match event {
        Event::SessionJoined(e) => {
            format!("session {} below {}, until {}", e.actor.session, e.below, local(e.expires_us))
        }
        Event::RevocationOrdered(e) => format!("{}: {} sessions, by {}", e.target, e.sessions, e.by),
        Event::HumanSignedIn(e) => {
            let display = some(", known as ", &quoted(e.display.as_deref().unwrap_or_default()));
            format!("{}{display}, for uid {}{}", e.human, e.uid, some(", by ", &e.amr.join(", ")))
        }
        Event::HumanSignedOut(e) => format!("{}, of uid {}: {}", e.human, e.uid, e.cause),
        Event::HumanSignal(e) => {
            let human = e.human.as_ref().map_or("nobody known here", |human| human.as_str());
            format!("{} says {} of {human}", e.issuer, e.event)
        }
        Event::IdentityIssued(e) => {
            format!(
                "{} {}{}, until {}",
                e.form,
                e.serial,
                some(" for ", &e.audience.join(", ")),
                local(e.expires_us)
            )
        }
        Event::IdentityAuthority(e) => {
            let until = e.expires_us.map_or_else(String::new, |at| format!(", until {}", local(at)));
            format!("keys of generation {} {}{until}", e.generation, e.state)
        }
        Event::AgentPinned(e) => format!("{}: {}{}", e.agent, short(&e.digest), by(e.uid)),
        Event::AgentRefused(e) => {
            let agent =
                e.agent.as_ref().map_or_else(|| "no agent".to_owned(), |agent| format!("not {agent}"));
            format!("`{}` (pid {}, uid {}) is {agent}: {}", e.exe, e.process.pid, e.uid, e.reason.code())
        }
        other => other.kind().to_owned(),
    }
}

fn closed(e: &writ_core::event::ActionClosed) -> String {
    let status = e.status.map_or_else(String::new, |status| format!(" {status}"));
    let reason = e.reason.map_or_else(String::new, |reason| format!(": {}", reason.code()));
    let scrubbed = if e.scrubbed == 0 { String::new() } else { format!(", scrubbed {}", e.scrubbed) };
    format!(
        "{} {}{status}{reason}, {} up, {} down, {} ms, lease {}{scrubbed} [{}]",
        e.operation,
        word(&e.outcome),
        ByteSize::bytes(e.bytes_up),
        ByteSize::bytes(e.bytes_down),
        e.duration_us / 1_000,
        word(&e.lease_fate),
        e.action
    )
}

fn request(request: &Request) -> String {
    let argument = |(name, value): (&String, &Argument)| format!(" {name}={value}");
    let arguments: String = request.arguments.iter().map(argument).collect();
    format!("{} {}{} ({}{arguments})", request.method, request.host, request.path, request.operation)
}

/// The word that the record has for it.
fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).ok();
    value.as_ref().and_then(serde_json::Value::as_str).unwrap_or("unknown").to_owned()
}

fn some(before: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{before}{text}") }
}

fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("\"{text}\"") }
}

/// Enough of a digest to tell two apart.
pub(crate) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn by(uid: Option<u32>) -> String {
    uid.map_or_else(String::new, |uid| format!(", by uid {uid}"))
}
