//! The handle: what an application holds.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::Notify;

use super::backlog::{self, Backlogs};
use super::builder::{Builder, Settings};
use super::committer::{BATCH, Committer, Line};
use super::config::{Configs, Defaults, lock};
use super::enqueuer::Enqueuer;
use super::measure::Gauges;
use super::meters::Meters;
use super::publish::{self, PublishError, Published};
use super::replayer;
use super::requests::{self, Ask, RequestError};
use super::subscriptions::Subscriptions;
use super::tally::{self, Statistics, Tally};
use super::worker::{LAST_WORD, Worker, Workers};
use crate::deliver::Deliverer;
use crate::error::{BackendError, BackendErrorKind};
use crate::id::{DeliveryId, EventId, LaneId, ReplayId, SubscriptionId};
use crate::model::{DeliveryStatus, NewEvent, Tenant};
use crate::queue::{JobQueue, LaneState};
use crate::stats::{Backlog, Scope};
use crate::store::{DeliveryFilter, Matched, Page, PageRequest, RejectedEvent, Replay, Store};
use crate::target::TargetRules;
use crate::time::Clock;

/// What all parts of one engine share.
pub(super) struct Inner {
    pub store: Arc<dyn Store>,
    pub queue: Arc<dyn JobQueue>,
    /// The queue is the store's own, so the store does the queue's part of every change.
    pub own_queue: bool,
    pub deliverer: Arc<dyn Deliverer>,
    pub clock: Arc<dyn Clock>,
    pub rules: TargetRules,
    pub settings: Settings,
    pub configs: Configs,
    pub meters: Meters,
    pub gauges: Gauges,
    /// Something waits for the reconciler.
    pub reconcile_now: Notify,
    /// A job met a lane that the queue does not know, or knows older: it may have lost its memory.
    pub lane_unknown: Notify,
    /// This node fills the queue's memory just now.
    pub filling: AtomicBool,
    /// A replay was started.
    pub replay_now: Notify,
    /// Something may stand in the inbox.
    pub relay_now: Notify,
    /// Lanes whose target did not answer a probe: what of them may be given up is to be expired.
    hopeless: Mutex<BTreeSet<LaneId>>,
    committer: OnceLock<Committer>,
    enqueuer: OnceLock<Enqueuer>,
    tally: OnceLock<Tally>,
    pub backlogs: Backlogs,
    worker: Mutex<Option<Arc<Worker>>>,
    stopped: AtomicBool,
}

impl Inner {
    #[allow(clippy::too_many_arguments, reason = "called by the builder alone, which names each")]
    pub(super) fn new(
        store: Arc<dyn Store>,
        queue: Arc<dyn JobQueue>,
        own_queue: bool,
        deliverer: Arc<dyn Deliverer>,
        clock: Arc<dyn Clock>,
        rules: TargetRules,
        settings: Settings,
        defaults: Defaults,
    ) -> Self {
        Self {
            store,
            queue,
            own_queue,
            deliverer,
            clock,
            rules,
            settings,
            configs: Configs::new(defaults),
            meters: Meters::new(),
            gauges: Gauges::default(),
            reconcile_now: Notify::new(),
            lane_unknown: Notify::new(),
            filling: AtomicBool::new(false),
            replay_now: Notify::new(),
            relay_now: Notify::new(),
            hopeless: Mutex::default(),
            committer: OnceLock::new(),
            enqueuer: OnceLock::new(),
            tally: OnceLock::new(),
            backlogs: Backlogs::default(),
            worker: Mutex::new(None),
            stopped: AtomicBool::new(false),
        }
    }

    /// The committer, started with the first publish: `build` starts nothing.
    pub(super) fn committer(self: &Arc<Self>) -> &Committer {
        self.committer.get_or_init(|| Committer::start(self))
    }

    /// The way to a queue apart from the store, started with the first job.
    pub(super) fn enqueuer(self: &Arc<Self>) -> &Enqueuer {
        self.enqueuer.get_or_init(|| Enqueuer::start(self))
    }

    /// Where what is committed is counted, started with the first count.
    pub(super) fn tally(self: &Arc<Self>) -> &Tally {
        self.tally.get_or_init(|| Tally::start(self))
    }

    /// The target of this lane did not answer a probe, after many.
    pub(super) fn give_up_on(&self, lane: LaneId) {
        lock(&self.hopeless).insert(lane);
        self.reconcile_now.notify_one();
    }

    /// The lanes given up on since the last call.
    pub(super) fn hopeless(&self) -> BTreeSet<LaneId> {
        std::mem::take(&mut lock(&self.hopeless))
    }

    /// The workers of this process, while they run.
    pub(super) fn worker(&self) -> Option<Arc<Worker>> {
        lock(&self.worker).clone()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").field("store", &self.store).field("own_queue", &self.own_queue).finish()
    }
}

/// A webhook engine: publishes events, and delivers them while it has workers. Cheap to clone.
///
/// See the [crate's documentation](crate) for an example.
#[derive(Debug, Clone)]
pub struct Webhooks {
    pub(super) inner: Arc<Inner>,
}

/// Workers run already in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("workers of this engine run already in this process")]
pub struct WorkersRunning;

/// A backend that takes longer to answer a probe counts as away.
const PROBE: Duration = Duration::from_secs(2);

/// Longest wait for a store to take an event. A producer is told no while it still listens, whatever longer times the
/// store allows itself.
const PUBLISH: Duration = Duration::from_secs(5);

/// How many events a purge looks at in one call of the store.
const PURGE_PAGE: u32 = 500;

/// What a backend answers, or that it does not.
pub(super) async fn in_time<T>(
    operation: &'static str,
    call: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, BackendError> {
    let late = |_| BackendError::new(BackendErrorKind::Timeout, "engine", operation, "no answer to a probe");
    tokio::time::timeout(PROBE, call).await.map_err(late)?
}

/// Whether the backends answer.
#[derive(Debug)]
pub struct Readiness {
    /// The store: without it nothing goes.
    pub store: Result<(), BackendError>,
    /// The queue: without it publishing goes on and deliveries wait.
    pub queue: Result<(), BackendError>,
}

impl Webhooks {
    /// Starts to put an engine together on this store, with the store's own queue unless another is given.
    pub fn builder(store: Arc<dyn Store>) -> Builder {
        Builder::new(store)
    }

    pub(super) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Publishes an event: returns after it and its deliveries are committed (promise 1). A repeat with the
    /// same id, or the same request with the same idempotency key, returns what is stored (promise 11).
    ///
    /// A store that has not answered after 5 seconds counts as away (promise 15).
    ///
    /// # Errors
    /// [`PublishError`]. After `Unavailable` the event may have been stored: repeat with an id or a key.
    ///
    /// # Cancel safety
    /// If dropped, the event may or may not have been published.
    pub async fn publish(&self, event: NewEvent) -> Result<Published, PublishError> {
        self.publish_in_line(event, Line::Alone).await
    }

    async fn publish_in_line(&self, event: NewEvent, line: Line) -> Result<Published, PublishError> {
        let published = self.publish_in_time(event, line).await;
        if let Err(error) = &published {
            self.inner.meters.refused(error.name());
        }
        published
    }

    async fn publish_in_time(&self, event: NewEvent, line: Line) -> Result<Published, PublishError> {
        if self.inner.stopped.load(std::sync::atomic::Ordering::Acquire) {
            return Err(PublishError::Stopped);
        }
        let late = |_| {
            PublishError::Unavailable(BackendError::new(
                BackendErrorKind::Timeout,
                "engine",
                "publish",
                "the store did not answer in time",
            ))
        };
        tokio::time::timeout(PUBLISH, publish::publish(&self.inner, event, line)).await.map_err(late)?
    }

    /// Publishes several events, each by itself: one that is refused does not touch the others. Answers in
    /// the order of the input. Of two with the same idempotency key, the second is the duplicate.
    ///
    /// # Cancel safety
    /// If dropped, each event may or may not have been published.
    pub async fn publish_all(&self, events: Vec<NewEvent>) -> Vec<Result<Published, PublishError>> {
        // A batch's worth at once: to match a thousand in one go would hold up the thread's other tasks.
        let each = events.into_iter().map(|event| self.publish_in_line(event, Line::Many));
        futures::stream::iter(each).buffered(BATCH).collect().await
    }

    /// Creating, changing, reading and deleting subscriptions.
    #[must_use]
    pub fn subscriptions(&self) -> Subscriptions<'_> {
        Subscriptions { inner: &self.inner }
    }

    /// Makes one attempt of a delivery now. Unfinished: outside the schedule, which goes on after it.
    /// Exhausted or cancelled: reopened with a fresh schedule. Succeeded: refused, unless `force` asks for one
    /// more attempt that changes no state.
    ///
    /// # Errors
    /// [`RequestError`]; `NotActive` while the subscription is paused, disabled or deleted.
    ///
    /// # Cancel safety
    /// If dropped, the request may or may not have been taken.
    pub async fn retry(&self, tenant: &Tenant, id: DeliveryId, force: bool) -> Result<(), RequestError> {
        requests::ask(&self.inner, tenant, id, Ask::Retry { force }).await
    }

    /// Ends a delivery as cancelled: nothing more is sent. A request on the wire is recorded and changes
    /// nothing else (promise 5).
    ///
    /// # Errors
    /// [`RequestError::Finished`] when it has ended already; [`RequestError`].
    ///
    /// # Cancel safety
    /// If dropped, the request may or may not have been taken.
    pub async fn cancel(&self, tenant: &Tenant, id: DeliveryId) -> Result<(), RequestError> {
        requests::ask(&self.inner, tenant, id, Ask::Cancel).await
    }

    /// Ends all unfinished deliveries of an event as cancelled; answers how many.
    ///
    /// # Errors
    /// [`RequestError::Finished`] when all have ended already; [`RequestError`].
    ///
    /// # Cancel safety
    /// If dropped, some may have been cancelled.
    pub async fn cancel_event(&self, tenant: &Tenant, event: EventId) -> Result<u64, RequestError> {
        requests::cancel_event(&self.inner, tenant, event).await
    }

    /// Delivers an event anew: finished deliveries with one of `statuses` (all finished ones if empty) are
    /// reopened, but for those of deleted subscriptions, and subscriptions that match now and had none get one.
    /// Answers with the deliveries that are on their way by it.
    ///
    /// # Errors
    /// [`RequestError`].
    ///
    /// # Cancel safety
    /// If dropped, some may have been reopened.
    pub async fn replay_event(
        &self,
        tenant: &Tenant,
        event: EventId,
        statuses: &[DeliveryStatus],
    ) -> Result<Vec<(DeliveryId, SubscriptionId)>, RequestError> {
        requests::replay_event(&self.inner, tenant, event, statuses).await
    }

    /// Starts to reopen all finished deliveries of a tenant that pass `filter`, whose `statuses` name finished
    /// ones. Workers of any process do it, at a bounded rate, once for each delivery, across restarts.
    ///
    /// # Errors
    /// When the store does not answer.
    ///
    /// # Cancel safety
    /// If dropped, the replay may or may not have been started.
    pub async fn replay(&self, tenant: &Tenant, filter: DeliveryFilter) -> Result<Replay, BackendError> {
        replayer::start(&self.inner, tenant, filter).await
    }

    /// How many deliveries [`replay`](Self::replay) would reopen now.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn replay_count(
        &self,
        tenant: &Tenant,
        filter: DeliveryFilter,
    ) -> Result<Matched, BackendError> {
        self.inner.store.replay_count(&replayer::narrowed(tenant, filter)).await
    }

    /// How far a replay is.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn replay_progress(
        &self,
        tenant: &Tenant,
        id: ReplayId,
    ) -> Result<Option<Replay>, BackendError> {
        self.inner.store.replay(tenant, id).await
    }

    /// A page of events that applications inserted in their transactions and that could not be published,
    /// newest first; of all tenants when `tenant` is `None`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn rejected(
        &self,
        tenant: Option<&Tenant>,
        page: PageRequest<EventId>,
    ) -> Result<Page<RejectedEvent, EventId>, BackendError> {
        self.inner.store.inbox_rejected(tenant, page).await
    }

    /// Deletes a rejected event; answers whether there was one.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn delete_rejected(&self, tenant: Option<&Tenant>, id: EventId) -> Result<bool, BackendError> {
        self.inner.store.inbox_delete(tenant, id).await
    }

    /// How lanes stand; `None` for one that the queue does not know.
    ///
    /// # Errors
    /// When the queue does not answer.
    pub async fn lane_states(&self, lanes: &[LaneId]) -> Result<Vec<Option<LaneState>>, BackendError> {
        self.inner.queue.lane_states(lanes).await
    }

    /// Deletes, now, this tenant's events that finished longer than `older_than` ago, with their deliveries and
    /// attempts, whatever the retention; answers how many events. Zero deletes all that is finished. What finishes
    /// while it runs stays. An idempotency key outlives its event: a repeat is answered as a duplicate with no
    /// deliveries and the count as it was (promise 11).
    ///
    /// It goes through all of the tenant's events in small commits, beside which everything else goes on; so it may
    /// take minutes for millions.
    ///
    /// # Errors
    /// When the store does not answer. What was deleted until then is gone; a repeat deletes the rest and counts
    /// only that.
    ///
    /// # Cancel safety
    /// If dropped, some events may have been deleted, each as a whole or to be finished by the next purge or by
    /// the retention.
    pub async fn purge(&self, tenant: &Tenant, older_than: Duration) -> Result<u64, BackendError> {
        let start = tokio::time::Instant::now();
        let (mut deleted, mut after) = (0, None);
        loop {
            // One moment for all pages, told to a store that counts back from its own now.
            let age = older_than.saturating_add(start.elapsed());
            let page = self.inner.store.purge(tenant, age, after, PURGE_PAGE).await?;
            deleted += page.deleted;
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(deleted),
            }
        }
    }

    /// Starts this process's workers, which deliver until [`shutdown`](Self::shutdown).
    ///
    /// # Errors
    /// [`WorkersRunning`] when they run already.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(&self, workers: Workers) -> Result<(), WorkersRunning> {
        let mut running = lock(&self.inner.worker);
        if running.is_some() {
            return Err(WorkersRunning);
        }
        *running = Some(Worker::start(&self.inner, workers));
        Ok(())
    }

    /// Looks at once for what would else be found within the reconcile period: events that were published
    /// inside an application's transaction, above all. Call it after the commit.
    pub fn wake(&self) {
        self.inner.relay_now.notify_one();
        self.inner.reconcile_now.notify_one();
    }

    /// Delivers until nothing is due and nothing is in flight, and returns. For tests: with workers running
    /// it waits for them, else it runs its own for as long as it takes.
    ///
    /// # Errors
    /// When the queue does not answer.
    pub async fn run_until_idle(&self) -> Result<(), BackendError> {
        let own = self.spawn(Workers::default()).is_ok();
        let result = match self.inner.worker() {
            Some(worker) => worker.idle(&self.inner).await,
            None => Ok(()),
        };
        if own {
            self.stop_workers(Duration::from_secs(60)).await;
        }
        result
    }

    /// Whether the backends answer, for a readiness probe.
    pub async fn readiness(&self) -> Readiness {
        let (store, queue) = tokio::join!(
            in_time("ping", self.inner.store.ping()),
            in_time("epoch", self.inner.queue.epoch())
        );
        Readiness { store, queue: queue.map(drop) }
    }

    /// How much work there is.
    ///
    /// # Errors
    /// When the queue does not answer.
    pub async fn depth(&self) -> Result<crate::queue::Depth, BackendError> {
        self.inner.queue.depth().await
    }

    /// What has to be done now: deliveries that are due, scheduled, or held up. Counted from the store, up to
    /// 100,000 deliveries of the scope; a count of more than 10,000 that took long is kept for five times as long,
    /// at most 30 seconds. Without the queue, what is parked counts as due.
    ///
    /// # Errors
    /// When the store does not answer within two seconds. A count that takes longer goes on, and answers who asks
    /// next.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn backlog(&self, scope: &Scope) -> Result<Backlog, BackendError> {
        in_time("backlog", backlog::count(&self.inner, scope)).await
    }

    /// What was counted in a window that ends now, with what this process has counted to the moment; of other
    /// processes, what they had counted a second ago. See [`stats`](crate::stats) for what is counted. It writes
    /// nothing.
    ///
    /// # Errors
    /// When the store does not answer within two seconds, for the [`backlog`](Self::backlog) neither.
    ///
    /// # Cancel safety
    /// If dropped, nothing is lost.
    pub async fn statistics(&self, scope: &Scope, window: Duration) -> Result<Statistics, BackendError> {
        in_time("statistics", tally::read(&self.inner, scope, window)).await
    }

    /// How many attempts are in flight in this process.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner.worker().map_or(0, |worker| worker.slots.in_flight())
    }

    /// Claims nothing more from now on, as the beginning of a stop: what is in flight goes on, publishing goes on, and
    /// other processes deliver what waits. For an application that has requests to answer before it may call
    /// [`shutdown`](Self::shutdown), which is what ends it. Without workers in this process it does nothing.
    pub fn stop_claiming(&self) {
        if let Some(worker) = self.inner.worker() {
            worker.drain();
        }
    }

    /// Stops: publishing is refused, nothing more is claimed, and what is in flight may finish within
    /// `grace`. What is cut off then is recorded as `interrupted` and retried at once elsewhere; nothing
    /// waits for a lease afterwards (promise 17).
    ///
    /// It takes the grace and a moment for recording what was cut off. While the store is away, what could not be
    /// recorded by then is left to other workers, which find it when its lease has run out; at most five seconds
    /// after the grace it returns in any case.
    ///
    /// # Cancel safety
    /// If dropped, the workers go on stopping, and jobs that were not handed back wait for their leases.
    pub async fn shutdown(&self, grace: Duration) {
        self.inner.stopped.store(true, std::sync::atomic::Ordering::Release);
        let start = tokio::time::Instant::now();
        // Ahead of the committer, which may wait for its store for as long as the grace.
        self.stop_claiming();
        if let Some(committer) = self.inner.committer.get()
            && tokio::time::timeout(grace, committer.drain()).await.is_err()
        {
            tracing::warn!("events that were being published may not be stored");
        }
        self.stop_workers(grace.saturating_sub(start.elapsed())).await;
        let left = grace.saturating_add(LAST_WORD).saturating_sub(start.elapsed());
        tally::write_last(&self.inner, left).await;
    }

    async fn stop_workers(&self, grace: Duration) {
        if let Some(worker) = self.inner.worker() {
            worker.stop(&self.inner, grace).await;
            *lock(&self.inner.worker) = None;
        }
    }
}
