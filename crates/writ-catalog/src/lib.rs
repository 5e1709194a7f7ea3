//! The catalog: which services there are, and which operation a request is.
//!
//! A service is one file, `services/NAME.toml`:
//!
//! ```toml
//! name = "forge"
//! hosts = ["forge.example.com", "*.cdn.example.com"]
//! ports = [443]
//! protocol = "https"
//!
//! [upstream]
//! address = "127.0.0.1:8443"
//! ca_file = "/etc/writ/forge-ca.pem"
//!
//! [credential]
//! secret = "forge-token"
//! place = { basic = "x-access-token" }
//!
//! [[operation]]
//! name = "repo.fetch"
//! effect = "read"
//! methods = ["GET"]
//! path = "/{owner}/{repo}.git/info/refs"
//! query = { service = "git-upload-pack" }
//!
//! [[operation]]
//! name = "issues.create"
//! effect = "write"
//! methods = ["POST"]
//! path = "/api/repos/{owner}/{repo}/issues"
//! arguments = { title = "body:/title string", labels = "body:/labels strings?" }
//! ```
//!
//! Every key is described in [`KEYS`]. A set of files becomes [`Services`], checked as a whole: two services never
//! claim the same destination. [`CatalogStore`] holds the set in force and answers the gate.
//!
//! Not here: dialling, placing a credential, reading files. Pure and without a clock. Invariant: a request that
//! could be read in more than one way is refused, and one that matches no rule is no operation.
#![forbid(unsafe_code)]

mod argument;
mod check;
mod content;
mod file;
mod form;
mod graphql;
mod header;
mod json;
mod keys;
mod matching;
mod mcp;
mod method;
mod operation;
mod path;
mod push;
mod query;
mod rules;
mod setting;
mod store;
mod template;

pub use check::Services;
pub use keys::KEYS;
pub use mcp::digest;
pub use store::{CatalogStore, Listed};
