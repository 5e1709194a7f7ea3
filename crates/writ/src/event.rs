//! An evidence event in one line: kind, who for whom, what. Sentences are `writ why`'s.

use writ_core::event::{Actor, Event, Leaf, Outcome, Request};
use writ_core::units::ByteSize;

use crate::localtime::local;
use crate::output::Style;

/// The pieces of a leaf's line.
pub(crate) fn line(leaf: &Leaf) -> Vec<(Style, String)> {
    let style = style(&leaf.event);
    let actor = actor(&leaf.event).map(|actor| format!("{} for {}: ", actor.agent, actor.human));
    vec![
        (Style::Faint, format!("{}  ", local(leaf.time))),
        (style, format!("{:<19}", leaf.event.kind())),
        (Style::Plain, actor.unwrap_or_default()),
        (Style::Plain, what(&leaf.event)),
    ]
}

fn style(event: &Event) -> Style {
    match event {
        Event::ActionRefused(_)
        | Event::ConnectionRefused(_)
        | Event::ConfigRefused(_)
        | Event::EvidenceDropped(_) => Style::Bad,
        Event::ActionClosed(closed) if closed.outcome != Outcome::Completed => Style::Warn,
        Event::NodeStarted(started) if !started.dangers.is_empty() => Style::Warn,
        Event::SessionOpened(opened) if !opened.dangers.is_empty() => Style::Warn,
        Event::ActionIntended(_) | Event::ActionClosed(_) => Style::Good,
        Event::NodeStarted(_)
        | Event::NodeStopped(_)
        | Event::EvidenceRecovered(_)
        | Event::ConfigLoaded(_)
        | Event::SecretSet(_)
        | Event::SecretRemoved(_)
        | Event::SessionOpened(_)
        | Event::SessionEnded(_)
        | Event::ProcessExecuted(_) => Style::Plain,
    }
}

fn actor(event: &Event) -> Option<&Actor> {
    match event {
        Event::SessionOpened(e) => Some(&e.actor),
        Event::SessionEnded(e) => Some(&e.actor),
        Event::ProcessExecuted(e) => Some(&e.actor),
        Event::ConnectionRefused(e) => e.actor.as_ref(),
        Event::ActionRefused(e) => Some(&e.actor),
        Event::ActionIntended(e) => Some(&e.actor),
        Event::ActionClosed(e) => Some(&e.actor),
        Event::NodeStarted(_)
        | Event::NodeStopped(_)
        | Event::EvidenceDropped(_)
        | Event::EvidenceRecovered(_)
        | Event::ConfigLoaded(_)
        | Event::ConfigRefused(_)
        | Event::SecretSet(_)
        | Event::SecretRemoved(_) => None,
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
    format!("{} {}{} ({})", request.method, request.host, request.path, request.operation)
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
