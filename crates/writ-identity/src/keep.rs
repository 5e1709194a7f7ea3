//! Where the authority's keys are kept: the one thing that this crate asks of its surroundings.

use std::error::Error;
use std::fmt;

use writ_core::Secret;

/// What went wrong in the surroundings.
pub type KeepError = Box<dyn Error + Send + Sync>;

/// Sealed storage for a few small values: at most four, each below 16 KiB.
///
/// `store` returns when the value is durable; after a crash `load` gives the whole old value or the whole new one.
/// Values are sealed at rest and readable by nobody else. Names are of the alphabet `a-z` and `-`. Both may block for
/// as long as the disk does and may be called from any thread. An error leaves what was stored before.
pub trait Keep: Send + Sync + fmt::Debug {
    /// The value of that name; `None` if there never was one.
    fn load(&self, name: &str) -> Result<Option<Secret<[u8]>>, KeepError>;
    /// Makes this the value of that name.
    fn store(&self, name: &str, value: &[u8]) -> Result<(), KeepError>;
}
