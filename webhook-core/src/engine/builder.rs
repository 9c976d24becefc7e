//! Putting an engine together.

use std::sync::Arc;
use std::time::Duration;

use super::handle::{Inner, Webhooks};
use crate::deliver::Deliverer;
use crate::queue::JobQueue;
use crate::retry::{RetryPolicy, RetrySpec};
use crate::store::Store;
use crate::target::TargetRules;
use crate::time::{Clock, SystemClock};

/// What the engine was told, checked.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub timeout: Duration,
    pub lease: Duration,
    pub max_in_flight: u32,
    pub max_payload: usize,
    pub retention: Option<Duration>,
    pub max_age: Option<Duration>,
    pub reconcile_period: Duration,
    pub user_agent: String,
    pub begin_traces: bool,
}

/// Collects the parts of an engine; from [`Webhooks::builder`].
#[derive(Debug)]
#[must_use = "nothing is built before `build`"]
pub struct Builder {
    store: Arc<dyn Store>,
    queue: Option<Arc<dyn JobQueue>>,
    deliverer: Option<Arc<dyn Deliverer>>,
    policy: Arc<dyn RetryPolicy>,
    clock: Arc<dyn Clock>,
    rules: TargetRules,
    settings: Settings,
}

/// Why an engine cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Nothing sends requests.
    #[error("no deliverer: give one with `Builder::deliverer`")]
    NoDeliverer,
    /// The store does not keep the queue, and none was given.
    #[error("the store was opened without a queue of its own: give one with `Builder::queue`")]
    NoQueue,
    /// The store keeps the queue itself, and another was given.
    #[error("the store keeps its own queue: open it for another queue, or do not give one")]
    TwoQueues,
    /// A setting is out of its range.
    #[error("{setting} must be {accepted}")]
    Setting {
        /// The builder's method.
        setting: &'static str,
        /// What it takes.
        accepted: &'static str,
    },
}

impl Builder {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            queue: None,
            deliverer: None,
            policy: Arc::new(RetrySpec::standard()),
            clock: Arc::new(SystemClock),
            rules: TargetRules::default(),
            settings: Settings {
                timeout: Duration::from_secs(15),
                lease: Duration::from_secs(30),
                max_in_flight: 64,
                max_payload: 1024 * 1024,
                retention: Some(Duration::from_secs(72 * 3600)),
                max_age: Some(Duration::from_secs(30 * 86_400)),
                reconcile_period: Duration::from_secs(5),
                user_agent: concat!("webhook-core/", env!("CARGO_PKG_VERSION")).to_owned(),
                begin_traces: false,
            },
        }
    }

    /// The queue, for a store without one of its own.
    pub fn queue(mut self, queue: Arc<dyn JobQueue>) -> Self {
        self.queue = Some(queue);
        self
    }

    /// What sends requests. Required.
    pub fn deliverer(mut self, deliverer: Arc<dyn Deliverer>) -> Self {
        self.deliverer = Some(deliverer);
        self
    }

    /// The retry policy of subscriptions without one of their own. Default: [`RetrySpec::standard`].
    pub fn retry(mut self, policy: impl RetryPolicy) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// The clock of what people and receivers are shown. Default: the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Which targets are taken when a subscription is written. Give the deliverer the same rules: it checks
    /// the addresses at every dial. Default: public addresses only.
    pub fn target_rules(mut self, rules: TargetRules) -> Self {
        self.rules = rules;
        self
    }

    /// The deadline of one exchange, for subscriptions without one of their own. Default: 15 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How long a crashed worker's deliveries wait; renewed while a live worker holds them. Default: 30 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// Attempts in flight per subscription over all workers, for those that set none. Default: 64.
    pub fn max_in_flight(mut self, limit: u32) -> Self {
        self.settings.max_in_flight = limit;
        self
    }

    /// The largest payload that is taken, in bytes. Default: 1 MiB.
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.settings.max_payload = bytes;
        self
    }

    /// How long finished events, and finished replays, are kept; `None` keeps them for ever. Default: 72 h.
    pub fn retention(mut self, retention: Option<Duration>) -> Self {
        self.settings.retention = retention;
        self
    }

    /// What is unfinished for longer is exhausted as expired; `None` never. Counted from publishing,
    /// reopening or `deliver_at`. Default: 30 days.
    pub fn max_age(mut self, max_age: Option<Duration>) -> Self {
        self.settings.max_age = max_age;
        self
    }

    /// How often each node looks for what was forgotten. Default: 5 s.
    pub fn reconcile_period(mut self, period: Duration) -> Self {
        self.settings.reconcile_period = period;
        self
    }

    /// The `user-agent` of every request, unless a subscription's own headers replace it.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.settings.user_agent = user_agent.into();
        self
    }

    /// Whether an event that is published without a [`traceparent`](crate::model::NewEvent::traceparent) begins a
    /// trace. For an application that exports its spans; without one, nobody could look the trace up. Default: no,
    /// and what was published without one is delivered without one.
    pub fn begin_traces(mut self, begin: bool) -> Self {
        self.settings.begin_traces = begin;
        self
    }

    /// Checks everything and starts nothing.
    ///
    /// # Errors
    /// [`BuildError`] names what is missing or out of range.
    pub fn build(self) -> Result<Webhooks, BuildError> {
        let refuse = |setting, accepted| Err(BuildError::Setting { setting, accepted });
        let settings = self.settings;
        if settings.timeout.is_zero() {
            return refuse("timeout", "longer than zero");
        }
        if settings.lease < Duration::from_millis(100) {
            return refuse("lease", "100 ms or longer");
        }
        if settings.max_in_flight == 0 {
            return refuse("max_in_flight", "1 or more");
        }
        if settings.reconcile_period.is_zero() {
            return refuse("reconcile_period", "longer than zero");
        }
        let deliverer = self.deliverer.ok_or(BuildError::NoDeliverer)?;
        let (queue, own_queue) = match (self.store.own_queue(), self.queue) {
            (Some(own), None) => (own, true),
            (None, Some(given)) => (given, false),
            (None, None) => return Err(BuildError::NoQueue),
            (Some(_), Some(_)) => return Err(BuildError::TwoQueues),
        };
        let defaults = super::config::Defaults { policy: self.policy, timeout: settings.timeout };
        Ok(Webhooks::new(Inner::new(
            self.store, queue, own_queue, deliverer, self.clock, self.rules, settings, defaults,
        )))
    }
}
