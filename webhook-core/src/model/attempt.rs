use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Tenant;
use crate::id::{AttemptId, DeliveryId, EventId, SubscriptionId, Token};
use crate::time::Timestamp;

/// One try of a delivery: a row of the log. Attempts of a delivery are numbered 1..k without gaps
/// (promise 7) and are never changed, but for an `unknown` one whose late result replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// Whose it is.
    pub tenant: Tenant,
    /// The delivery that was tried.
    pub delivery_id: DeliveryId,
    /// The event that was sent.
    pub event_id: EventId,
    /// The subscription it was sent to.
    pub subscription_id: SubscriptionId,
    /// 1, 2, … within the delivery; the `webhook-attempt` header.
    pub number: u32,
    /// The lease under which it was made.
    pub token: Token,
    /// What made it happen.
    pub trigger: Trigger,
    /// When it began, by the worker's clock: for people, never compared.
    pub started_at: Timestamp,
    /// From dialling to the end of the answer.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// The answer's status code, when there was one.
    pub status_code: Option<u16>,
    /// What went wrong, unless it succeeded.
    pub error: Option<AttemptError>,
    /// The answer's headers, 8 KiB at most.
    pub response_headers: Vec<(String, String)>,
    /// The answer's first bytes, 16 KiB at most: foreign bytes, not necessarily text.
    pub response_body: Bytes,
    /// Where it was sent.
    pub target_url: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The target answered 2xx.
    Succeeded,
    /// It did not.
    Failed,
    /// The worker crashed between sending and recording: nobody knows.
    Unknown,
}

/// What made an attempt happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The retry policy, or the publish itself.
    Schedule,
    /// A person's request.
    Manual,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptError {
    /// The class of the failure.
    pub kind: ErrorKind,
    /// For people; names no resolved address and no secret.
    pub detail: String,
}

impl AttemptError {
    /// An error of this kind.
    #[must_use]
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// The class of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The name could not be resolved.
    Dns,
    /// No connection could be made.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The deadline passed.
    Timeout,
    /// The connection was closed before any byte of an answer.
    Reset,
    /// Not a valid HTTP answer, 101 and codes outside 200..599 included.
    Protocol,
    /// The target's address is not allowed.
    Blocked,
    /// The answer's status is not 2xx.
    Status,
    /// Our process stopped before the answer came.
    Interrupted,
    /// A defect on our side, such as a panic while the request was built.
    Internal,
}

macro_rules! names {
    ($name:ident { $($variant:ident => $text:literal),* $(,)? }) => {
        impl $name {
            /// The name in the API and in stores.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// Reads the name back; `None` when there is no such one.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(super) use names;

names!(Outcome { Succeeded => "succeeded", Failed => "failed", Unknown => "unknown" });
names!(Trigger { Schedule => "schedule", Manual => "manual" });
names!(ErrorKind {
    Dns => "dns",
    Connect => "connect",
    Tls => "tls",
    Timeout => "timeout",
    Reset => "reset",
    Protocol => "protocol",
    Blocked => "blocked",
    Status => "status",
    Interrupted => "interrupted",
    Internal => "internal",
});
