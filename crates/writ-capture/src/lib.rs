//! placeholder

pub mod resolver;
