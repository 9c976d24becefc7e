//! What all handlers share.

use std::sync::Arc;

use webhook_core::Webhooks;
use webhook_core::id::SubscriptionId;
use webhook_core::model::Subscription;
use webhook_core::store::History;

use crate::access::Scope;
use crate::options::HttpOptions;
use crate::problem::Problem;

/// Room for the fields of an event beside its payload.
const ENVELOPE: usize = 64 * 1024;
/// A batch may be so many times as large as a payload in all.
const BATCH: usize = 8;

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) webhooks: Webhooks,
    pub(crate) history: Arc<dyn History>,
    pub(crate) options: HttpOptions,
}

pub(crate) type Shared = Arc<App>;

impl App {
    pub(crate) fn event_limit(&self) -> usize {
        self.options.max_payload.saturating_add(ENVELOPE)
    }

    pub(crate) fn batch_limit(&self) -> usize {
        self.options.max_payload.saturating_mul(BATCH)
    }

    /// A subscription, if it lies within the scope.
    pub(crate) async fn subscription(
        &self,
        scope: &Scope,
        id: SubscriptionId,
    ) -> Result<Arc<Subscription>, Problem> {
        let subscriptions = self.webhooks.subscriptions();
        let found = match scope {
            Scope::One(tenant) => subscriptions.get(tenant, id).await,
            Scope::All => subscriptions.get_any(id).await,
        };
        Ok(found?)
    }
}
