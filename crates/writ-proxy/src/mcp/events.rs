//! A stream of server-sent events (HTML, section 9.2), read and written anew event by event.
//!
//! Written anew, because readers differ in what ends a line: some take U+0085, U+2028 and U+2029 for it, and what is one
//! message here would be two there. In a message these are escaped; elsewhere they are refused.

use std::fmt::Write as _;
use std::task::{Context, Poll};

use bytes::Bytes;
use writ_core::Reason;
use writ_gate::Shown;

use super::aside::Awaited;
use super::{Held, Looking};

/// Ends of lines to some readers, and what stands for them in JSON.
const LINE_ENDS: [(char, &str); 3] =
    [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];

/// The events of one stream.
#[derive(Debug)]
pub(crate) struct Events {
    /// The lines of the event that is not whole yet, each with `\n` after it, and the line that is not.
    held: Held,
    /// Where that line begins.
    line: usize,
    /// The line ended with a carriage return, of which a line feed would be part.
    after_return: bool,
    looking: Looking,
    /// Refusals of what is sent where the stream said.
    awaited: Option<Awaited>,
}

/// One event.
#[derive(Debug, Default)]
struct Event<'e> {
    kind: &'e str,
    id: Option<&'e str>,
    retry: Option<&'e str>,
    data: Option<String>,
}

impl Events {
    pub(crate) fn new(looking: Looking) -> Self {
        let held = Held::new(looking.store.clone());
        Self { held, line: 0, after_return: false, looking, awaited: None }
    }

    /// A refusal that is to be told on the stream.
    pub(crate) fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        self.awaited.as_mut().map_or(Poll::Pending, |awaited| awaited.poll(cx))
    }

    /// Takes more of the stream, and gives what of it goes on. `shown` is asked about each message.
    pub(crate) fn pass(
        &mut self,
        chunk: &[u8],
        shown: impl Fn(&[u8]) -> Result<Shown, Reason>,
    ) -> Result<Bytes, Reason> {
        let mut out = String::new();
        for piece in chunk.split_inclusive(|b| matches!(b, b'\n' | b'\r')) {
            let (text, end) = match piece.split_last() {
                Some((end @ (b'\n' | b'\r'), text)) => (text, Some(*end)),
                _ => (piece, None),
            };
            let rest_of_end = std::mem::take(&mut self.after_return) && text.is_empty() && end == Some(b'\n');
            if rest_of_end || piece.is_empty() {
                continue;
            }
            self.held.extend(text)?;
            let Some(end) = end else { continue };
            self.after_return = end == b'\r';
            if self.held.bytes().len() > self.line {
                self.held.extend(b"\n")?;
                self.line = self.held.bytes().len();
                continue;
            }
            let lines = std::str::from_utf8(self.held.bytes()).map_err(|_| Reason::McpAnswer)?;
            let event = Event::read(lines)?;
            if let ("endpoint", Some(place)) = (event.kind, &event.data) {
                self.awaited = self.looking.asides.wait(&self.looking.service, place);
            }
            write_event(&mut out, &event, &shown)?;
            self.held.clear();
            self.line = 0;
        }
        Ok(out.into())
    }
}

/// Writes an event, as far as it is shown. One without anything tells that the connection lives.
fn write_event(
    out: &mut String,
    event: &Event<'_>,
    shown: impl Fn(&[u8]) -> Result<Shown, Reason>,
) -> Result<(), Reason> {
    let data = match (event.kind, event.data.as_deref()) {
        // Where messages are to be sent (revision 2024-11-05).
        ("endpoint", Some(place)) => Some(one_line(place)?.to_owned()),
        ("" | "message", Some("")) => Some(String::new()),
        ("" | "message", Some(message)) => match shown(message.as_bytes())? {
            Shown::Whole => Some(escaped(message)),
            Shown::Part(message) => Some(escaped(&message)),
            Shown::Nothing => None,
        },
        // Nothing, or what no client of MCP reads.
        _ => None,
    };
    let fields =
        [("event", Some(event.kind).filter(|_| data.is_some())), ("id", event.id), ("retry", event.retry)];
    let mut empty = true;
    for (name, value) in fields {
        if let Some(value) = value.filter(|value| name == "id" || !value.is_empty()) {
            put(out, name, one_line(value)?);
            empty = false;
        }
    }
    for line in data.iter().flat_map(|data| data.split('\n')) {
        put(out, "data", line);
        empty = false;
    }
    out.push_str(if empty { ":\n\n" } else { "\n" });
    Ok(())
}

fn put(out: &mut String, name: &str, value: &str) {
    // Writing to a string cannot fail.
    writeln!(out, "{name}: {value}").unwrap_or_default();
}

impl<'e> Event<'e> {
    fn read(lines: &'e str) -> Result<Self, Reason> {
        // Only at the beginning of the stream would it be passed over.
        if lines.starts_with('\u{feff}') {
            return Err(Reason::McpAnswer);
        }
        let mut event = Self::default();
        for line in lines.lines() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "event" => event.kind = value,
                "id" => event.id = Some(value),
                "retry" => event.retry = Some(value),
                "data" => match &mut event.data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => event.data = Some(value.to_owned()),
                },
                _ => {}
            }
        }
        Ok(event)
    }
}

/// Text that every reader takes for one line.
fn one_line(text: &str) -> Result<&str, Reason> {
    let ends = |c: char| c.is_control() || LINE_ENDS.iter().any(|(end, _)| *end == c);
    if text.contains(ends) { Err(Reason::McpAnswer) } else { Ok(text) }
}

/// JSON without what some reader takes for the end of a line. Such can stand within its texts only.
fn escaped(json: &str) -> String {
    LINE_ENDS.iter().fold(json.to_owned(), |json, (end, escape)| {
        if json.contains(*end) { json.replace(*end, escape) } else { json }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use writ_core::ServiceName;
    use writ_gate::limits;

    use super::*;
    use crate::mcp::Store;
    use crate::mcp::aside::Asides;

    fn looking() -> Looking {
        let service = ServiceName::new("s").unwrap();
        Looking { store: Store::default(), asides: Arc::new(Asides::default()), service }
    }

    /// What goes on of a stream that comes in chunks of this many bytes; a message with `no` in it is not shown.
    fn pass(stream: &str, step: usize) -> Result<String, Reason> {
        let shown = |message: &[u8]| {
            let message = std::str::from_utf8(message).unwrap();
            Ok(match message {
                "bad" => return Err(Reason::McpAnswer),
                _ if message.contains("no") => Shown::Nothing,
                _ if message.contains("less") => Shown::Part("{}".to_owned()),
                _ => Shown::Whole,
            })
        };
        let mut events = Events::new(looking());
        let chunks = stream.as_bytes().chunks(step);
        let out: Result<Vec<_>, _> = chunks.map(|chunk| events.pass(chunk, shown)).collect();
        Ok(String::from_utf8(out?.concat()).unwrap())
    }

    #[test]
    fn events_go_on_one_by_one_however_they_are_cut() {
        for (stream, wanted) in [
            ("data: {}\n\n", "data: {}\n\n"),
            (
                "event: message\r\nid: 7\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\n",
                "event: message\nid: 7\ndata: {\"a\":\ndata: 1}\n\n",
            ),
            ("data:{}\r\rdata:{}\r\r", "data: {}\n\ndata: {}\n\n"),
            ("event: endpoint\ndata: /messages?s=1\n\n", "event: endpoint\ndata: /messages?s=1\n\n"),
            (": ping\n\n", ":\n\n"),
            ("id: 1\ndata:\n\n", "id: 1\ndata: \n\n"),
            ("id: 1\ndata: no\n\ndata: less\n\n", "id: 1\n\ndata: {}\n\n"),
            ("event: other\ndata: {}\n\n", ":\n\n"),
            ("data: \"\u{2028}\u{85}\"\n\n", "data: \"\\u2028\\u0085\"\n\n"),
            ("data: {}\n", ""),
            ("Data: x\nnothing\n\n", ":\n\n"),
        ] {
            for step in 1..=stream.len() {
                assert_eq!(pass(stream, step).as_deref(), Ok(wanted), "{stream:?} in {step}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_nothing_panics_and_chunks_do_not_matter(
            stream in "((event|data|id|retry|x)?:? ?(\\{\\}|message|no|bad|\u{2028}|\u{0}|é)?[\r\n]{1,3}){0,8}",
            step in 1..40usize,
        ) {
            let whole = pass(&stream, stream.len().max(1));
            proptest::prop_assert_eq!(&pass(&stream, step), &whole);
            // What went on goes on as it is.
            if let Ok(once) = whole {
                proptest::prop_assert_eq!(pass(&once, once.len().max(1)), Ok(once));
            }
        }
    }

    #[test]
    fn what_readers_take_differently_is_refused() {
        for stream in [
            "data: bad\n\n",
            "\u{feff}data: {}\n\n",
            "id: a\u{2028}data: {}\n\n",
            "event: endpoint\ndata: /a\ndata: /b\n\n",
            "id: \u{0}\n\n",
        ] {
            assert_eq!(pass(stream, 7), Err(Reason::McpAnswer), "{stream:?}");
        }
        let mut events = Events::new(looking());
        assert_eq!(events.pass(b"data: \xff\n\n", |_| Ok(Shown::Whole)), Err(Reason::McpAnswer));
    }

    #[test]
    fn a_refusal_finds_the_stream_that_named_the_place() {
        let looking = looking();
        let (asides, service) = (Arc::clone(&looking.asides), looking.service.clone());
        let mut events = Events::new(looking);
        for place in ["/messages?s=1", "http://s.test/messages?s=1"] {
            let stream = format!("event: endpoint\ndata: {place}\n\n");
            assert!(events.pass(stream.as_bytes(), |_| Ok(Shown::Whole)).is_ok());
            assert!(asides.find(&service, "/messages?s=2").is_none());
            let aside = asides.find(&service, "/messages?s=1").unwrap();
            assert!(aside.tell("{}"));
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let told = events.poll_refusal(&mut cx);
            assert_eq!(told, Poll::Ready(Bytes::from("event: message\ndata: {}\n\n")));
            assert_eq!(events.poll_refusal(&mut cx), Poll::Pending);
        }
        drop(events);
        assert!(asides.find(&service, "/messages?s=1").is_none());
    }

    #[test]
    fn an_event_is_bounded_and_gives_its_room_back() {
        let looking = looking();
        let store = looking.store.clone();
        let mut events = Events::new(looking);
        let line = ["data: ".to_owned(), "1".repeat(1024 * 1024), "\n".to_owned()].concat();
        for _ in 0..20 {
            assert!(events.pass(line.as_bytes(), |_| Ok(Shown::Whole)).is_ok());
            assert!(events.pass(b"\n", |_| Ok(Shown::Whole)).is_ok());
        }
        let rooms = || (store.all.available_permits(), store.own.available_permits());
        let free = (limits::MCP_HELD_BYTES_MAX, limits::MCP_HELD_BYTES_PER_SESSION_MAX);
        assert_eq!(rooms(), free);
        let large = (0..4).map(|_| events.pass(line.as_bytes(), |_| Ok(Shown::Whole))).collect::<Vec<_>>();
        assert_eq!(large.last(), Some(&Err(Reason::McpAnswer)));
        drop(events);
        assert_eq!(rooms(), free);
        // One session alone cannot take what all have.
        let mut held: Vec<_> = (0..9).map(|_| Held::new(store.clone())).collect();
        let full = vec![0; limits::MCP_MESSAGE_BYTES_MAX];
        let taken: Vec<_> = held.iter_mut().map(|held| held.extend(&full)).collect();
        assert_eq!(taken.last(), Some(&Err(Reason::Busy)));
        assert!(taken.iter().take(8).all(Result::is_ok));
        assert_eq!(Held::new(store.for_session()).extend(&full), Ok(()));
    }
}
