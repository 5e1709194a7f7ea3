//! When something that ends is renewed: early enough to be published, and not all at the same moment.

use std::time::Duration;

use writ_core::{IdSource, Timestamp};

/// Half of the life that lies between two moments, give or take a tenth of that half at random.
pub fn half_life(from: Timestamp, to: Timestamp, ids: &dyn IdSource) -> Timestamp {
    from.plus(jittered(to.since(from) / 2, ids))
}

/// A duration, give or take a tenth of it at random.
pub fn jittered(duration: Duration, ids: &dyn IdSource) -> Duration {
    // Of the 128 random bits only the low 80 are used by ids; twenty of them are plenty here.
    let part = u32::try_from(ids.random() & 0xf_ffff).unwrap_or(0);
    // 90 % and up to a fifth more.
    duration.mul_f64(0.9 + 0.2 * f64::from(part) / f64::from(0xf_ffff))
}
