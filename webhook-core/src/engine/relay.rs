//! Publishes what applications inserted in transactions of their own.
//!
//! Rows of the inbox go through the ordinary publish in their order, each under its event's id, so that a
//! repeat after a crash finds it published. One that can never be published stays in the inbox as rejected,
//! for a person to see.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use super::backoff::{Backoff, jittered};
use super::committer::Line;
use super::handle::Inner;
use super::meters::Call;
use super::publish::{self, PublishError};
use super::worker::{Phase, Worker};
use crate::error::{BackendError, BackendErrorKind};
use crate::model::{NewEvent, Tenant};
use crate::store::{InboxEvent, InboxId, InboxOutcome};

/// Rows in one step.
const PAGE: u32 = 200;

/// Relays every reconcile period and whenever the application says so, until the worker stops.
pub(super) async fn run(inner: Arc<Inner>, worker: Arc<Worker>) {
    let mut backoff = Backoff::default();
    while worker.phase() == Phase::Running {
        let pause = match work(&inner).await {
            Ok(rows) => {
                backoff.reset();
                if rows >= PAGE as usize {
                    continue;
                }
                jittered(inner.settings.reconcile_period)
            }
            Err(error) => {
                inner.meters.failure(Call::Inbox);
                tracing::warn!(error = &error as &dyn Error, "the inbox is relayed later");
                backoff.after_failure()
            }
        };
        let next = async {
            tokio::select! {
                () = inner.relay_now.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        };
        worker.unless_stopped(next).await;
    }
}

/// Relays one page; answers how many rows it settled.
async fn work(inner: &Arc<Inner>) -> Result<usize, BackendError> {
    let rows = inner.store.inbox_take(PAGE).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut away = None;
    let mut outcomes = Vec::new();
    let lines = lines(inner, rows).await?;
    for line in futures::future::join_all(lines.into_iter().map(|line| relay_line(inner, line))).await {
        outcomes.extend(line.0);
        away = away.or(line.1);
    }
    inner.store.inbox_settle(&outcomes).await?;
    for (_, outcome) in &outcomes {
        inner.meters.relayed(*outcome == InboxOutcome::Published);
    }
    match away {
        Some(error) => Err(error),
        None => Ok(outcomes.len()),
    }
}

/// Puts rows into lines, each to be published one after another: where a tenant has an ordered subscription,
/// those of one ordering key, or without one, are in order also when a publish fails in between (promise 12).
/// All others are a line of their own.
async fn lines(inner: &Inner, rows: Vec<InboxEvent>) -> Result<Vec<Vec<InboxEvent>>, BackendError> {
    let mut ordered: HashMap<String, bool> = HashMap::new();
    let mut places: HashMap<(String, Option<String>), usize> = HashMap::new();
    let mut lines: Vec<Vec<InboxEvent>> = Vec::new();
    for row in rows {
        let in_order = match (ordered.get(&row.tenant), row.tenant.parse::<Tenant>()) {
            (Some(known), _) => *known,
            (None, Ok(tenant)) => {
                let config = inner.configs.of(&*inner.store, &tenant, inner.clock.now()).await?;
                config.endpoints.values().any(|endpoint| endpoint.subscription.ordered)
            }
            (None, Err(_)) => false,
        };
        ordered.insert(row.tenant.clone(), in_order);
        let place = match in_order {
            true => *places.entry((row.tenant.clone(), row.ordering_key.clone())).or_insert(lines.len()),
            false => lines.len(),
        };
        match lines.get_mut(place) {
            Some(line) => line.push(row),
            None => lines.push(vec![row]),
        }
    }
    Ok(lines)
}

/// Publishes a line up to its end, or to the first row for which the store is away.
async fn relay_line(
    inner: &Arc<Inner>,
    line: Vec<InboxEvent>,
) -> (Vec<(InboxId, InboxOutcome)>, Option<BackendError>) {
    let mut outcomes = Vec::with_capacity(line.len());
    for row in line {
        match relay(inner, row).await {
            (row, Ok(outcome)) => outcomes.push((row, outcome)),
            (_, Err(error)) => return (outcomes, Some(error)),
        }
    }
    (outcomes, None)
}

async fn relay(inner: &Arc<Inner>, row: InboxEvent) -> (InboxId, Result<InboxOutcome, BackendError>) {
    let number = row.row;
    let tenant = match row.tenant.parse::<Tenant>() {
        Ok(tenant) => tenant,
        Err(error) => return (number, Ok(InboxOutcome::Rejected(format!("tenant: {error}")))),
    };
    let mut event = NewEvent::bytes(row.event_type, row.content_type, row.payload).tenant(tenant).id(row.id);
    event.ordering_key = row.ordering_key;
    event.deliver_at = row.deliver_at;
    event.idempotency_key = row.idempotency_key;
    event.traceparent = row.traceparent.and_then(|given| given.parse().ok());
    let outcome = match publish::publish(inner, event, Line::Many).await {
        Ok(_) => Ok(InboxOutcome::Published),
        Err(PublishError::Unavailable(error)) => Err(error),
        // That is no fault of the row: it waits for an engine that publishes.
        Err(error @ PublishError::Stopped) => {
            Err(BackendError::new(BackendErrorKind::Unavailable, "engine", "publish", error.to_string()))
        }
        Err(PublishError::Rejected(error)) => {
            tracing::error!(
                error = &error as &dyn Error,
                row = number,
                "the store cannot take an event of the inbox"
            );
            Ok(InboxOutcome::Rejected("the store cannot take this event".to_owned()))
        }
        Err(error) => Ok(InboxOutcome::Rejected(error.to_string())),
    };
    (number, outcome)
}
