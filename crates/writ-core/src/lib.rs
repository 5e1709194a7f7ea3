//! The words of Writ as plain data: ids, names, secrets, units, reasons, services and evidence events.
//!
//! Nothing here does I/O, reads a clock or draws randomness (invariant I6); what needs those takes them as
//! arguments. Every other crate depends on this one, and this one on none of them.

pub mod argument;
pub mod assurance;
pub mod clock;
pub mod config;
pub mod event;
pub mod grant;
pub mod id;
pub mod layout;
pub mod mcp;
pub mod mode;
pub mod name;
pub mod obligation;
pub mod pkt;
pub mod process;
pub mod reason;
pub mod secret;
pub mod selector;
pub mod serve;
pub mod service;
pub mod spiffe;
pub mod synthetic;
pub mod units;

pub use argument::{Argument, Arguments};
pub use assurance::Assurance;
pub use clock::{Clock, Timestamp};
pub use grant::{ActsFor, Grant, Grants};
pub use id::{ActionId, ApprovalId, ConnId, IdSource, LeaseId, RunId, RunTag, SessionId};
pub use layout::Layout;
pub use mode::Mode;
pub use name::{AgentName, HostName, HumanId, NameError, OperationName, SecretName, ServiceName};
pub use obligation::{Label, Obligation};
pub use process::Process;
pub use reason::{Origin, Reason};
pub use secret::Secret;
pub use selector::{Attestor, Selector};
pub use serve::Serve;
pub use service::{Effect, Operation, Placement, Protocol, Service};
pub use spiffe::{SpiffeId, TrustDomain};
