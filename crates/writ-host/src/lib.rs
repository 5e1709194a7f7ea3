//! What the host gives and pure code may not take for itself: the time, randomness, and files that last.
//!
//! The only crate below the programs that reads a clock.
#![forbid(unsafe_code)]

pub mod durable;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use writ_core::{Clock, IdSource, Timestamp};

/// The host's clocks: `CLOCK_REALTIME` and `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
    }
}

/// Ids from the kernel's random number generator, fetched for many ids at once: a relay makes several for each request.
#[derive(Debug, Default)]
pub struct SystemIds {
    pool: Mutex<Vec<u128>>,
}

/// Ids fetched at once: 4 KiB of randomness.
const IDS_AT_ONCE: usize = 256;

impl IdSource for SystemIds {
    fn random(&self) -> u128 {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = pool.pop() {
            return id;
        }
        let mut bytes = [0u8; IDS_AT_ONCE * 16];
        fill(&mut bytes);
        let (ids, _) = bytes.as_chunks::<16>();
        pool.extend(ids.iter().skip(1).map(|id| u128::from_ne_bytes(*id)));
        ids.first().map_or(0, |id| u128::from_ne_bytes(*id))
    }
}

#[expect(
    clippy::panic,
    reason = "no id may ever repeat, and getrandom(2) fails only on kernels that cannot run Writ"
)]
fn fill(bytes: &mut [u8]) {
    if let Err(error) = getrandom::fill(bytes) {
        panic!("the kernel gives no randomness: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_never_repeat_across_refills() {
        let ids = SystemIds::default();
        let seen: HashSet<u128> = (0..3 * IDS_AT_ONCE).map(|_| ids.random()).collect();
        assert_eq!(seen.len(), 3 * IDS_AT_ONCE);
    }
}
