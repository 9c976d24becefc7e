#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod codec;
mod config;
mod connection;
mod error;
mod locks;
mod migrate;
mod open;
mod pooler;
mod queue;
mod rebind;
mod sql;
mod store;

pub use config::PgOptions;
pub use migrate::{MIGRATIONS, Migration};
pub use open::PgStore;
pub use sqlx;

// The tests' server is made for tests of the crate from outside; those inside use it too.
#[cfg(test)]
extern crate self as webhook_store_postgres;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
