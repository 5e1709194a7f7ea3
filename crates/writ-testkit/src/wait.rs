//! Waiting for a condition, with a bound.

use std::time::Duration;

/// How long any condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(5);

/// Asks until the answer is there; panics with `what` when it does not come.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let mut left = PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        left = left.checked_sub(STEP).unwrap_or_else(|| panic!("waited in vain: {what}"));
        std::thread::park_timeout(STEP);
    }
}
