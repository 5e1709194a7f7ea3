//! An index over the archive: which bundles hold what, and which intents are open.
//!
//! It is `SQLite`, and never the truth: lost, damaged or stale it is made anew from the archive. Bundles, not leaves,
//! are indexed: a reader decodes the 256 leaves of a bundle that may hold what it looks for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};
use writ_core::ActionId;
use writ_core::event::Leaf;

use crate::archive::{Bytes, read_bundle};
use crate::error::Error;
use crate::facet::Facet;
use crate::storage::Storage;
use crate::tail::Entry;
use crate::tile::WIDTH;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS meta (id INTEGER PRIMARY KEY CHECK (id = 0), size INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS bundle (n INTEGER PRIMARY KEY, last_us INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS facet (kind TEXT, value TEXT, n INTEGER, PRIMARY KEY (kind, value, n)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS open_intent (action TEXT PRIMARY KEY, leaf BLOB NOT NULL) WITHOUT ROWID;
    INSERT OR IGNORE INTO meta VALUES (0, 0);";

pub(crate) struct Index {
    path: PathBuf,
    connection: Mutex<Connection>,
}

/// Which bundles a reader wants: all that hold every one of these facets.
pub(crate) type Wanted = Vec<(&'static str, String)>;

impl Index {
    /// Opens the index; one that cannot be used is begun anew.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let connection = connect(path).or_else(|error| {
            tracing::warn!(target: "writ::evidence", %error, "the index is not usable and is made anew");
            begin_anew(path)
        })?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many leaves it covers.
    pub(crate) fn size(&self) -> Result<u64, Error> {
        let size: i64 =
            self.lock().query_row("SELECT size FROM meta", [], |row| row.get(0)).map_err(unusable)?;
        Ok(u64::try_from(size).unwrap_or(0))
    }

    /// Reads what the archive has beyond the index; an index that cannot be used for that is made anew.
    pub(crate) fn catch_up_or_rebuild(&self, storage: &dyn Storage, size: u64) -> Result<(), Error> {
        match self.catch_up(storage, size) {
            Err(Error::Disk { verb: INDEXED, .. }) => self.rebuild(storage, size),
            done => done,
        }
    }

    /// Makes the index anew from the archive of this size.
    pub(crate) fn rebuild(&self, storage: &dyn Storage, size: u64) -> Result<(), Error> {
        *self.lock() = begin_anew(&self.path)?;
        self.catch_up(storage, size)
    }

    /// Reads what the archive has beyond the index. An index that claims more than there is begins anew.
    fn catch_up(&self, storage: &dyn Storage, size: u64) -> Result<(), Error> {
        let mut from = self.size()?;
        if from > size {
            self.clear()?;
            from = 0;
        }
        while from < size {
            let bundle = from / WIDTH;
            let width = (size - bundle * WIDTH).min(WIDTH);
            let skip = usize::try_from(from - bundle * WIDTH).unwrap_or(usize::MAX);
            let mut entries = Vec::new();
            for bytes in read_bundle(storage, bundle, width)?.into_iter().skip(skip) {
                let leaf =
                    Leaf::decode(&bytes).map_err(|error| Error::damaged(format!("leaf {from}: {error}")))?;
                entries.push(Entry { facet: Facet::of(&leaf), bytes: Bytes::from(bytes) });
            }
            self.add(from, &entries)?;
            from = bundle * WIDTH + width;
        }
        Ok(())
    }

    /// Adds the leaves that begin with number `first`, which is where the index ends.
    pub(crate) fn add(&self, first: u64, entries: &[Entry]) -> Result<(), Error> {
        let mut facets: BTreeSet<(&'static str, String, i64)> = BTreeSet::new();
        let mut times: BTreeMap<i64, i64> = BTreeMap::new();
        let mut open: HashMap<ActionId, &Bytes> = HashMap::new();
        let mut closed = Vec::new();
        for (Entry { facet, bytes }, seq) in entries.iter().zip(first..) {
            let bundle = integer(seq / WIDTH);
            let last = times.entry(bundle).or_default();
            *last = (*last).max(integer(facet.time.micros()));
            facets.extend(values(facet).into_iter().map(|(kind, value)| (kind, value, bundle)));
            if let Some(action) = facet.opens {
                open.insert(action, bytes);
            }
            if let Some(action) = facet.closes
                && open.remove(&action).is_none()
            {
                closed.push(action);
            }
        }
        let mut connection = self.lock();
        let mut write = || -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            {
                let mut bundle = transaction.prepare_cached(
                    "INSERT INTO bundle VALUES (?1, ?2) ON CONFLICT (n) DO UPDATE SET last_us = max(last_us, ?2)",
                )?;
                let mut facet =
                    transaction.prepare_cached("INSERT OR IGNORE INTO facet VALUES (?1, ?2, ?3)")?;
                let mut opened =
                    transaction.prepare_cached("INSERT OR REPLACE INTO open_intent VALUES (?1, ?2)")?;
                let mut ended = transaction.prepare_cached("DELETE FROM open_intent WHERE action = ?1")?;
                times.iter().try_for_each(|(n, last)| bundle.execute(params![n, last]).map(drop))?;
                facets
                    .iter()
                    .try_for_each(|(kind, value, n)| facet.execute(params![kind, value, n]).map(drop))?;
                closed.iter().try_for_each(|action| ended.execute(params![action.to_string()]).map(drop))?;
                open.iter().try_for_each(|(action, leaf)| {
                    opened.execute(params![action.to_string(), &leaf[..]]).map(drop)
                })?;
            }
            transaction
                .execute("UPDATE meta SET size = ?1", params![integer(first + entries.len() as u64)])?;
            transaction.commit()
        };
        write().map_err(unusable)
    }

    fn clear(&self) -> Result<(), Error> {
        let sql = "DELETE FROM bundle; DELETE FROM facet; DELETE FROM open_intent; UPDATE meta SET size = 0;";
        self.lock().execute_batch(sql).map_err(unusable)
    }

    /// The leaves of intents that have no receipt in the archive.
    pub(crate) fn open_intents(&self) -> Result<Vec<Vec<u8>>, Error> {
        let connection = self.lock();
        let mut statement =
            connection.prepare("SELECT leaf FROM open_intent ORDER BY action").map_err(unusable)?;
        let rows = statement.query_map([], |row| row.get(0)).map_err(unusable)?;
        rows.collect::<rusqlite::Result<_>>().map_err(unusable)
    }

    /// The next bundle at or behind `from` that may hold a leaf with all these facets, not older than `since`.
    pub(crate) fn next_bundle(
        &self,
        from: u64,
        since_us: u64,
        wanted: &Wanted,
    ) -> Result<Option<u64>, Error> {
        let connection = self.lock();
        let mut sql = String::from("SELECT n FROM bundle WHERE n >= ?1 AND last_us >= ?2");
        let mut values: Vec<rusqlite::types::Value> = vec![integer(from).into(), integer(since_us).into()];
        for (kind, value) in wanted {
            let at = values.len();
            let (kind_at, value_at) = (at + 1, at + 2);
            sql.push_str(" AND EXISTS (SELECT 1 FROM facet WHERE facet.n = bundle.n");
            for (column, place) in [("kind", kind_at), ("value", value_at)] {
                sql.extend([" AND facet.", column, " = ?", &place.to_string()]);
            }
            sql.push(')');
            values.push((*kind).to_owned().into());
            values.push(value.clone().into());
        }
        sql.push_str(" ORDER BY n LIMIT 1");
        let mut statement = connection.prepare_cached(&sql).map_err(unusable)?;
        let found =
            statement.query_row(rusqlite::params_from_iter(values), |row| row.get::<_, i64>(0)).optional();
        Ok(found.map_err(unusable)?.and_then(|n| u64::try_from(n).ok()))
    }
}

fn values(facet: &Facet) -> Vec<(&'static str, String)> {
    let texts = [
        ("session", facet.session.map(|v| v.to_string())),
        ("agent", facet.agent.as_ref().map(ToString::to_string)),
        ("human", facet.human.as_ref().map(ToString::to_string)),
        ("service", facet.service.as_ref().map(ToString::to_string)),
        ("denied", facet.denied.then(|| "1".to_owned())),
        ("opening", (facet.kind == "session.opened").then(|| "1".to_owned())),
    ];
    texts.into_iter().filter_map(|(kind, value)| Some((kind, value?))).collect()
}

fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The verb of the errors that only the index has.
const INDEXED: &str = "indexed";

fn unusable(error: rusqlite::Error) -> Error {
    Error::Disk { verb: INDEXED, source: std::io::Error::other(error) }
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.execute_batch(SCHEMA)?;
        connection.query_row("SELECT size FROM meta", [], |row| row.get::<_, i64>(0))?;
        let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if check == "ok" { Ok(connection) } else { Err(rusqlite::Error::InvalidQuery) }
    };
    open().map_err(unusable)
}

fn begin_anew(path: &Path) -> Result<Connection, Error> {
    for ending in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(format!("{}{ending}", path.display())));
    }
    connect(path)
}
