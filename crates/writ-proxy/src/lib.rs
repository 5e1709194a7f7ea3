//! The relay: ends the agent's TLS, decides each request at the gate, places the lent credential, and speaks to the
//! real service over a channel that it verified itself.
//!
//! ```text
//! accept -> hand-off -> admit -> TLS hello -> [request -> action -> place -> send -> scrub -> receipt]*
//! ```
//!
//! It is not a general proxy: it serves only connections that the kernel redirected, only for services that the
//! catalog has, and it repairs nothing. Invariants: the destination is one name on which kernel, SNI and request
//! agree; no byte of an action goes out before the gate permitted it; no credential leaves except inside TLS that
//! was verified for that name; nothing is shared between sessions; everything ends with its session.
#![forbid(unsafe_code)]

mod act;
mod authority;
mod body;
mod cut;
mod head;
mod http1;
mod identities;
mod idle;
mod inbound;
mod lane;
mod line;
mod marks;
mod mcp;
mod opaque;
mod place;
mod reading;
mod refusal;
mod relay;
mod running;
mod scrub;
mod searches;
mod serving;
mod stdio;
mod strict;
mod tls;
mod tunnel;
mod turned_away;
mod upgrade;
mod upstream;

pub use authority::{Authorities, AuthorityError, CaFiles};
pub use identities::{Identities, Svids};
pub use inbound::{Door, DoorError, Inbound, InboundPorts, RunningServer, Servers};
pub use relay::{Relay, RelaySettings, Tally};
pub use stdio::{Ends, ServedOver};
