//! One session as a file: facts, no secret. Mode 0600, replaced whole, removed when the session ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use writ_core::SessionId;
use writ_gate::{Delegation, Ledger, Session, SessionFacts};
use writ_host::durable::{self, FileError};

use super::{Live, Start};
use crate::error::Error;

const SUFFIX: &str = ".json";
const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    facts: SessionFacts,
    start: Start,
}

/// Makes the session last.
pub(super) fn write(folder: &Path, live: &Live) -> Result<(), FileError> {
    let facts = live.session.facts().clone();
    let id = facts.id;
    let kept = Kept { version: VERSION, facts, start: live.start.clone() };
    // Strings, numbers and lists always become JSON; an empty file would be refused when it is read.
    let bytes = serde_json::to_vec_pretty(&kept).unwrap_or_default();
    durable::replace(&path(folder, id), &bytes, 0o600)
}

/// Forgets the session.
pub(super) fn remove(folder: &Path, id: SessionId) -> Result<(), FileError> {
    durable::remove(&path(folder, id))
}

/// Every kept session's file, oldest first.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Folder { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.to_str().is_some_and(|path| path.ends_with(SUFFIX)) {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Reads one back; `None` if it is no session, or not the one that its name says.
pub(super) fn read(
    path: &Path,
    ledger: impl FnOnce(&Delegation) -> Arc<Ledger>,
) -> Result<Option<Live>, Error> {
    let bytes = durable::read(path)?.unwrap_or_default();
    let Ok(kept) = serde_json::from_slice::<Kept>(&bytes) else { return Ok(None) };
    let Kept { version, facts, start } = kept;
    let named =
        path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem == facts.id.to_string());
    if version != VERSION || !named || facts.human.uid == 0 {
        return Ok(None);
    }
    let ledger = ledger(&facts.delegation);
    Ok(Some(Live { session: Arc::new(Session::sharing(facts, ledger)), start }))
}

fn path(folder: &Path, id: SessionId) -> PathBuf {
    folder.join(format!("{id}{SUFFIX}"))
}
