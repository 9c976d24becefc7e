//! What the README and the guides show of Rust is compiled and run as tests of documentation.

#[doc = include_str!("../README.md")]
pub mod readme {}
