//! The cut in the middle of what is under way: an action ends when the session that it acts in does, though the
//! connection, whose own session lives, goes on.
//!
//! A connection's own session cuts the whole connection and needs nothing of this. Invariant: whoever serves what is
//! followed drops it when [`Cut::fell`] is done, whether anybody reads or writes at that moment or not.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::watch;
use writ_gate::Session;

tokio::task_local! {
    /// That of the HTTP/2 stream which this task serves.
    static OF_STREAM: Arc<Cut>;
}

/// What the end of which session cuts: one HTTP/1 connection, or one HTTP/2 stream.
#[derive(Debug, Default)]
pub(crate) struct Cut(watch::Sender<Option<Arc<Session>>>);

impl Cut {
    /// Ends with this session until the answer is dropped, which holds `counted` as long.
    pub(crate) fn follow(self: &Arc<Self>, session: &Arc<Session>, counted: Arc<()>) -> Following {
        self.0.send_replace(Some(Arc::clone(session)));
        Following { cut: Arc::clone(self), _counted: counted }
    }

    /// Completes when a session that is followed ends.
    pub(crate) async fn fell(&self) {
        let mut follows = self.0.subscribe();
        loop {
            let session = follows.borrow_and_update().clone();
            let changed = async {
                if follows.changed().await.is_err() {
                    pending::<()>().await;
                }
            };
            match session {
                None => changed.await,
                Some(session) => tokio::select! {
                    biased;
                    () = session.ended() => return,
                    () = changed => {}
                },
            }
        }
    }

    /// That of the stream which this task serves.
    pub(crate) fn of_stream() -> Option<Arc<Self>> {
        OF_STREAM.try_with(Arc::clone).ok()
    }

    /// Serves a stream, until it ends or is cut.
    pub(crate) async fn stream(stream: impl Future) {
        let cut = Arc::new(Self::default());
        let followed = Arc::clone(&cut);
        let serving = OF_STREAM.scope(cut, stream);
        tokio::select! {
            biased;
            () = followed.fell() => {}
            _ = serving => {}
        }
    }
}

/// Follows a session until it is dropped.
#[derive(Debug)]
pub(crate) struct Following {
    cut: Arc<Cut>,
    _counted: Arc<()>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.cut.0.send_replace(None);
    }
}
