//! The listener on the Workload API's socket: who connects is named by the kernel, and held.
//!
//! Everyone may connect; what each is told is decided by what the caller is. One user cannot keep others out: each uid
//! has its own bound, and root does not count against the common one. A connection ends with the process that made
//! it, whoever else may hold its socket by then.

mod authority;
mod calls;

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use writ_gate::limits;

use crate::Parts;
use crate::caller::Caller;
use crate::streams::Streams;
use crate::token::Tokens;
use authority::Readable;
use calls::Calls;

/// The Workload API's socket, bound and ready to be served.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    tokens: Option<Arc<Tokens>>,
}

/// The socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon answers on it.
    #[error("another daemon listens on `{}`; hint: stop it, or use another `--root`", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket lies there.
    #[error("`{}` is in the way and no socket; hint: remove it", .0.display())]
    NoSocket(PathBuf),
    /// Others can write in its folder, and so put another socket in its place.
    #[error("others may write in `{}`; hint: it must belong to the daemon's user, with mode 0755", .0.display())]
    Exposed(PathBuf),
    /// The kernel refused.
    #[error("cannot listen on `{}`", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Server {
    /// Binds the socket, in place of one that a killed daemon left behind. Must be called within a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let refused = |source| BindError::Refused { path: path.to_owned(), source };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let found = std::fs::metadata(folder).map_err(refused)?;
        let own = std::fs::metadata("/proc/self").map_err(refused)?.uid();
        if found.uid() != own || found.permissions().mode() & 0o022 != 0 {
            return Err(BindError::Exposed(folder.to_owned()));
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(BindError::NoSocket(path.to_owned())),
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(BindError::InUse(path.to_owned()));
            }
            Ok(_) => std::fs::remove_file(path).map_err(refused)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refused(error)),
        }
        let listener = UnixListener::bind(path).map_err(refused)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(refused)?;
        Ok(Self { listener, tokens: None })
    }

    /// Exchanges tokens here too, for the processes that the kernel names.
    pub fn with_tokens(self, tokens: Arc<Tokens>) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// Answers until `stop` is cancelled, then tells every stream that it ends, which takes at most
    /// [`limits::WORKLOAD_DRAIN_TIMEOUT`]. Dropping the future ends everything at once.
    pub async fn serve(self, parts: Parts, stop: CancellationToken) {
        let calls = Arc::new(Calls::new(parts, self.tokens, stop.clone()));
        let mut tasks = JoinSet::new();
        let mut open = Open::default();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                    open.leave(ended.map_or_else(|e| e.id(), |(id, ())| id));
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    if let Some(caller) = open.admit(&stream) {
                        let uid = caller.peer().uid();
                        let task = tasks.spawn(connection(stream, caller, Arc::clone(&calls), stop.clone()));
                        open.enter(task.id(), uid);
                    }
                }
                Err(error) => {
                    // Out of descriptors, most likely: accepting again at once would only spin.
                    tracing::warn!(target: "writ::workload", %error, "cannot accept");
                    let pause = tokio::time::sleep(Duration::from_millis(100));
                    tokio::select! { () = pause => {}, () = stop.cancelled() => break }
                }
            }
        }
        let drained = async { while tasks.join_next().await.is_some() {} };
        if timeout(limits::WORKLOAD_DRAIN_TIMEOUT, drained).await.is_err() {
            tracing::debug!(target: "writ::workload", left = tasks.len(), "connections cut at the end");
        }
        tasks.shutdown().await;
    }
}

/// Who has connections open.
#[derive(Default)]
struct Open {
    uids: HashMap<u32, usize>,
    tasks: HashMap<tokio::task::Id, u32>,
}

impl Open {
    /// The caller, if it is known and within the bounds. A refused one is hung up on by dropping the stream.
    fn admit(&self, stream: &UnixStream) -> Option<Caller> {
        let caller = match Caller::of(stream.as_fd()) {
            Ok(caller) => caller,
            Err(error) => {
                tracing::warn!(target: "writ::workload", %error, "unknown caller hung up on");
                return None;
            }
        };
        let uid = caller.peer().uid();
        let root = self.uids.get(&0).copied().unwrap_or(0);
        let full = self.uids.get(&uid).is_some_and(|n| *n >= limits::WORKLOAD_CONNECTIONS_PER_UID_MAX)
            || (uid != 0 && self.tasks.len() - root >= limits::WORKLOAD_CONNECTIONS_MAX);
        if full {
            tracing::warn!(target: "writ::workload", uid, "too many connections");
        }
        (!full).then_some(caller)
    }

    fn enter(&mut self, task: tokio::task::Id, uid: u32) {
        *self.uids.entry(uid).or_default() += 1;
        self.tasks.insert(task, uid);
    }

    fn leave(&mut self, task: tokio::task::Id) {
        let Some(uid) = self.tasks.remove(&task) else { return };
        if let Some(count) = self.uids.get_mut(&uid) {
            *count -= 1;
            if *count == 0 {
                self.uids.remove(&uid);
            }
        }
    }
}

async fn connection(stream: UnixStream, caller: Caller, calls: Arc<Calls>, stop: CancellationToken) {
    let gone = match caller.gone() {
        Ok(gone) => gone,
        Err(error) => {
            tracing::warn!(target: "writ::workload", %error, "a caller cannot be watched");
            return;
        }
    };
    let streams = Streams::default();
    let _cut = streams.cut();
    let (caller, asked) = (Arc::new(caller), CancellationToken::new());
    let first = asked.clone();
    let service = service_fn(move |request| {
        asked.cancel();
        calls.answer(Arc::clone(&caller), request)
    });
    let window = u32::try_from(limits::WORKLOAD_MESSAGE_BYTES_MAX).unwrap_or(u32::MAX);
    let http = hyper::server::conn::http2::Builder::new(streams)
        .timer(TokioTimer::new())
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .max_send_buf_size(limits::WORKLOAD_MESSAGE_BYTES_MAX)
        .max_concurrent_streams(limits::WORKLOAD_STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits::WEB_HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .serve_connection(TokioIo::new(Readable::new(stream)), service);
    let silent = async {
        if timeout(limits::WORKLOAD_HELLO_TIMEOUT, first.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let mut http = pin!(http);
    let ended = tokio::select! {
        ended = http.as_mut() => ended,
        () = gone => return,
        () = silent => return,
        () = stop.cancelled() => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(target: "writ::workload", %error, "a connection broke");
    }
}
