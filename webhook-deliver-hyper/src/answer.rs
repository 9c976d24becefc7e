//! Reads an answer's body, from a target that may send anything.

use hyper::body::{Body as _, Incoming};
use webhook_dial::{DRAIN_LIMIT, DRAIN_TIME, Partial, is_worth_draining};

use crate::connection::Connection;

/// Reads the body to its end or to the limit, and says whether it came to the end. A body that breaks off ends there,
/// and the connection with it.
pub(crate) async fn read_body(
    connection: &mut Connection,
    mut body: Incoming,
    partial: &mut Partial,
) -> bool {
    let announced = body.size_hint().exact();
    while let Some(chunk) = connection.chunk(&mut body).await {
        let beyond = partial.push(&chunk);
        if beyond > 0 {
            let drained = Box::pin(drain(connection, body, beyond));
            return is_worth_draining(announced)
                && tokio::time::timeout(DRAIN_TIME, drained).await.unwrap_or(false);
        }
    }
    true
}

/// What is read to its end leaves a connection that can be used again.
async fn drain(connection: &mut Connection, mut body: Incoming, mut drained: usize) -> bool {
    while drained <= DRAIN_LIMIT {
        match connection.chunk(&mut body).await {
            Some(chunk) => drained += chunk.len(),
            None => return true,
        }
    }
    false
}
