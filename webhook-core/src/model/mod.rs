//! What the product is about, as plain data.
//!
//! A producer publishes an [`Event`]. It is matched against [`Subscription`]s and becomes one [`Delivery`]
//! for each match. A delivery is tried in numbered [`Attempt`]s until it succeeds, is exhausted or is
//! cancelled. Nothing here decides, stores or sends.

mod attempt;
mod delivery;
mod event;
mod subscription;
mod tenant;
mod traceparent;

pub use attempt::{Attempt, AttemptError, ErrorKind, Outcome, Trigger};
pub use delivery::{Delivery, DeliveryState, DeliveryStatus, LastError, Request, StatusReason};
pub use event::{Event, EventType, NewEvent};
pub use subscription::{
    ActiveSecret, DisabledReason, RateLimit, Subscription, SubscriptionStatus, Verification,
};
pub use tenant::{InvalidTenant, Tenant};
pub use traceparent::{InvalidTraceParent, TraceParent};
