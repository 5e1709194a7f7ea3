//! The two keys: Cedar policies, asked once with the agent and once with the human as principal.
//!
//! [`PolicySet::load`] turns policy text and the catalog's services into a checked set, or into every problem at
//! once. [`Engine`] answers [`writ_gate::Decide`] from the set in force. [`check`] and [`run_samples`] are what
//! `writ policy check` and `writ policy test` print; [`explain`] says a verdict in sentences; [`Replay`] asks recorded
//! actions again and [`Suggest`] makes policies of them; [`can`], [`who_can`] and [`difference`] answer what people ask of
//! a set.
//!
//! Not here: reading files (the caller has the text), what an operation is (the catalog), what follows from a
//! verdict (the gate). Nothing does I/O or reads a clock (I6).
//!
//! Invariant: what is missing to decide means no (I8). A slice of the set gives the same decision, the same
//! determining policies and the same errors as Cedar's own authorizer over the whole set.

#![forbid(unsafe_code)]

mod ask;
mod engine;
mod explain;
mod index;
mod listing;
mod load;
mod place;
mod question;
mod reads;
mod replay;
mod sample;
mod schema;
mod set;
mod slice;
mod suggest;
mod turn;
mod view;
mod who_can;
mod words;

pub use ask::{Deed, Misasked, Pair, can};
pub use engine::{Engine, Observed};
pub use explain::explain;
pub use listing::{Changed, Difference, Listed, difference};
pub use replay::{Change, Decided, Replay, ReplayScope, Replayed, Skipped, SkippedCount};
pub use sample::{Expect, Outcome, Report, SAMPLE_KEYS, Sample, read_samples, run_samples};
pub use schema::schema_text;
pub use set::{Checked, PolicySet, check};
pub use suggest::{LeftOut, LeftOutCount, Open, Suggest, SuggestScope, Suggested, Suggestion};
pub use who_can::{Condition, Everybody, Holder, May, WhoCan, who_can};

#[cfg(test)]
mod tests;
