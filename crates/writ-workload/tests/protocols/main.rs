//! The protocols, spoken by clients that others wrote: the crate and the Python package `spiffe`, curl, openssl, and for
//! what they cannot say, generated ones.

mod ends;
mod jwt;
mod limits;
mod log;
mod measure;
mod python;
mod refusals;
mod sds;
mod traps;
mod web;
mod world;
mod x509;
