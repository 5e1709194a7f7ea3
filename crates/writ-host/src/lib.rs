//! What the host gives and pure code may not take for itself: the time, randomness, and files that last.
//!
//! The only crate below the programs that reads a clock.
#![forbid(unsafe_code)]

pub mod durable;

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

/// Ids from the kernel's random number generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl IdSource for SystemIds {
    #[expect(
        clippy::panic,
        reason = "no id may ever repeat, and getrandom(2) fails only on kernels that cannot run Writ"
    )]
    fn random(&self) -> u128 {
        let mut bytes = [0u8; 16];
        if let Err(error) = getrandom::fill(&mut bytes) {
            panic!("the kernel gives no randomness: {error}");
        }
        u128::from_ne_bytes(bytes)
    }
}
