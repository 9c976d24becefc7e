#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod codec;
mod config;
mod connection;
mod error;
mod locks;
mod migrate;
mod open;
mod queue;
mod sql;
mod store;

pub use config::PgOptions;
pub use migrate::{MIGRATIONS, Migration};
pub use open::PgStore;
pub use sqlx;
