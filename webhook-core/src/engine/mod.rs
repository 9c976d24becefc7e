//! The engine: what drives events from publish to their end.
//!
//! ```text
//! publish ─▶ match ─▶ committer: store.insert ─▶ acknowledged
//!                         └▶ hand-off or enqueuer ─┐
//!         ┌────────────────────────────────────────┤
//!         │        dispatcher: claim ─▶ load ──────┤
//!         │                                        ▼
//!         │                      attempt: sign ─▶ deliver
//!         │                                        │
//!         └── queue.settle ◀── recorder: lifecycle::step ─▶ store.record
//! ```
//!
//! | part | owes |
//! |---|---|
//! | `publish` | valid events, matched against a configuration that the store confirms (promise 10) |
//! | `committer` | one commit for all that gathered while the last one was in flight (promise 1) |
//! | `enqueuer` | jobs for a queue apart from the store; may drop, the reconciler finds what is owed |
//! | `slots` | how much may be in flight, by class of lane (promises 13 and 16) |
//! | `dispatcher` | claims only what can start, loads it, and starts or settles it |
//! | `attempt` | one exchange, whatever panics (promise 14) |
//! | `recorder` | the result's row and the delivery's new state in one commit (promise 7), then settle |
//! | `keeper` | leases that live as long as their attempts; attempts that are slow leave their slots |
//! | `requests` | what a person asks of a delivery, decided on what is stored |
//! | `replayer` | reopens many deliveries, once each, across restarts |
//! | `relay` | what applications inserted in their own transactions is published |
//! | `tally` | what is committed is counted, and written as roll-ups |
//! | `backlog` | what has to be done, counted within bounds |
//! | `meters`, `measure` | what was counted and what waits, for people and their tools |
//! | `spans` | what a trace shows of all this, and nothing that is secret |
//! | `reconciler` | nothing is forgotten (promise 2); finished events leave after the retention |
//! | `rebuild` | a queue that lost its memory is filled again, by one node at full speed |
//!
//! No part decides what a delivery becomes: that is [`lifecycle`](crate::lifecycle). No part knows a backend.

mod attempt;
mod backlog;
mod backoff;
mod builder;
mod committer;
mod config;
mod dispatcher;
mod draft;
mod enqueuer;
mod gathered;
mod handle;
mod keeper;
mod measure;
mod meters;
mod publish;
mod rebuild;
mod reconciler;
mod recorder;
mod relay;
mod replayer;
mod requests;
mod slots;
mod spans;
mod subscriptions;
mod tally;
mod worker;

pub use builder::{BuildError, Builder};
pub use draft::{
    FieldError, IN_FLIGHT, MAX_DESCRIPTION, MAX_EVENT_TYPES, MAX_METADATA, MAX_METADATA_BYTES, RATE_PER,
    RATE_REQUESTS, SubscriptionDraft, TIMEOUTS, VerificationDraft, VerificationSecret,
};
pub use handle::{Readiness, Webhooks, WorkersRunning};
pub use publish::{LISTED_DELIVERIES, PublishError, Published, is_json};
pub use requests::RequestError;
pub use subscriptions::{MAX_OVERLAP, SubscriptionError, Subscriptions};
pub use tally::Statistics;
pub use worker::Workers;

use crate::model::{Subscription, SubscriptionStatus};
use crate::queue::{Hold, LaneSettings};

/// What a queue must know of a subscription's lane.
fn lane_settings(subscription: &Subscription) -> LaneSettings {
    LaneSettings {
        lane: subscription.id,
        version: subscription.version,
        max_in_flight: subscription.max_in_flight,
        rate: subscription.rate_limit,
        hold: match subscription.status {
            SubscriptionStatus::Active => None,
            SubscriptionStatus::Paused => Some(Hold::Paused),
            SubscriptionStatus::Disabled => Some(Hold::Disabled),
        },
    }
}
