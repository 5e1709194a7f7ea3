//! Approvals: questions to people, and their answers.
//!
//! An action that policy lets be done with somebody's yes waits here. What is asked for is sealed: a digest over everything
//! that is sent, so that a yes holds for that and nothing else, also for the same request when it comes again. Not here: who
//! somebody is, and how they are reached. Invariants: every question, answer and end is on record before it has an effect, so
//! a restart brings all of them back; a yes for one action is spent once; of two answers that cross, the first on record
//! counts and the other is told so.
#![forbid(unsafe_code)]

mod approvals;
mod question;
mod seal;

pub use approvals::{Answered, Approvals, NotAnswered, Ports};
pub use question::{Answerer, Question};
