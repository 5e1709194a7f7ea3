//! One session as a file: facts, no secret. Mode 0600, replaced whole, removed when the session ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use writ_core::{AgentName, Assurance, HumanId, RunId, SessionId, SpiffeId, Timestamp};
use writ_gate::{Human, Session, SessionFacts};
use writ_host::durable::{self, FileError};

use super::{Live, Start};
use crate::error::Error;

const SUFFIX: &str = ".json";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    id: SessionId,
    run: RunId,
    spiffe_id: SpiffeId,
    agent: AgentName,
    human: HumanId,
    groups: Vec<String>,
    uid: u32,
    login_uid: Option<u32>,
    audit_session: Option<u32>,
    purpose: String,
    opened: Timestamp,
    expires: Timestamp,
    assurance: Assurance,
    start: Start,
}

/// Makes the session last.
pub(super) fn write(folder: &Path, live: &Live) -> Result<(), FileError> {
    let SessionFacts { id, run, spiffe_id, agent, human, purpose, opened, expires, assurance } =
        live.session.facts().clone();
    let kept = Kept {
        version: VERSION,
        id,
        run,
        spiffe_id,
        agent,
        human: human.id,
        groups: human.groups,
        uid: human.uid,
        login_uid: human.login_uid,
        audit_session: human.audit_session,
        purpose,
        opened,
        expires,
        assurance,
        start: live.start.clone(),
    };
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
pub(super) fn read(path: &Path) -> Result<Option<Live>, Error> {
    let bytes = durable::read(path)?.unwrap_or_default();
    let Ok(kept) = serde_json::from_slice::<Kept>(&bytes) else { return Ok(None) };
    let named =
        path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem == kept.id.to_string());
    if kept.version != VERSION || !named || kept.uid == 0 {
        return Ok(None);
    }
    let facts = SessionFacts {
        id: kept.id,
        run: kept.run,
        spiffe_id: kept.spiffe_id,
        agent: kept.agent,
        human: Human {
            id: kept.human,
            groups: kept.groups,
            uid: kept.uid,
            login_uid: kept.login_uid,
            audit_session: kept.audit_session,
        },
        purpose: kept.purpose,
        opened: kept.opened,
        expires: kept.expires,
        assurance: kept.assurance,
    };
    Ok(Some(Live { session: Arc::new(Session::new(facts)), start: kept.start }))
}

fn path(folder: &Path, id: SessionId) -> PathBuf {
    folder.join(format!("{id}{SUFFIX}"))
}
