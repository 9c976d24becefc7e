//! Reads an answer's body, from a target that may send anything.

use reqwest::Response;
use webhook_dial::{DRAIN_LIMIT, DRAIN_TIME, Partial, is_worth_draining};

/// Reads the body to its end or to the limit. A body that breaks off ends there.
pub(crate) async fn read_body(mut response: Response, partial: &mut Partial) {
    while let Ok(Some(chunk)) = response.chunk().await {
        let beyond = partial.push(&chunk);
        if beyond > 0 {
            let _ = tokio::time::timeout(DRAIN_TIME, drain(response, beyond)).await;
            return;
        }
    }
}

/// What is read to its end leaves a connection that can be used again.
async fn drain(mut response: Response, mut drained: usize) {
    if !is_worth_draining(response.content_length()) {
        return;
    }
    while drained <= DRAIN_LIMIT
        && let Ok(Some(chunk)) = response.chunk().await
    {
        drained += chunk.len();
    }
}
