//! Commits events, all that gathered while the last commit was in flight as one.
//!
//! There is one committer in a process: two would make smaller batches. It waits on no timer, so a lone event
//! pays one commit and a flood pays a fraction of one each. Events published alone do not stand behind those
//! that were published many at once, which have a line of their own and few places in a commit. A batch that the
//! store cannot take is halved until the culprit stands alone (promise 14).

use std::sync::Arc;
use std::time::Duration;

use futures::future;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::config::Endpoint;
use super::handle::Inner;
use super::meters::Call;
use super::publish::PublishError;
use super::spans;
use super::worker::{Ready, Reservation, Worker};
use crate::error::{BackendError, BackendErrorKind};
use crate::model::DeliveryState;
use crate::queue::Lease;
use crate::store::{Insert, Inserted};

/// Events in one commit.
pub(super) const BATCH: usize = 256;
/// Of those, events that were published many at once, in a process that delivers from the same store. An event
/// published alone waits for the commit before its own, and with fewer rows it waits a millisecond or two, not ten.
/// And results, of which twice as many share a commit, keep ahead of a flood: what it takes in is handed off from
/// memory and not claimed. Measured on SQLite: a third more deliveries, end to end in a sixth of the time.
const MANY: usize = 32;
/// A flood that waits for longer than this, on a slow disk, gets half of the commit lest its callers give up.
const PATIENCE: Duration = Duration::from_secs(1);
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
    /// When it joined its line.
    since: Instant,
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
        let message = Message::Commit(Waiting { since: Instant::now(), submission, reply });
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
    let mut committed = None;
    let mut places = MANY;
    loop {
        let mut batch = Batch::default();
        batch.gather(&mut alone, &mut many, places);
        if batch.is_empty() {
            if let Some(committed) = committed.take() {
                conclude(committed);
            }
            tokio::select! {
                biased;
                Some(message) = alone.recv() => batch.take(message),
                Some(message) = many.recv() => batch.take(message),
                else => return,
            }
            batch.gather(&mut alone, &mut many, places);
        }
        let Some(inner) = inner.upgrade() else { return };
        places = if inner.own_queue && inner.worker().is_some() { MANY } else { BATCH / 2 };
        // The next commit is on its way before the outcome of the last one is told: telling wakes many, and the
        // store would wait for all of it.
        let before = async {
            if let Some(committed) = committed.take() {
                conclude(committed);
            }
        };
        let (done, ()) = future::join(commit(inner, batch), before).await;
        committed = Some(done);
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
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.drained.is_empty()
    }

    /// Takes what waits; of what was published many at once, no more than `places` allows.
    fn gather(
        &mut self,
        alone: &mut mpsc::Receiver<Message>,
        many: &mut mpsc::Receiver<Message>,
        places: usize,
    ) {
        self.fill(alone, BATCH - places, BATCH_BYTES / 2);
        let before = self.events.len();
        self.fill(many, before + places, BATCH_BYTES);
        if self.events.get(before).is_some_and(|first| first.since.elapsed() > PATIENCE) {
            self.fill(many, (before + BATCH / 2).min(BATCH), BATCH_BYTES);
        }
        self.fill(alone, BATCH, BATCH_BYTES);
    }

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

    /// Takes what waits in a line, until there are so many events or bytes.
    fn fill(&mut self, line: &mut mpsc::Receiver<Message>, until: usize, bytes: usize) {
        while self.events.len() < until && self.bytes < bytes {
            let Ok(message) = line.try_recv() else { break };
            self.take(message);
        }
    }
}

/// What has been decided about a batch, and is to be told.
struct Committed {
    inner: Arc<Inner>,
    /// Unless it was split.
    whole: Option<Part>,
    drained: Vec<oneshot::Sender<()>>,
}

/// Events that one commit took, or refused.
struct Part {
    submissions: Vec<Submission>,
    replies: Vec<oneshot::Sender<Result<Inserted, PublishError>>>,
    outcome: Result<Stored, BackendError>,
}

struct Stored {
    outcomes: Vec<Inserted>,
    /// Slots that were taken for what was handed off.
    reservation: Option<(Arc<Worker>, Reservation)>,
}

/// Commits the batch. Of one that has to be split, those who know their fate are told at once; otherwise nobody has been
/// told yet.
async fn commit(inner: Arc<Inner>, batch: Batch) -> Committed {
    let mut whole = None;
    let mut left = vec![batch.events];
    let mut is_split = false;
    while let Some(events) = left.pop() {
        let (submissions, replies): (Vec<_>, Vec<_>) =
            events.into_iter().map(|waiting| (waiting.submission, waiting.reply)).unzip();
        if submissions.is_empty() {
            continue;
        }
        match insert(&inner, &submissions).await {
            Err(error) if submissions.len() > 1 && !error.is_retryable() => {
                let since = Instant::now();
                let waiting = submissions.into_iter().zip(replies);
                let mut first: Vec<_> =
                    waiting.map(|(submission, reply)| Waiting { since, submission, reply }).collect();
                let second = first.split_off(first.len() / 2);
                left.extend([second, first]);
                is_split = true;
            }
            outcome if is_split => tell(&inner, Part { submissions, replies, outcome }),
            outcome => whole = Some(Part { submissions, replies, outcome }),
        }
    }
    Committed { inner, whole, drained: batch.drained }
}

/// Inserts the events.
async fn insert(inner: &Arc<Inner>, submissions: &[Submission]) -> Result<Stored, BackendError> {
    let inserts: Vec<Insert> = submissions.iter().map(|submission| submission.insert.clone()).collect();
    let deliveries = submissions.iter().map(|submission| submission.endpoints.len()).sum();
    let worker = inner.worker().filter(|_| inner.own_queue);
    let mut tries = 0;
    loop {
        let reservation =
            worker.as_ref().and_then(|worker| Some((Arc::clone(worker), worker.reserve(inner, deliveries)?)));
        let hand_off = reservation.as_ref().map(|(_, reserved)| &reserved.hand_off);
        tries += 1;
        let started = Instant::now();
        match inner.store.insert(&inserts, hand_off).instrument(spans::commit(inserts.len())).await {
            Ok(outcomes) => {
                inner.meters.commit_time.took(started.elapsed());
                inner.meters.commit_size.size(inserts.len());
                return Ok(Stored { outcomes, reservation });
            }
            Err(error) => {
                inner.meters.failure(Call::Insert);
                if let Some((worker, reservation)) = reservation {
                    worker.slots.cancel(reservation.hand_off.room);
                }
                if error.kind() != BackendErrorKind::Conflict || tries == CONFLICTS {
                    return Err(error);
                }
            }
        }
    }
}

/// Tells what is still to be told.
fn conclude(committed: Committed) {
    let Committed { inner, whole, drained } = committed;
    if let Some(whole) = whole {
        tell(&inner, whole);
    }
    for reply in drained {
        let _ = reply.send(());
    }
}

/// Answers the callers, and starts what was handed off.
fn tell(inner: &Arc<Inner>, part: Part) {
    let Part { submissions, replies, outcome } = part;
    let Stored { mut outcomes, reservation } = match outcome {
        Ok(stored) => stored,
        Err(error) => return refuse(replies, error),
    };
    count(inner, &submissions, &outcomes);
    if let Some((worker, reservation)) = reservation {
        worker.start_reserved(inner, &reservation, handed_off(&submissions, &mut outcomes));
    } else if !inner.own_queue {
        inner.enqueuer().enqueue(inner, &submissions, &outcomes);
    }
    for (reply, outcome) in replies.into_iter().zip(outcomes) {
        // A caller that has gone away gets no answer; its event is published all the same.
        let _ = reply.send(Ok(outcome));
    }
}

fn refuse(replies: Vec<oneshot::Sender<Result<Inserted, PublishError>>>, error: BackendError) {
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

/// Counts events that are stored now and were not before, and those that were.
fn count(inner: &Arc<Inner>, submissions: &[Submission], outcomes: &[Inserted]) {
    let mut counting = inner.counting();
    for (submission, outcome) in submissions.iter().zip(outcomes) {
        let Insert { event, deliveries, .. } = &submission.insert;
        match outcome {
            Inserted::Stored { .. } => {
                let subscriptions = deliveries.iter().map(|delivery| delivery.subscription_id);
                counting.published(&event.tenant, subscriptions);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::EventId;
    use crate::model::{Event, Tenant};

    fn event() -> Event {
        Event {
            id: EventId::new(),
            tenant: Tenant::default(),
            event_type: "a.b".parse().expect("valid"),
            content_type: "application/json".into(),
            payload: "{}".into(),
            ordering_key: None,
            deliver_at: None,
            idempotency_key: None,
            traceparent: None,
            only: None,
        }
    }

    fn line(events: usize) -> mpsc::Receiver<Message> {
        line_of(events, &"{}".into())
    }

    fn line_of(events: usize, payload: &bytes::Bytes) -> mpsc::Receiver<Message> {
        let (line, waiting) = mpsc::channel(WAITING);
        for _ in 0..events {
            let insert = Insert {
                event: Arc::new(Event { payload: payload.clone(), ..event() }),
                deliveries: Vec::new(),
                config_version: 0,
                fingerprint: [0; 32],
            };
            let (reply, _) = oneshot::channel();
            let submission = Submission { insert, endpoints: Vec::new() };
            line.try_send(Message::Commit(Waiting { since: Instant::now(), submission, reply }))
                .expect("room");
        }
        waiting
    }

    fn gathered(alone: &mut mpsc::Receiver<Message>, many: &mut mpsc::Receiver<Message>) -> usize {
        let mut batch = Batch::default();
        batch.gather(alone, many, MANY);
        batch.events.len()
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_gets_few_places_until_it_has_waited_for_a_second() {
        let (mut alone, mut flood) = (line(3), line(1000));
        assert_eq!(gathered(&mut alone, &mut flood), 3 + MANY);
        assert_eq!(gathered(&mut alone, &mut flood), MANY);
        tokio::time::advance(PATIENCE + Duration::from_millis(1)).await;
        assert_eq!(gathered(&mut alone, &mut flood), BATCH / 2);
        assert_eq!(gathered(&mut line(WAITING), &mut flood), BATCH);
    }
    #[tokio::test]
    async fn large_events_that_are_published_alone_leave_a_flood_its_places() {
        let large = vec![b' '; 1024 * 1024].into();
        let (mut alone, mut flood) = (line_of(100, &large), line(1000));
        let mut batch = Batch::default();
        batch.gather(&mut alone, &mut flood, MANY);
        assert_eq!(batch.events.len(), 2 + MANY + 2);
    }
}
