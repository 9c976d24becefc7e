//! The parts of an answer that are kept, from a target that may send anything.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use webhook_core::deliver::{Answer, BODY_LIMIT, HEADER_LIMIT};

/// A body that goes on past [`BODY_LIMIT`] is read and thrown away up to so many bytes more, as a new connection
/// costs more than that. A longer one is cut off by closing the connection.
const DRAIN_LIMIT: usize = 64 * 1024;
/// … within this time: a place of the worker is worth more than a connection.
const DRAIN_TIME: Duration = Duration::from_millis(250);
/// A `retry-after` longer than this is not one.
const RETRY_AFTER_LIMIT: usize = 64;

/// What came so far, so that the deadline loses nothing.
pub(crate) struct Partial {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Partial {
    pub(crate) fn of(response: &Response) -> Self {
        Self { status: response.status().as_u16(), headers: text(response.headers()), body: Vec::new() }
    }

    /// Reads the body to its end or to the limit. A body that breaks off ends there.
    pub(crate) async fn read_body(&mut self, mut response: Response) {
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = BODY_LIMIT - self.body.len();
            if chunk.len() > room {
                self.body.extend_from_slice(&chunk[..room]);
                let _ = tokio::time::timeout(DRAIN_TIME, drain(response, chunk.len() - room)).await;
                return;
            }
            self.body.extend_from_slice(&chunk);
        }
    }

    pub(crate) fn into_answer(self) -> Answer {
        Answer { status: self.status, headers: self.headers, body: Bytes::from(self.body) }
    }
}

async fn drain(mut response: Response, mut drained: usize) {
    let announced = response.content_length().unwrap_or(0);
    if announced > (BODY_LIMIT + DRAIN_LIMIT) as u64 {
        return;
    }
    while drained <= DRAIN_LIMIT
        && let Ok(Some(chunk)) = response.chunk().await
    {
        drained += chunk.len();
    }
}

/// Headers as text within the limit. One that does not fit is left out, and `retry-after`, which decides when the
/// next attempt is made, always fits.
fn text(headers: &HeaderMap) -> Vec<(String, String)> {
    let retry_after = headers.get(RETRY_AFTER).filter(|value| value.len() <= RETRY_AFTER_LIMIT);
    let mut kept = Vec::with_capacity(headers.len());
    let mut room = HEADER_LIMIT;
    if let Some(value) = retry_after {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        room -= RETRY_AFTER.as_str().len() + value.len();
        kept.push((RETRY_AFTER.as_str().to_owned(), value));
    }
    for (name, value) in headers {
        if name == RETRY_AFTER {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        let size = name.as_str().len() + value.len();
        if size <= room {
            room -= size;
            kept.push((name.as_str().to_owned(), value.into_owned()));
        }
    }
    kept
}
