//! `writ verify`: the whole log, offline. No daemon is asked.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use writ_core::Layout;
use writ_core::event::Leaf;
use writ_evidence::{Report, VerifierKey};

use crate::args::{Record, Verify};
use crate::failure::Failure;
use crate::output::{Output, Style};

/// The report as JSON.
#[derive(Debug, Serialize)]
struct ReportJson<'a> {
    actions: u64,
    killed: u64,
    open: u64,
    origin: &'a str,
    since: Option<u64>,
    size: u64,
    unsigned: u64,
    verified: bool,
}

pub(crate) fn verify(layout: &Layout, ask: Verify, output: &mut Output) -> Result<ExitCode, Failure> {
    let folder = ask.folder.unwrap_or_else(|| layout.evidence());
    let key = key(&folder, ask.key)?;
    let older = ask.since_checkpoint.as_deref().map(text).transpose()?;
    let report = writ_evidence::verify(&folder, &key, older.as_deref());
    let report = report.map_err(|error| damaged(&folder, &error))?;
    show(&report, output)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a log that verifies, oldest leaf first. What was shown before a failure is not to be used.
pub(super) fn read(layout: &Layout, ask: Record, show: impl FnMut(&Leaf)) -> Result<(), Failure> {
    let folder = ask.evidence.unwrap_or_else(|| layout.evidence());
    let key = key(&folder, ask.key)?;
    let read = writ_evidence::read_verified(&folder, &key, None, show);
    read.map(drop).map_err(|error| damaged(&folder, &error))
}

fn damaged(folder: &Path, error: &writ_evidence::Error) -> Failure {
    let message = format!("the evidence in `{}` does not verify", folder.display());
    Failure::caused("evidence.damaged", message, error)
        .hint("keep a copy; what the log says from there on is not to be relied on")
}

/// The key that was given, or the one that lies beside the log. The latter proves only that log and key belong
/// together: whoever can rewrite the log can replace both.
fn key(folder: &Path, given: Option<String>) -> Result<VerifierKey, Failure> {
    let text = match given {
        Some(given) => given,
        None => text(&folder.join(writ_evidence::VERIFIER_KEY_FILE))?,
    };
    text.trim().parse().map_err(|error| {
        Failure::caused("cli.key", "the verifier key is not usable", &error).hint("write it as `NAME+ID+KEY`")
    })
}

fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
        let failure = Failure::caused("cli.read", format!("cannot read `{}`", path.display()), &error);
        if denied {
            failure.hint("the evidence is readable by root only; verify a copy, or use sudo")
        } else {
            failure
        }
    })
}

fn show(report: &Report, output: &mut Output) -> Result<(), Failure> {
    let Report { checkpoint, unsigned, actions, open, killed, since } = report;
    if output.is_json() {
        return output.object(&ReportJson {
            actions: *actions,
            killed: *killed,
            open: *open,
            origin: &checkpoint.origin,
            since: *since,
            size: checkpoint.size,
            unsigned: *unsigned,
            verified: true,
        });
    }
    output.line(&[
        (Style::Good, "verified"),
        (
            Style::Plain,
            &format!(": {} leaves of `{}` lead to the signed root", checkpoint.size, checkpoint.origin),
        ),
    ])?;
    output.text(&format!("{actions} actions have intent and receipt; {open} are open"))?;
    if *unsigned > 0 {
        output.text(&format!("{unsigned} newer leaves are durable and not signed yet"))?;
    }
    if *killed > 0 {
        output.text(&format!(
            "the daemon was killed {killed} times: each start after that closed what was open"
        ))?;
    }
    if let Some(since) = since {
        output.text(&format!("it continues the older checkpoint of {since} leaves unchanged"))?;
    }
    Ok(())
}
