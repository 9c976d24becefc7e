use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use super::{ConfigVersion, Page, PageRequest};
use crate::error::BackendError;
use crate::id::SubscriptionId;
use crate::model::{EventType, Subscription, SubscriptionStatus, Tenant};

/// What became of a change to a subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Changed {
    /// It was made; this is what is stored now.
    Done(Arc<Subscription>),
    /// The subscription has another version than expected: nothing changed.
    VersionMismatch {
        /// The version it has.
        current: u64,
    },
    /// There is none with this id in this tenant.
    NotFound,
}

/// All subscriptions of a tenant, as of one version of its configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The version.
    pub version: ConfigVersion,
    /// The subscriptions in the order of their ids, deleted ones left out.
    pub subscriptions: Vec<Arc<Subscription>>,
}

/// What changed in a tenant's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// The version with all these changes in it.
    pub version: ConfigVersion,
    /// Created or changed ones, as they are now.
    pub changed: Vec<Arc<Subscription>>,
    /// Deleted ones.
    pub deleted: Vec<SubscriptionId>,
}

/// Which subscriptions to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionFilter {
    /// Of this tenant; `None`: of all.
    pub tenant: Option<Tenant>,
    /// With one of these statuses; empty: with any.
    pub statuses: Vec<SubscriptionStatus>,
    /// That take this event type.
    pub event_type: Option<EventType>,
}

/// Who wants what.
#[async_trait]
pub trait SubscriptionStore: Debug + Send + Sync + 'static {
    /// Stores a new subscription at version 1, stamps its times and returns it as stored. Raises the
    /// tenant's configuration version in the same commit, so that every publish that starts after the return
    /// sees it, on every node (promise 10).
    ///
    /// A repeat with the same id returns what is stored.
    ///
    /// # Errors
    /// When nothing is known; the call may be repeated.
    async fn create(&self, subscription: &Subscription) -> Result<Arc<Subscription>, BackendError>;

    /// Replaces what is stored if its version is `expected`, with the version raised by one and
    /// `updated_at` stamped; `id`, `tenant` and `created_at` never change. Raises the configuration version.
    ///
    /// # Errors
    /// When nothing is known; after it took effect a repeat answers [`Changed::VersionMismatch`].
    async fn update(&self, subscription: &Subscription, expected: u64) -> Result<Changed, BackendError>;

    /// Deletes it, if `expected` is `None` or its version. In the same commit its lane is held and the
    /// configuration version is raised; its unfinished deliveries are cancelled by
    /// [`DeliveryStore::cancel_deleted`](super::DeliveryStore::cancel_deleted). [`Changed::Done`] carries
    /// what was deleted, with its version raised by one, so that settings of the lane that are pushed late
    /// cannot lift the hold.
    ///
    /// # Errors
    /// When nothing is known; after it took effect a repeat answers [`Changed::NotFound`].
    async fn delete(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
        expected: Option<u64>,
    ) -> Result<Changed, BackendError>;

    /// The subscriptions with these ids, of any tenant, in input order; `None` for unknown and deleted ones.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn get(&self, ids: &[SubscriptionId]) -> Result<Vec<Option<Arc<Subscription>>>, BackendError>;

    /// A page of subscriptions, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn list(
        &self,
        filter: &SubscriptionFilter,
        page: PageRequest<SubscriptionId>,
    ) -> Result<Page<Arc<Subscription>, SubscriptionId>, BackendError>;

    /// All subscriptions of a tenant.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn snapshot(&self, tenant: &Tenant) -> Result<Snapshot, BackendError>;

    /// What changed since a version; `None` when the store no longer knows, and a snapshot is needed.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn changes_since(
        &self,
        tenant: &Tenant,
        version: ConfigVersion,
    ) -> Result<Option<Changes>, BackendError>;
}
