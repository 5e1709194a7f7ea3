//! Reference pages that are written from the code, and compared with it by a test.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use writ_core::Reason;

use crate::configuration;

/// Writes every page.
pub(crate) fn write(root: &Path) -> Result<()> {
    for (path, text) in pages(root)? {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a page lies in a folder")?)?;
        #[expect(clippy::disallowed_methods, reason = "a generated page needs no durability")]
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The pages that are not what the code says.
pub(crate) fn stale(root: &Path) -> Result<Vec<String>> {
    let differs = |path: &str, text: &str| fs::read_to_string(root.join(path)).ok().as_deref() != Some(text);
    Ok(pages(root)?
        .into_iter()
        .filter(|(path, text)| differs(path, text))
        .map(|(path, _)| format!("{path}: is not what the code says; hint: `cargo xtask docs`"))
        .collect())
}

fn pages(root: &Path) -> Result<Vec<(&'static str, String)>> {
    let events = fs::read_to_string(root.join("crates/writ-core/src/event.rs"))?;
    let limits = fs::read_to_string(root.join("crates/writ-gate/src/limits.rs"))?;
    let mut pages = vec![
        ("docs/reference/reasons.md", reasons()?),
        ("docs/reference/events.md", events_page(&events)?),
        ("docs/reference/limits.md", limits_page(&limits)?),
        ("docs/reference/configuration.md", configuration::page()?),
    ];
    pages.extend(configuration::examples()?);
    Ok(pages)
}

fn reasons() -> Result<String> {
    let mut page = String::from(
        "# Reasons\n\nWhy something was refused or failed. A code is stable and may be matched on; the text is what the \
         agent is told; the hint is for the operator. Written from `writ-core/src/reason.rs`.\n\n\
         | code | origin | HTTP | what the agent is told | hint |\n| --- | --- | --- | --- | --- |\n",
    );
    for reason in Reason::ALL {
        let (code, origin) = (reason.code(), reason.origin().as_str());
        let (status, text, hint) = (reason.http_status(), reason.public_text(), reason.hint());
        writeln!(page, "| `{code}` | {origin} | {status} | {text} | {hint} |")?;
    }
    Ok(page)
}

/// The `events!` table of event.rs is regular enough to be read as text: kinds, docs and fields.
fn events_page(source: &str) -> Result<String> {
    let table = source.split_once("\nevents! {\n").context("event.rs has no events! table")?.1;
    let table = table.split_once("\n}\n").context("the events! table has no end")?.0;
    let mut page = String::from(
        "# Evidence events\n\nOne leaf each: `{\"body\":{...},\"kind\":\"...\",\"seq\":N,\"time_us\":N,\"v\":1}`, JSON in the \
         canonical form of RFC 8785. Written from `writ-core/src/event.rs`.\n",
    );
    let mut docs: Vec<&str> = Vec::new();
    for line in table.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim());
        } else if let Some(kind) = line.strip_prefix('"').and_then(|l| l.split_once('"')) {
            let doc = std::mem::take(&mut docs).join(" ");
            write!(page, "\n## `{}`\n{doc}\n\n| field | type | what |\n| --- | --- | --- |\n", kind.0)?;
        } else if let Some((field, kind)) = line.trim_end_matches(',').split_once(": ") {
            let doc = std::mem::take(&mut docs).join(" ");
            writeln!(page, "| `{field}` | `{kind}` | {doc} |")?;
        }
    }
    Ok(page)
}

fn limits_page(source: &str) -> Result<String> {
    let mut page = String::from(
        "# Limits\n\nEvery bound of the system. Written from `writ-gate/src/limits.rs`.\n\n\
         | limit | value | why |\n| --- | --- | --- |\n",
    );
    let mut docs: Vec<&str> = Vec::new();
    for line in source.lines() {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim());
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            let (name, rest) = rest.split_once(": ").context("a constant has a type")?;
            let value = rest.split_once(" = ").context("a constant has a value")?.1.trim_end_matches(';');
            writeln!(page, "| `{name}` | `{value}` | {} |", std::mem::take(&mut docs).join(" "))?;
        }
    }
    Ok(page)
}
