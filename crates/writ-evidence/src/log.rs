//! The log as the daemon holds it: opened once, written by the sequencer, archived in the background, read by anyone.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use writ_core::Clock;
use writ_core::event::{ActionIntended, Event};
use writ_gate::{BoxFuture, Record, RecordError, Ticket, limits};
use writ_host::durable;

use crate::archive::Archive;
use crate::error::Error;
use crate::index::Index;
use crate::note::{Checkpoint, Signer};
use crate::recovery;
use crate::sequencer::{Job, Sequencer, State};
use crate::storage::{Disk, Storage};
use crate::tail::Tail;

/// Between two checkpoints while there is something new.
const PERIOD: Duration = Duration::from_secs(1);

/// The log's verifier key lies in this file of its folder, for whoever takes a copy away.
pub const VERIFIER_KEY_FILE: &str = "verifier-key";

/// Where a log lies.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Its folder, mode 0700.
    pub dir: PathBuf,
    /// Its unique name, which its key has too.
    pub origin: String,
    /// The seed of its Ed25519 key, mode 0600; made on first use.
    pub key_file: PathBuf,
}

/// How a log fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStatus {
    /// Durable leaves.
    pub size: u64,
    /// Leaves under the signed checkpoint.
    pub archived: u64,
    /// Bytes of the leaves recorded since the start.
    pub bytes: u64,
    /// Why it takes nothing at the moment.
    pub refusing: Option<String>,
    /// The verifier key.
    pub verifier_key: String,
}

/// An open log. Closed by [`Log::close`]; dropped without it, what was handed over is still made durable while a
/// recorder is held, and the archive catches up at the next start.
pub struct Log {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) index: Index,
    jobs: mpsc::UnboundedSender<Job>,
    state: Arc<State>,
    archive: Mutex<Archive>,
    checkpoint: Mutex<(Checkpoint, String)>,
    verifier_key: String,
    stop: AtomicBool,
    archiver: Mutex<Option<std::thread::Thread>>,
}

impl Log {
    /// Opens or makes the log, recovers it, and closes what was left open.
    #[expect(clippy::needless_pass_by_value, reason = "settings are written for this call alone")]
    pub fn open(settings: LogSettings, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let storage: Arc<dyn Storage> = Arc::new(Disk::open(&settings.dir).map_err(Error::written)?);
        let used = storage.read(crate::archive::CHECKPOINT.as_ref()).map_err(Error::read)?.is_some();
        let signer = signer(&settings, used)?;
        let index = Index::open(&settings.dir.join("index.sqlite"))?;
        Self::assemble(storage, signer, index, clock)
    }

    pub(crate) fn assemble(
        storage: Arc<dyn Storage>,
        signer: Signer,
        index: Index,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let key = format!("{}\n", signer.verifier());
        storage.replace(VERIFIER_KEY_FILE.as_ref(), key.as_bytes()).map_err(Error::written)?;
        let mut archive = Archive::open(Arc::clone(&storage), signer)?;
        let mut recovered = recovery::read(&*storage, &archive)?;
        let archived = archive.size();
        index.catch_up_or_rebuild(&*storage, archived)?;
        let receipts = recovery::missing_receipts(index.open_intents()?, &recovered.leaves);
        recovery::put_in_order(&*storage, &*clock, &mut recovered, archived, receipts)?;

        let next = archived + recovered.leaves.len() as u64;
        let tail = Arc::new(Tail::new(archived));
        let first = recovered.segment.as_ref().map_or(0, crate::segment::Segment::first);
        recovered.leaves.iter().for_each(|entry| archive.append(Arc::clone(&entry.bytes)));
        archive.sign()?;
        index.add(archived, &recovered.leaves)?;
        tail.push(archived, recovered.leaves, first);
        tail.archived(archive.size());

        let (jobs, receiver) = mpsc::unbounded_channel();
        let state = Arc::new(State::default());
        let sequencer = Sequencer {
            storage: Arc::clone(&storage),
            clock,
            segment: recovered.segment,
            next,
            jobs: receiver,
            sender: jobs.downgrade(),
            tail: Arc::clone(&tail),
            state: Arc::clone(&state),
        };
        let verifier_key = archive.verifier().to_string();
        let note = note_text(&*storage);
        let shared = Arc::new(Shared {
            storage,
            tail,
            index,
            jobs,
            state,
            checkpoint: Mutex::new((archive.signed().clone(), note)),
            archive: Mutex::new(archive),
            verifier_key,
            stop: AtomicBool::new(false),
            archiver: Mutex::new(None),
        });
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(Error::written)
        };
        let background = Arc::clone(&shared);
        let threads = vec![
            spawn("writ-sequencer", Box::new(move || sequencer.run()))?,
            spawn("writ-archive", Box::new(move || background.archive_until_stopped()))?,
        ];
        Ok(Self { shared, threads: Mutex::new(threads) })
    }

    /// The port that the gate records through.
    pub fn recorder(&self) -> Arc<dyn Record> {
        Arc::new(Recorder(Arc::clone(&self.shared)))
    }

    /// How it fares.
    pub fn status(&self) -> LogStatus {
        let state = &self.shared.state;
        LogStatus {
            size: self.shared.tail.size(),
            archived: lock(&self.shared.checkpoint).0.size,
            bytes: state.bytes.load(Ordering::Relaxed),
            refusing: state
                .refusing
                .load(Ordering::Acquire)
                .then(|| "the disk refuses the evidence".to_owned()),
            verifier_key: self.shared.verifier_key.clone(),
        }
    }

    /// The latest signed checkpoint: what it says, and the note. `None` before the first.
    pub fn checkpoint(&self) -> Option<(Checkpoint, String)> {
        let held = lock(&self.shared.checkpoint).clone();
        (!held.1.is_empty()).then_some(held)
    }

    /// Ends without making anything durable that is not, as when the process is killed.
    #[cfg(test)]
    pub(crate) fn kill(&self) {
        self.shared.state.killed.store(true, Ordering::Release);
        let (done, _) = oneshot::channel();
        drop(self.shared.jobs.send(Job::Close(done)));
        self.shared.stop.store(true, Ordering::Release);
        if let Some(archiver) = lock(&self.shared.archiver).as_ref() {
            archiver.unpark();
        }
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            thread.join().unwrap();
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Makes everything durable, signs a last checkpoint over it, and ends the log's threads. Gives up after
    /// [`limits::EVIDENCE_TIMEOUT`] if the disk refuses.
    pub async fn close(&self) -> Result<(), Error> {
        let (done, closed) = oneshot::channel();
        let asked = self.shared.jobs.send(Job::Close(done));
        if asked.is_ok() && tokio::time::timeout(limits::EVIDENCE_TIMEOUT, closed).await.is_err() {
            // What is not durable by now is lost with the process; the next start closes the intents.
            return Err(Error::written(std::io::Error::other("the disk refuses the last events")));
        }
        self.shared.stop.store(true, Ordering::Release);
        if let Some(archiver) = lock(&self.shared.archiver).as_ref() {
            archiver.unpark();
        }
        let threads = std::mem::take(&mut *lock(&self.threads));
        let joined =
            tokio::task::spawn_blocking(move || threads.into_iter().try_for_each(JoinHandle::join)).await;
        if !matches!(joined, Ok(Ok(()))) {
            return Err(Error::damaged("a thread of the log failed"));
        }
        self.shared.archive_new()
    }
}

impl Shared {
    fn archive_until_stopped(&self) {
        *lock(&self.archiver) = Some(std::thread::current());
        while !self.stop.load(Ordering::Acquire) {
            std::thread::park_timeout(PERIOD);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            if let Err(error) = self.archive_new() {
                // The segments keep everything; the next time tries again.
                tracing::error!(target: "writ::evidence", error = &error as &dyn std::error::Error, "no checkpoint could be made");
            }
        }
    }

    /// Takes over what is durable, signs, indexes, and puts segments aside that are no longer needed.
    pub(crate) fn archive_new(&self) -> Result<(), Error> {
        let mut archive = lock(&self.archive);
        let (fresh, segment) = self.tail.fresh();
        let known = usize::try_from(archive.size() - archive.signed().size).unwrap_or(usize::MAX);
        // What an earlier attempt appended and could not sign is not appended twice.
        fresh.iter().skip(known).for_each(|entry| archive.append(Arc::clone(&entry.bytes)));
        archive.sign()?;
        let size = archive.size();
        *lock(&self.checkpoint) = (archive.signed().clone(), note_text(&*self.storage));
        self.tail.archived(size);
        drop(archive);
        let base = size - fresh.len() as u64;
        let added = match self.index.size() {
            Ok(indexed) if indexed == base => self.index.add(base, &fresh),
            // An earlier attempt failed half-way.
            Ok(_) | Err(_) => self.index.catch_up_or_rebuild(&*self.storage, size),
        };
        if let Err(error) = added {
            // Readers then see less for a while; the next time makes it good. The log itself does not depend on it.
            tracing::error!(target: "writ::evidence", error = &error as &dyn std::error::Error, "the index cannot be kept");
        }
        // Not before: a reader that finds a leaf neither in memory nor in the index passes it over.
        self.tail.trim(self.index.size().unwrap_or(0));
        for (first, path) in crate::archive::segments(&*self.storage)? {
            // The one that is written stays, and so does any that holds what is not archived.
            if first < segment && segment <= size {
                crate::segment::retire(&*self.storage, &path).map_err(Error::written)?;
            }
        }
        Ok(())
    }
}

struct Recorder(Arc<Shared>);

impl Recorder {
    fn hand_over(&self, job: Job) -> Result<(), RecordError> {
        self.0.jobs.send(job).map_err(|_| RecordError("the log is closed".to_owned()))
    }

    fn refuses(&self) -> Result<(), RecordError> {
        // New actions are refused at once while the disk refuses; facts and receipts keep trying.
        if self.0.state.refusing.load(Ordering::Acquire) {
            return Err(RecordError("the disk refuses the evidence".to_owned()));
        }
        Ok(())
    }

    /// Hands over what somebody waits for, unless too many wait already.
    fn ask(&self, job: Job) -> Result<(), RecordError> {
        let waiting = &self.0.state.waiting;
        if waiting.fetch_add(1, Ordering::Relaxed) >= limits::EVIDENCE_QUEUE_MAX {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(RecordError("too many events wait for the disk".to_owned()));
        }
        self.hand_over(job).inspect_err(|_| {
            waiting.fetch_sub(1, Ordering::Relaxed);
        })
    }
}

impl Record for Recorder {
    fn intent(&self, intent: ActionIntended) -> BoxFuture<'_, Result<Ticket, RecordError>> {
        let (reply, answer) = oneshot::channel();
        let handed = self.refuses().and_then(|()| self.ask(Job::Intent(Box::new(intent), reply)));
        Box::pin(async move {
            handed?;
            answered(answer).await
        })
    }

    fn receipt(&self, ticket: Ticket, receipt: Event) {
        let _seq = ticket.spend();
        if self.hand_over(Job::Receipt(receipt)).is_err() {
            tracing::error!(target: "writ::evidence", "a receipt came after the log was closed; recovery will write one");
        }
    }

    fn fact(&self, event: Event) -> BoxFuture<'_, Result<(), RecordError>> {
        let (reply, answer) = oneshot::channel();
        let handed = self.ask(Job::Fact(event, reply));
        Box::pin(async move {
            handed?;
            answered(answer).await
        })
    }

    fn note(&self, event: Event) {
        let state = &self.0.state;
        if state.notes.fetch_add(1, Ordering::Relaxed) >= limits::EVIDENCE_QUEUE_MAX {
            state.notes.fetch_sub(1, Ordering::Relaxed);
            state.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        drop(self.hand_over(Job::Note(event)));
    }
}

async fn answered<T>(answer: oneshot::Receiver<Result<T, RecordError>>) -> Result<T, RecordError> {
    match tokio::time::timeout(limits::EVIDENCE_TIMEOUT, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(RecordError("the log is closed".to_owned())),
        Err(_) => Err(RecordError("the disk is too slow".to_owned())),
    }
}

/// The log's key: a seed of 32 bytes that is made on first use, and never for a log that has a signature.
fn signer(settings: &LogSettings, used: bool) -> Result<Signer, Error> {
    let path = &settings.key_file;
    let refused = |why| Error::Key { path: path.clone(), why };
    let seed = match durable::read(path).map_err(|error| Error::read(error.source))? {
        Some(seed) => seed,
        None if used => return Err(refused("it is gone, and the log was signed with it")),
        None => make_seed(path)?,
    };
    private(path).map_err(refused)?;
    Signer::from_seed(&settings.origin, &seed)
        .map_err(|_| refused("it is no seed of 32 bytes, or the origin is no key name"))
}

fn make_seed(path: &Path) -> Result<Vec<u8>, Error> {
    let mut seed = vec![0u8; 32];
    aws_lc_rs::rand::fill(&mut seed)
        .map_err(|_| Error::Key { path: path.to_owned(), why: "there is no randomness" })?;
    durable::replace(path, &seed, 0o600).map_err(|error| Error::written(error.source))?;
    Ok(seed)
}

fn private(path: &Path) -> Result<(), &'static str> {
    use std::os::unix::fs::MetadataExt;
    let about = std::fs::symlink_metadata(path).map_err(|_| "it cannot be read")?;
    if !about.is_file() || about.mode() & 0o077 != 0 {
        return Err("it must be a file that only its owner can read (mode 0600)");
    }
    Ok(())
}

fn note_text(storage: &dyn Storage) -> String {
    let note = storage.read(crate::archive::CHECKPOINT.as_ref()).ok().flatten();
    note.and_then(|note| String::from_utf8(note).ok()).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Log {
    fn drop(&mut self) {
        // Otherwise the archive's thread would hold the log, and its lock, for ever.
        self.shared.stop.store(true, Ordering::Release);
        if let Some(archiver) = lock(&self.shared.archiver).as_ref() {
            archiver.unpark();
        }
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("size", &self.shared.tail.size()).finish_non_exhaustive()
    }
}
