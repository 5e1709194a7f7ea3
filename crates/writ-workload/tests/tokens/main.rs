//! Exchange and introspection over TLS and on the socket: what curl is given, Python libraries that others wrote verify.

mod exchange;
mod forge;
mod introspect;
mod peers;
mod proof;
mod refusals;
mod site;
mod socket;
mod transaction;
