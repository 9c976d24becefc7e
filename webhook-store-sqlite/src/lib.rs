#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod checkpoint;
mod codec;
mod config;
mod error;
mod lanes;
mod lock;
mod open;
mod queue;
mod schema;
mod sql;
mod store;
mod writer;

pub use config::SqliteOptions;
pub use open::SqliteStore;
pub use sqlx;
