//! Keeps what is in flight: renews leases, and moves slow attempts out of their slots.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::handle::Inner;
use super::meters::Call;
use super::worker::Worker;

/// How often it looks while something is in flight.
const LOOK: Duration = Duration::from_millis(250);

/// Looks after the worker's attempts until the worker is gone. Rests while nothing is in flight.
pub(super) async fn run(inner: Arc<Inner>, worker: Arc<Worker>) {
    let lease = inner.settings.lease;
    let look = LOOK.min(lease / 8);
    loop {
        if worker.slots.in_flight() == 0 {
            worker.slots.started.notified().await;
        }
        tokio::time::sleep(look).await;
        worker.slots.move_overdue();
        renew(&inner, &worker, lease).await;
    }
}

/// Leases older than a third of their time; a renewal that fails is tried again at the next look.
async fn renew(inner: &Inner, worker: &Worker, lease: Duration) {
    let due = worker.slots.to_renew(lease / 3);
    if due.is_empty() {
        return;
    }
    let since = Instant::now();
    match inner.queue.extend(&due, lease).await {
        // One that is another's by now is found out by the recorder; renewing it again does no harm.
        Ok(held) => {
            for ((id, token), _) in due.iter().zip(held).filter(|(_, held)| *held) {
                worker.slots.renewed(*id, *token, since);
            }
        }
        Err(error) => {
            inner.meters.failure(Call::Extend);
            tracing::warn!(error = &error as &dyn Error, leases = due.len(), "leases were not renewed");
        }
    }
}
