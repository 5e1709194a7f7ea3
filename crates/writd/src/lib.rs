//! The daemon. `assemble` knows every part; nobody else does.
#![forbid(unsafe_code)]

mod admission;
mod agents;
mod approving;
mod assemble;
mod configuration;
mod control;
mod crossing;
mod destinations;
mod doors;
mod evidence;
mod exchange;
mod governing;
mod hardening;
mod holder;
mod identity;
mod kernel;
mod notify;
mod peers;
mod people;
mod program;
mod reload;
mod runs;
mod servers;
pub mod settings;
mod tallies;
mod trust;
mod world;

pub use program::{Refused, main};
