//! The parts of an answer that are kept, from a target that may send anything.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use webhook_core::deliver::{Answer, BODY_LIMIT};
use webhook_core::model::{AttemptError, ErrorKind};

use crate::{failure, kept_headers};

/// A body that goes on past [`BODY_LIMIT`] is read and thrown away up to so many bytes more, as a new connection
/// costs more than that. A longer one is cut off by closing the connection.
pub const DRAIN_LIMIT: usize = 64 * 1024;

/// … within this time: a place of the worker is worth more than a connection.
pub const DRAIN_TIME: Duration = Duration::from_millis(250);

/// What came of an answer so far, so that the deadline loses nothing.
#[derive(Debug)]
pub struct Partial {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Partial {
    /// With the head in hand.
    ///
    /// # Errors
    ///
    /// `protocol`, when the status is outside 200 to 599.
    pub fn new(status: u16, headers: &HeaderMap) -> Result<Self, AttemptError> {
        if !(200..600).contains(&status) {
            return Err(failure::unusable_status(status));
        }
        Ok(Self { status, headers: kept_headers(headers), body: Vec::new() })
    }

    /// Keeps what there is room for of these bytes of the body, and returns how many there was none for.
    pub fn push(&mut self, chunk: &[u8]) -> usize {
        let kept = chunk.len().min(BODY_LIMIT - self.body.len());
        self.body.extend_from_slice(&chunk[..kept]);
        chunk.len() - kept
    }

    fn into_answer(self) -> Answer {
        Answer { status: self.status, headers: self.headers, body: Bytes::from(self.body) }
    }
}

/// What came of an exchange that ended, or was dropped at its deadline, with this: the answer as far as it came, since it
/// is decided on its status line, and otherwise the failure.
///
/// # Errors
///
/// The failure; `internal` when there is neither, which is a defect.
pub fn outcome(partial: Option<Partial>, ended: Result<(), AttemptError>) -> Result<Answer, AttemptError> {
    match (partial, ended) {
        (Some(partial), _) => Ok(partial.into_answer()),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(AttemptError::new(ErrorKind::Internal, "the exchange ended without a result")),
    }
}

/// Whether the rest of a body is worth reading for the sake of its connection, by its announced length.
#[must_use]
pub fn is_worth_draining(announced: Option<u64>) -> bool {
    announced.is_none_or(|length| length <= (BODY_LIMIT + DRAIN_LIMIT) as u64)
}
