//! What is printed, and where. The rules, for every command:
//!
//! * the result goes to stdout, and nothing else does; notes, progress, prompts and failures go to stderr;
//! * a failure is `error: ...` and, where something can be done, `hint: ...`; with `--json` it is one JSON object;
//! * with `--json` the result is one JSON object, or one a line for `log`; times are RFC 3339 in UTC;
//! * without, times are local, tables are aligned, and an empty result says so on stderr;
//! * colours only on a terminal, never with `NO_COLOR`, never as the only carrier of meaning;
//! * control characters never reach the terminal: what agents, files and services say is escaped here.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::args::Color;
use crate::failure::Failure;
use crate::table::Table;

/// How a piece of text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Strong,
    Faint,
    Good,
    Warn,
    Bad,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\x1b[1m",
            Self::Faint => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
}

/// Where a command prints. The only place that writes to stdout or stderr.
pub(crate) struct Output {
    json: bool,
    colored: bool,
    colored_errors: bool,
    out: io::BufWriter<io::Stdout>,
}

impl Output {
    pub(crate) fn new(json: bool, color: Color) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colored = |terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !plain,
        };
        Self {
            json,
            colored: colored(io::stdout().is_terminal()) && !json,
            colored_errors: colored(io::stderr().is_terminal()),
            out: io::BufWriter::new(io::stdout()),
        }
    }

    /// Whether the result is to be JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// The result as one JSON object on one line.
    pub(crate) fn object(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::caused("cli.output", "cannot write the result as JSON", &error))?;
        self.write(&text)
    }

    /// Text that is the result as it stands, such as a script.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).or_else(|error| written(&error))
    }

    /// One line of the result.
    pub(crate) fn line(&mut self, pieces: &[(Style, &str)]) -> Result<(), Failure> {
        let line = pieces
            .iter()
            .map(|(style, text)| paint(self.colored, *style, &printable(text)))
            .collect::<String>();
        self.write(line.trim_end())
    }

    /// A result of several lines.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        text.lines().try_for_each(|line| self.line(&[(Style::Plain, line)]))
    }

    /// A table, its heading faint; `nothing` is said on stderr when it has no rows.
    pub(crate) fn table(&mut self, table: &Table, nothing: &str) -> Result<(), Failure> {
        if table.is_empty() {
            self.note(nothing);
            return Ok(());
        }
        let colored = self.colored;
        table.lines(|style, text| paint(colored, style, text)).iter().try_for_each(|line| self.write(line))
    }

    fn write(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.out, "{line}").or_else(|error| written(&error))
    }

    /// Sends what was printed on its way.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().or_else(|error| written(&error))
    }

    /// Something worth knowing that is no result. Not said with `--json`.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.json {
            complain(&printable(text));
        }
    }

    /// What the human must do for the command to go on. Said on stderr, with `--json` too.
    pub(crate) fn ask(&mut self, text: &str) {
        // If what was printed before cannot be shown, this is still to be said.
        let _shown = self.flush();
        text.lines().for_each(|line| complain(&printable(line)));
    }

    /// What went wrong.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        // What was printed before it is shown before it; if that fails too, this is still the thing to say.
        let _shown = self.flush();
        if self.json {
            complain(&serde_json::to_string(&failure.json()).unwrap_or_default());
            return;
        }
        for line in failure.lines() {
            let style = if line.starts_with("error:") { Style::Bad } else { Style::Plain };
            complain(&paint(self.colored_errors, style, &printable(&line)));
        }
    }
}

/// Nobody reads on (`writ log | head`): no failure of ours.
fn written(error: &io::Error) -> Result<(), Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(Failure::caused("cli.output", "cannot write the result", error))
}

#[expect(clippy::print_stderr, reason = "the one place that writes to stderr")]
fn complain(line: &str) {
    eprintln!("{line}");
}

fn paint(colored: bool, style: Style, text: &str) -> String {
    if colored && style != Style::Plain && !text.is_empty() {
        format!("{}{text}\x1b[0m", style.code())
    } else {
        text.to_owned()
    }
}

/// `1 service`, `2 services`.
pub(crate) fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    let plural = match noun.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{noun}s"),
    };
    format!("{number} {}", if number == 1 { noun } else { &plural })
}

/// The text without anything that a terminal would obey or that would hide what follows.
pub(crate) fn printable(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert_eq!(printable("a\x1b[2Jb\r\n\u{202e}c\u{9b}é"), "a\\u{1b}[2Jb\\r\\n\\u{202e}c\\u{9b}é");
    }
}
