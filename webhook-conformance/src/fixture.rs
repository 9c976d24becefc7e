use std::fmt::Display;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use webhook_core::model::NewEvent;
use webhook_core::queue::JobQueue;
use webhook_core::store::{History, Store};

/// Why there is no backend to test, such as `set DATABASE_URL to run this against Postgres`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(pub(crate) String);

impl Missing {
    /// For this reason.
    #[must_use]
    pub fn because(reason: impl Display) -> Self {
        Self(reason.to_string())
    }
}

/// One fresh backend, and the time that it lives in.
pub trait Fixture: Sized + Send + Sync + 'static {
    /// The unit of the waits in the cases. With a clock that can be moved, leave it. A backend that really
    /// waits chooses between speed and steadiness: it must answer some twenty calls within half a unit.
    const UNIT: Duration = Duration::from_secs(1);

    /// Whether [`advance`](Self::advance) moves a clock rather than waits. Cases that need hours are skipped
    /// without it.
    const MOVES_TIME: bool = true;

    /// Makes a fresh, empty backend: a new file, schema or key prefix.
    ///
    /// [`Missing`] when the server that it needs is not there. Any other failure panics.
    fn create() -> impl Future<Output = Result<Self, Missing>> + Send;

    /// Returns when at least `span` more has passed on the backend's clock.
    fn advance(&self, span: Duration) -> impl Future<Output = ()> + Send;

    /// Why this backend does not run a case.
    #[must_use]
    fn skip(case: &str) -> Option<&'static str> {
        let _ = case;
        None
    }

    /// Removes what `create` made, after the case has passed or failed.
    fn clean_up(self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// A [`Fixture`] with a queue.
pub trait QueueFixture: Fixture {
    /// The queue.
    fn queue(&self) -> Arc<dyn JobQueue>;
}

/// A [`Fixture`] with a store, opened with its own queue or for another: the cases ask
/// [`Store::own_queue`].
pub trait StoreFixture: Fixture {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;

    /// What people see of the same store.
    fn history(&self) -> Arc<dyn History>;

    /// Puts this event into the inbox by a transaction of its own, as an application does.
    fn publish_later(&self, event: NewEvent) -> impl Future<Output = ()> + Send;
}

/// Runs one case on a fresh backend and cleans up after it. The macros call it.
///
/// # Panics
/// When the case fails, or the backend is [`Missing`] and `WEBHOOK_REQUIRE_BACKENDS` is `1`.
pub async fn run<F: Fixture>(name: &str, case: impl for<'a> FnOnce(&'a F) -> BoxFuture<'a, ()>) {
    if let Some(reason) = F::skip(name) {
        eprintln!("skipped {name}: {reason}");
        return;
    }
    let fixture = match F::create().await {
        Ok(fixture) => fixture,
        Err(Missing(reason)) => {
            let required = std::env::var("WEBHOOK_REQUIRE_BACKENDS").is_ok_and(|value| value == "1");
            assert!(!required, "WEBHOOK_REQUIRE_BACKENDS=1, but the backend of {name} is missing: {reason}");
            eprintln!("skipped {name}: {reason}");
            return;
        }
    };
    let outcome = AssertUnwindSafe(case(&fixture)).catch_unwind().await;
    fixture.clean_up().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}
