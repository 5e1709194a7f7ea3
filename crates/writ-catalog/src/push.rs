//! The commands of a git push over smart HTTP: which references it makes, changes and deletes (gitprotocol-pack(5), "Reference
//! Update Request", gitprotocol-http(5)).
//!
//! Not here: the pack after the commands. Whether an update is forced depends on what the server has and is said nowhere in the
//! request. A name that git itself would not take is refused, since other servers may resolve it to another reference; so are
//! signed pushes, whose commands stand elsewhere, and push options, which ask a server for more than the update of references.

use std::collections::BTreeSet;

use writ_core::Reason;
use writ_core::argument::{Argument, Pushed};
use writ_core::pkt::{Next, Packet, next};
use writ_core::service::RequestHead;

use crate::content;

const CONTENT_TYPE: &[u8] = b"application/x-git-receive-pack-request";

/// References that a push changes, by what happens to them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Push {
    refs: BTreeSet<String>,
    creates: BTreeSet<String>,
    deletes: BTreeSet<String>,
}

impl Push {
    /// Reads the commands at the beginning of a body. Without any, as git sends it to see whether it may push at all, nothing
    /// is changed.
    pub(crate) fn read(request: &RequestHead<'_>, body: &[u8]) -> Result<Self, Reason> {
        content::uncoded(request)?;
        let mut types = request.headers.all("content-type");
        if types.next().is_none_or(|kind| kind != CONTENT_TYPE) || types.next().is_some() {
            return Err(Reason::BodyRefused);
        }
        let (mut push, mut rest, mut digits) = (Self::default(), body, None);
        loop {
            let (line, after) = match next(rest) {
                Next::Packet(Packet::Line(line), after) => (line, after),
                Next::Packet(Packet::Flush, _) => return Ok(push),
                Next::Unfinished | Next::Malformed => return Err(Reason::BodyRefused),
            };
            rest = after;
            if push.refs.is_empty()
                && let Some(id) = line.strip_prefix(b"shallow ")
            {
                if !is_id(id) {
                    return Err(Reason::BodyRefused);
                }
                continue;
            }
            let command = if push.refs.is_empty() { without_capabilities(line)? } else { line };
            let command = Command::read(command)?;
            if *digits.get_or_insert(command.digits) != command.digits || !push.add(command) {
                return Err(Reason::AmbiguousRequest);
            }
        }
    }

    /// Takes a command in; `false` if its reference has one.
    fn add(&mut self, command: Command) -> bool {
        match command.change {
            Change::Create => self.creates.insert(command.name.clone()),
            Change::Delete => self.deletes.insert(command.name.clone()),
            Change::Update => true,
        };
        self.refs.insert(command.name)
    }

    /// This part of it, as an argument.
    pub(crate) fn part(&self, part: Pushed) -> Argument {
        Argument::Strings(match part {
            Pushed::Refs => self.refs.clone(),
            Pushed::Creates => self.creates.clone(),
            Pushed::Deletes => self.deletes.clone(),
        })
    }
}

/// The first command without the capabilities after it, none of which may add to what the commands say.
fn without_capabilities(line: &[u8]) -> Result<&[u8], Reason> {
    let at = line.iter().position(|b| *b == 0).unwrap_or(line.len());
    let (command, capabilities) = line.split_at_checked(at).unwrap_or((line, &[]));
    let adds = |capability: &[u8]| capability == b"push-options" || capability.starts_with(b"push-cert");
    let capabilities = capabilities.get(1..).unwrap_or_default();
    if command == b"push-cert" || capabilities.contains(&0) || capabilities.split(|b| *b == b' ').any(adds) {
        return Err(Reason::BodyRefused);
    }
    Ok(command)
}

/// What one command does with its reference.
enum Change {
    Create,
    Update,
    Delete,
}

/// `OLD NEW NAME`.
struct Command {
    change: Change,
    name: String,
    /// Hex digits of an object's id: 40 of SHA-1, 64 of SHA-256.
    digits: usize,
}

impl Command {
    fn read(line: &[u8]) -> Result<Self, Reason> {
        let line = std::str::from_utf8(line).map_err(|_| Reason::AmbiguousRequest)?;
        let mut words = line.splitn(3, ' ');
        let (Some(old), Some(new), Some(name)) = (words.next(), words.next(), words.next()) else {
            return Err(Reason::BodyRefused);
        };
        if old.len() != new.len() || !is_id(old.as_bytes()) || !is_id(new.as_bytes()) {
            return Err(Reason::BodyRefused);
        }
        if !is_reference(name) {
            return Err(Reason::AmbiguousRequest);
        }
        let none = |id: &str| id.bytes().all(|b| b == b'0');
        let change = match (none(old), none(new)) {
            (_, true) => Change::Delete,
            (true, false) => Change::Create,
            (false, false) => Change::Update,
        };
        Ok(Self { change, name: name.to_owned(), digits: old.len() })
    }
}

/// The id of an object, by SHA-1 or SHA-256.
fn is_id(id: &[u8]) -> bool {
    [40, 64].contains(&id.len()) && id.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether git takes it for a reference that can be pushed to (git-check-ref-format(1)).
fn is_reference(name: &str) -> bool {
    let refused = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    let part =
        |part: &str| !part.is_empty() && !part.starts_with('.') && part.strip_suffix(".lock").is_none();
    name.strip_prefix("refs/").is_some_and(|rest| rest.split('/').all(part))
        && !name.contains(refused)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
}

#[cfg(test)]
mod tests {
    use writ_core::service::Headers;

    use super::*;

    const OLD: &str = "1111111111111111111111111111111111111111";
    const NEW: &str = "2222222222222222222222222222222222222222";
    const NONE: &str = "0000000000000000000000000000000000000000";

    /// Lines of a request, each measured, the flush and the beginning of a pack.
    fn body(lines: &[String]) -> Vec<u8> {
        let lines: Vec<String> = lines.iter().map(|line| format!("{:04x}{line}", line.len() + 4)).collect();
        format!("{}0000PACK", lines.concat()).into_bytes()
    }

    fn read(lines: &[String]) -> Result<Push, Reason> {
        read_with(&[("content-type", CONTENT_TYPE)], &body(lines))
    }

    fn read_with(headers: &[(&str, &[u8])], body: &[u8]) -> Result<Push, Reason> {
        let head = RequestHead { method: "POST", path: "/", query: None, headers: Headers(headers) };
        Push::read(&head, body)
    }

    fn texts(of: &[&str]) -> Argument {
        Argument::Strings(of.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn what_happens_to_which_reference_is_read_from_the_commands() {
        let push = read(&[
            format!("shallow {OLD}"),
            format!("{OLD} {NEW} refs/heads/main\0 report-status atomic agent=git/2.43.0\n"),
            format!("{NONE} {NEW} refs/tags/v1\n"),
            format!("{OLD} {NONE} refs/heads/old"),
        ])
        .unwrap();
        assert_eq!(push.part(Pushed::Refs), texts(&["refs/heads/main", "refs/heads/old", "refs/tags/v1"]));
        assert_eq!(push.part(Pushed::Creates), texts(&["refs/tags/v1"]));
        assert_eq!(push.part(Pushed::Deletes), texts(&["refs/heads/old"]));
        let longer = [format!("{} {} refs/heads/a\0object-format=sha256", "1".repeat(64), "2".repeat(64))];
        assert_eq!(read(&longer).unwrap().part(Pushed::Refs), texts(&["refs/heads/a"]));
        assert_eq!(read(&[]), Ok(Push::default()), "a probe changes nothing");
    }

    #[test]
    fn what_is_no_plain_list_of_commands_is_refused() {
        let good = format!("{OLD} {NEW} refs/heads/main");
        for lines in [
            vec!["push-cert\0report-status\n".to_owned()],
            vec![format!("{good}\0report-status push-options")],
            vec![format!("{good}\0 push-cert=nonce")],
            vec![format!("{good}\0a\0b")],
            vec![format!("{OLD}  {NEW} refs/heads/main")],
            vec![format!("{OLD} {NEW}")],
            vec![format!("{} {NEW} refs/heads/main", "A".repeat(40))],
            vec![format!("{} {NEW} refs/heads/main", "1".repeat(64))],
            vec![good.clone(), format!("shallow {OLD}")],
        ] {
            assert_eq!(read(&lines), Err(Reason::BodyRefused), "{lines:?}");
        }
        for lines in [
            vec![good.clone(), good.clone()],
            vec![good.clone(), format!("{OLD} {NEW} refs/heads/a\0report-status")],
            vec![good.clone(), format!("{} {} refs/heads/a", "1".repeat(64), "2".repeat(64))],
        ] {
            assert_eq!(read(&lines), Err(Reason::AmbiguousRequest), "{lines:?}");
        }
        let whole = body(&[good]);
        let kind: (&str, &[u8]) = ("content-type", CONTENT_TYPE);
        assert!(read_with(&[kind], &whole).is_ok());
        for headers in [
            &[][..],
            &[kind, kind],
            &[kind, ("content-encoding", b"gzip")],
            &[("content-type", b"application/x-git-upload-pack-request")],
            &[("content-type", b"application/json")],
        ] {
            assert_eq!(read_with(headers, &whole), Err(Reason::BodyRefused), "{headers:?}");
        }
        for cut in [b"".as_slice(), b"0001", b"0004", &whole[..20], b"PACK"] {
            assert_eq!(read_with(&[kind], cut), Err(Reason::BodyRefused), "{cut:?}");
        }
    }

    #[test]
    fn names_are_those_that_git_takes() {
        for name in [
            "refs/heads/main",
            "refs/heads/a/b.c",
            "refs/tags/v1.0",
            "refs/for/main",
            "refs/heads/é",
            "refs/heads/a.LOCK",
        ] {
            assert!(is_reference(name), "{name}");
        }
        for name in [
            "",
            "HEAD",
            "main",
            "heads/main",
            "refs/",
            "refs",
            "/refs/heads/main",
            "refs//heads/main",
            "refs/heads/",
            "refs/heads/.a",
            "refs/heads/../tags/v1",
            "refs/heads/a..b",
            "refs/heads/a.lock",
            "refs/heads.lock/a",
            "refs/heads/a.",
            "refs/heads/a b",
            "refs/heads/a~1",
            "refs/heads/a^",
            "refs/heads/a:b",
            "refs/heads/a?",
            "refs/heads/*",
            "refs/heads/[a]",
            "refs/heads/a\\b",
            "refs/heads/@{u}",
            "refs/heads/a\n",
            "refs/heads/a\u{7f}",
            "REFS/heads/main",
            " refs/heads/main",
            "refs/./heads",
        ] {
            assert!(!is_reference(name), "{name}");
        }
    }
}
