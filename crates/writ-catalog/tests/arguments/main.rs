//! What a request says of what it does: typed arguments, and the root field of a GraphQL document.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod graphql;
mod support;
mod typed;
