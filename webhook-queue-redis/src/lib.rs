#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod bell;
mod client;
mod codec;
mod config;
mod error;
mod open;
mod queue;
mod script;
mod tls;

pub use config::RedisOptions;
pub use open::RedisQueue;
