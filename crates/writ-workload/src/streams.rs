//! The tasks of one connection's calls.

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Runs the calls of one HTTP/2 connection.
#[derive(Clone, Default)]
pub(crate) struct Streams {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Streams {
    /// Cuts them all when it is dropped: they must not outlive the connection.
    pub(crate) fn cut(&self) -> DropGuard {
        self.stop.clone().drop_guard()
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(stream));
    }
}
