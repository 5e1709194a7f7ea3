//! When a connection has been quiet for too long.

use std::sync::Arc;

use crate::serving::{self, Serving};
use crate::strict;

/// Looks now and then whether a connection is used.
pub(crate) struct IdleWatch<L> {
    line: Arc<L>,
    wire: Option<Arc<strict::Wire>>,
    seen: (u64, u64),
    quiet_looks: u32,
}

pub(crate) enum Idle {
    Busy,
    /// Nothing has happened since the last look.
    Quiet,
    /// Nothing was asked for too long.
    TooLong,
    /// A head began and does not end.
    TooSlow,
}

impl<L: Serving> IdleWatch<L> {
    pub(crate) fn new(line: &Arc<L>, wire: Option<Arc<strict::Wire>>) -> Self {
        Self { line: Arc::clone(line), wire, seen: (0, 0), quiet_looks: 0 }
    }

    /// Waits for the next look. A head may take between one and two looks: time enough for any honest client.
    pub(crate) async fn next(&mut self) -> Idle {
        let between = self.line.common().settings.hello_timeout;
        tokio::time::sleep(between).await;
        let requests = self.line.pace().requests();
        let now = (requests, self.wire.as_ref().map_or(0, |wire| wire.moved()));
        let before = std::mem::replace(&mut self.seen, now);
        if self.wire.as_ref().is_some_and(|wire| wire.partial()) && before.0 == requests {
            self.quiet_looks += 1;
            return if self.quiet_looks > 1 { Idle::TooSlow } else { Idle::Busy };
        }
        if !serving::idle(&*self.line) || before != now {
            self.quiet_looks = 0;
            return Idle::Busy;
        }
        self.quiet_looks += 1;
        let quiet = between.saturating_mul(self.quiet_looks);
        if quiet >= self.line.common().settings.idle_timeout { Idle::TooLong } else { Idle::Quiet }
    }
}
