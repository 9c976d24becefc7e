//! Commits events, all that gathered while the last commit was in flight as one.
//!
//! There is one committer in a process: two would make smaller batches. It waits on no timer, so a lone event
//! pays one commit and a flood pays a fraction of one each. Events published alone do not stand behind those
//! that were published many at once: each of the two lines is sure of half a batch. A batch that the store
//! cannot take is halved until the culprit stands alone (promise 14).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::config::Endpoint;
use super::handle::Inner;
use super::meters::Call;
use super::publish::PublishError;
use super::spans;
use super::worker::Ready;
use crate::error::{BackendError, BackendErrorKind};
use crate::model::DeliveryState;
use crate::queue::Lease;
use crate::store::{Insert, Inserted};

/// Events in one commit.
pub(super) const BATCH: usize = 256;
/// Payload bytes in one commit.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Events that wait for a commit in each line; more wait in their callers.
const WAITING: usize = 2048;
/// Tries of a commit that the store undid because of another one.
const CONFLICTS: usize = 5;

/// Where an event waits for its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// With others that were published alone.
    Alone,
    /// With others that were published many at once.
    Many,
}

/// A matched event.
#[derive(Debug)]
pub(super) struct Submission {
    pub insert: Insert,
    /// The subscriptions of the deliveries, in the same order.
    pub endpoints: Vec<Arc<Endpoint>>,
}

#[derive(Debug)]
struct Waiting {
    submission: Submission,
    reply: oneshot::Sender<Result<Inserted, PublishError>>,
}

#[derive(Debug)]
enum Message {
    Commit(Waiting),
    /// Answered when all that was sent before it has been committed.
    Drain(oneshot::Sender<()>),
}

/// The way to the one task that commits events.
#[derive(Debug)]
pub(super) struct Committer {
    alone: mpsc::Sender<Message>,
    many: mpsc::Sender<Message>,
}

impl Committer {
    /// Starts the task. It ends when the engine's last handle is dropped.
    pub(super) fn start(inner: &Arc<Inner>) -> Self {
        let (alone, first_line) = mpsc::channel(WAITING);
        let (many, second_line) = mpsc::channel(WAITING);
        tokio::spawn(run(Arc::downgrade(inner), first_line, second_line));
        Self { alone, many }
    }

    /// Returns when the event is committed, or is known not to be.
    pub(super) async fn submit(&self, submission: Submission, line: Line) -> Result<Inserted, PublishError> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Commit(Waiting { submission, reply });
        let line = match line {
            Line::Alone => &self.alone,
            Line::Many => &self.many,
        };
        line.send(message).await.map_err(|_| PublishError::Stopped)?;
        answer.await.map_err(|_| PublishError::Stopped)?
    }

    /// Returns when everything that waits now has been committed.
    pub(super) async fn drain(&self) {
        for line in [&self.alone, &self.many] {
            let (reply, answer) = oneshot::channel();
            if line.send(Message::Drain(reply)).await.is_ok() {
                let _ = answer.await;
            }
        }
    }
}

async fn run(
    inner: std::sync::Weak<Inner>,
    mut alone: mpsc::Receiver<Message>,
    mut many: mpsc::Receiver<Message>,
) {
    loop {
        let mut batch = Batch::default();
        tokio::select! {
            biased;
            Some(message) = alone.recv() => batch.take(message),
            Some(message) = many.recv() => batch.take(message),
            else => return,
        }
        let Some(inner) = inner.upgrade() else { return };
        batch.fill(&mut alone, BATCH / 2);
        batch.fill(&mut many, BATCH);
        batch.fill(&mut alone, BATCH);
        if !batch.events.is_empty() {
            commit(&inner, batch.events).await;
        }
        for reply in batch.drained {
            let _ = reply.send(());
        }
    }
}

/// What goes into the next commit.
#[derive(Debug, Default)]
struct Batch {
    events: Vec<Waiting>,
    bytes: usize,
    drained: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn take(&mut self, message: Message) {
        match message {
            Message::Commit(waiting) => {
                self.bytes += waiting.submission.insert.event.payload.len();
                self.events.push(waiting);
            }
            // What is sent after it is a publish that was not to be waited for, so it may come along.
            Message::Drain(reply) => self.drained.push(reply),
        }
    }

    /// Takes what waits in a line, until there are so many events.
    fn fill(&mut self, line: &mut mpsc::Receiver<Message>, until: usize) {
        while self.events.len() < until && self.bytes < BATCH_BYTES {
            let Ok(message) = line.try_recv() else { break };
            self.take(message);
        }
    }
}

fn commit(inner: &Arc<Inner>, batch: Vec<Waiting>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
    Box::pin(async move {
        let (mut submissions, mut replies) = (Vec::new(), Vec::new());
        for waiting in batch {
            submissions.push(waiting.submission);
            replies.push(waiting.reply);
        }
        match insert(inner, &mut submissions).await {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // A caller that has gone away gets no answer; its event is published all the same.
                    let _ = reply.send(Ok(outcome));
                }
            }
            Err(error) if replies.len() == 1 || error.is_retryable() => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    events = replies.len(),
                    "events were not acknowledged"
                );
                let mut error = Some(error);
                for reply in replies {
                    let error = error.take().unwrap_or_else(|| {
                        BackendError::new(
                            BackendErrorKind::Unavailable,
                            "engine",
                            "publish",
                            "the batch was not committed",
                        )
                    });
                    let _ = reply.send(Err(PublishError::store(error)));
                }
            }
            Err(_) => {
                let mut first: Vec<_> = submissions
                    .into_iter()
                    .zip(replies)
                    .map(|(submission, reply)| Waiting { submission, reply })
                    .collect();
                let second = first.split_off(first.len() / 2);
                commit(inner, first).await;
                commit(inner, second).await;
            }
        }
    })
}

/// Inserts the events and starts what was handed off.
async fn insert(inner: &Arc<Inner>, submissions: &mut [Submission]) -> Result<Vec<Inserted>, BackendError> {
    let inserts: Vec<Insert> = submissions.iter().map(|submission| submission.insert.clone()).collect();
    let deliveries = submissions.iter().map(|submission| submission.endpoints.len()).sum();
    let worker = inner.worker().filter(|_| inner.own_queue);
    let mut tries = 0;
    loop {
        let reservation = worker.as_ref().and_then(|worker| worker.reserve(inner, deliveries));
        let hand_off = reservation.as_ref().map(|reserved| &reserved.hand_off);
        tries += 1;
        let started = Instant::now();
        match inner.store.insert(&inserts, hand_off).instrument(spans::commit(inserts.len())).await {
            Ok(mut outcomes) => {
                inner.meters.commit_time.took(started.elapsed());
                inner.meters.commit_size.size(inserts.len());
                count(inner, submissions, &outcomes);
                if let (Some(worker), Some(reservation)) = (&worker, reservation) {
                    worker.start_reserved(inner, &reservation, handed_off(submissions, &mut outcomes));
                } else if !inner.own_queue {
                    inner.enqueuer().enqueue(inner, submissions, &outcomes);
                }
                return Ok(outcomes);
            }
            Err(error) => {
                inner.meters.failure(Call::Insert);
                if let (Some(worker), Some(reservation)) = (&worker, reservation) {
                    worker.slots.cancel(reservation.hand_off.room);
                }
                if error.kind() != BackendErrorKind::Conflict || tries == CONFLICTS {
                    return Err(error);
                }
            }
        }
    }
}

fn count(inner: &Arc<Inner>, submissions: &[Submission], outcomes: &[Inserted]) {
    for (submission, outcome) in submissions.iter().zip(outcomes) {
        match outcome {
            Inserted::Stored { .. } => inner.meters.published(submission.insert.deliveries.len()),
            Inserted::Duplicate(_) => inner.meters.duplicate(),
            // The one is an error to its publisher, the other is matched again.
            Inserted::KeyReused | Inserted::Outdated => {}
        }
    }
}

/// Pairs the leases with what they are to send.
fn handed_off(submissions: &[Submission], outcomes: &mut [Inserted]) -> Vec<(Lease, Ready)> {
    let mut ready = Vec::new();
    for (submission, outcome) in submissions.iter().zip(outcomes) {
        let Inserted::Stored { leases, .. } = outcome else { continue };
        for lease in leases.drain(..) {
            let position = submission.insert.deliveries.iter().position(|delivery| delivery.id == lease.id);
            let Some(endpoint) = position.and_then(|position| submission.endpoints.get(position)) else {
                tracing::error!(delivery = %lease.id, "the store leased a delivery that was not in the batch");
                continue;
            };
            let event = Arc::clone(&submission.insert.event);
            ready.push((lease, Ready { state: DeliveryState::new(), event, endpoint: Arc::clone(endpoint) }));
        }
    }
    ready
}
