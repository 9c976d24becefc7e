//! The answer to a purge.

use serde::Serialize;

/// How many events a purge deleted.
#[derive(Debug, Serialize)]
pub(crate) struct PurgedJson {
    pub(crate) deleted: u64,
}
