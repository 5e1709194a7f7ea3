//! The crate from outside: what is missing, what is wrong, what is shipped.

mod missing;
mod problems;
mod shipped;
mod support;
