//! The listener on the control socket: a bounded number of connections, each an owned task, drained at the end.
//!
//! One user cannot keep others out: each uid has its own bound, and root does not count against the common one. A
//! peer that the kernel cannot name is hung up on.

mod reply;
mod route;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use writ_gate::limits;

use crate::access::Access;
use crate::daemon::{Daemon, Opening};
use crate::peer::Caller;

/// The control socket, bound and ready to be served.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
}

/// The control socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon answers on it.
    #[error("another daemon listens on `{}`; hint: stop it, or use another `--root`", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket lies there.
    #[error("`{}` is in the way and no socket; hint: remove it", .0.display())]
    NoSocket(PathBuf),
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
    /// Binds the socket, in place of one that a killed daemon left behind. Everyone may connect; what each may do
    /// is decided per operation. Must be called within a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let refused = |source| BindError::Refused { path: path.to_owned(), source };
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
        Ok(Self { listener })
    }

    /// Answers until `stop` is cancelled, then lets requests under way end, at most
    /// [`limits::CONTROL_DRAIN_TIMEOUT`]. Dropping the future ends everything at once.
    pub async fn serve(self, daemon: Arc<dyn Daemon>, access: Access, stop: CancellationToken) {
        let context = Arc::new(Context { daemon, access, stop: stop.clone() });
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
                        let uid = caller.uid();
                        let task = tasks.spawn(connection(stream, caller, Arc::clone(&context)));
                        open.enter(task.id(), uid);
                    }
                }
                Err(error) => {
                    // Out of descriptors, most likely: accepting again at once would only spin.
                    tracing::warn!(target: "writ::control", %error, "cannot accept");
                    let pause = tokio::time::sleep(std::time::Duration::from_millis(100));
                    tokio::select! { () = pause => {}, () = stop.cancelled() => break }
                }
            }
        }
        let drained = async { while tasks.join_next().await.is_some() {} };
        if timeout(limits::CONTROL_DRAIN_TIMEOUT, drained).await.is_err() {
            tracing::warn!(target: "writ::control", left = tasks.len(), "requests cut at the end");
        }
        tasks.shutdown().await;
    }
}

/// What every connection needs.
struct Context {
    daemon: Arc<dyn Daemon>,
    access: Access,
    stop: CancellationToken,
}

/// What belongs to one connection.
struct Connected {
    caller: Caller,
    /// The run that was opened here and is not ready yet; forgotten with the connection.
    opening: Mutex<Option<Box<dyn Opening>>>,
}

/// Who has connections open.
#[derive(Default)]
struct Open {
    uids: HashMap<u32, usize>,
    tasks: HashMap<tokio::task::Id, u32>,
}

impl Open {
    /// The peer, if it is known and within the bounds. A refused one is hung up on by dropping the stream.
    fn admit(&self, stream: &UnixStream) -> Option<Caller> {
        let caller = match Caller::of(stream.as_fd()) {
            Ok(caller) => caller,
            Err(error) => {
                tracing::warn!(target: "writ::control", error = %error, "unknown peer hung up on");
                return None;
            }
        };
        let uid = caller.uid();
        let root = self.uids.get(&0).copied().unwrap_or(0);
        let full = self.uids.get(&uid).is_some_and(|n| *n >= limits::CONTROL_CONNECTIONS_PER_UID_MAX)
            || (uid != 0 && self.tasks.len() - root >= limits::CONTROL_CONNECTIONS_MAX);
        if full {
            tracing::warn!(target: "writ::control", uid, "too many control connections");
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

async fn connection(stream: UnixStream, caller: Caller, context: Arc<Context>) {
    let stop = context.stop.clone();
    // Requests on one connection come one after the other, so the lock is never waited for.
    let peer = Arc::new(Connected { caller, opening: Mutex::default() });
    let answer = service_fn(move |request| {
        let (peer, context) = (Arc::clone(&peer), Arc::clone(&context));
        async move { Ok::<_, Infallible>(route::answer(&context, &peer, request).await) }
    });
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::CONTROL_TIMEOUT)
        .max_buf_size(limits::HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    let mut http = pin!(http);
    let ended = tokio::select! {
        ended = http.as_mut() => ended,
        () = stop.cancelled() => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(target: "writ::control", %error, "control connection broke");
    }
}
