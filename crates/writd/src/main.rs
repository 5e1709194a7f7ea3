//! The daemon's program; everything is in the library.
#![forbid(unsafe_code)]

fn main() {}
