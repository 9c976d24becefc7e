//! Subscriptions, and the version of each tenant's configuration.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;

use super::history::page;
use super::store::{MemoryStore, Tables};
use crate::error::BackendError;
use crate::id::SubscriptionId;
use crate::model::{Subscription, Tenant};
use crate::store::{
    Changed, Changes, ConfigVersion, Page, PageRequest, Snapshot, SubscriptionFilter, SubscriptionStore,
};

/// So many changes of a tenant's configuration are remembered; who is further behind needs a snapshot.
const LOG_LENGTH: usize = 1000;

/// The version of a tenant's configuration, and what its last changes were.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub(super) version: ConfigVersion,
    /// The subscriptions that the last versions changed, one each, the newest last.
    log: VecDeque<SubscriptionId>,
}

impl Config {
    fn change(&mut self, subscription: SubscriptionId) {
        self.version += 1;
        self.log.push_back(subscription);
        if self.log.len() > LOG_LENGTH {
            self.log.pop_front();
        }
    }

    /// What changed since a version; `None` when that is too long ago, or a version there never was.
    fn since(&self, version: ConfigVersion) -> Option<impl Iterator<Item = SubscriptionId>> {
        let behind = usize::try_from(self.version.checked_sub(version)?).ok()?;
        let start = self.log.len().checked_sub(behind)?;
        Some(self.log.range(start..).copied())
    }
}

#[derive(Debug)]
pub(super) struct SubscriptionRow {
    pub(super) subscription: Arc<Subscription>,
    pub(super) deleted: bool,
}

impl Tables {
    pub(super) fn config_version(&self, tenant: &Tenant) -> ConfigVersion {
        self.configs.get(tenant).map_or(0, |config| config.version)
    }

    /// A subscription that was not deleted.
    pub(super) fn subscription(&self, id: SubscriptionId) -> Option<&Arc<Subscription>> {
        self.subscriptions.get(&id).filter(|row| !row.deleted).map(|row| &row.subscription)
    }

    fn changed(&mut self, subscription: &Subscription) {
        self.configs.entry(subscription.tenant.clone()).or_default().change(subscription.id);
    }

    /// A subscription of this tenant that may be changed, or why it may not.
    fn changeable(
        &mut self,
        tenant: &Tenant,
        id: SubscriptionId,
        expected: Option<u64>,
    ) -> Result<&mut SubscriptionRow, Changed> {
        let row = self
            .subscriptions
            .get_mut(&id)
            .filter(|row| !row.deleted && row.subscription.tenant == *tenant)
            .ok_or(Changed::NotFound)?;
        let current = row.subscription.version;
        if expected.is_some_and(|expected| expected != current) {
            return Err(Changed::VersionMismatch { current });
        }
        Ok(row)
    }
}

fn takes(subscription: &Subscription, filter: &SubscriptionFilter) -> bool {
    filter.tenant.as_ref().is_none_or(|tenant| *tenant == subscription.tenant)
        && (filter.statuses.is_empty() || filter.statuses.contains(&subscription.status))
        && filter.event_type.as_ref().is_none_or(|event_type| {
            subscription.event_types.is_empty()
                || subscription.event_types.iter().any(|pattern| pattern.matches(event_type.as_str()))
        })
}

#[async_trait]
impl SubscriptionStore for MemoryStore {
    async fn create(&self, subscription: &Subscription) -> Result<Arc<Subscription>, BackendError> {
        let now = self.now();
        let mut tables = self.tables();
        if let Some(row) = tables.subscriptions.get(&subscription.id) {
            return Ok(Arc::clone(&row.subscription));
        }
        let stored =
            Arc::new(Subscription { version: 1, created_at: now, updated_at: now, ..subscription.clone() });
        let row = SubscriptionRow { subscription: Arc::clone(&stored), deleted: false };
        tables.subscriptions.insert(stored.id, row);
        tables.changed(&stored);
        Ok(stored)
    }

    async fn update(&self, subscription: &Subscription, expected: u64) -> Result<Changed, BackendError> {
        let now = self.now();
        let mut tables = self.tables();
        let row = match tables.changeable(&subscription.tenant, subscription.id, Some(expected)) {
            Ok(row) => row,
            Err(refused) => return Ok(refused),
        };
        let stored = Arc::new(Subscription {
            version: expected + 1,
            created_at: row.subscription.created_at,
            updated_at: now,
            ..subscription.clone()
        });
        row.subscription = Arc::clone(&stored);
        tables.changed(&stored);
        Ok(Changed::Done(stored))
    }

    async fn delete(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
        expected: Option<u64>,
    ) -> Result<Changed, BackendError> {
        let mut tables = self.tables();
        let row = match tables.changeable(tenant, id, expected) {
            Ok(row) => row,
            Err(refused) => return Ok(refused),
        };
        let version = row.subscription.version + 1;
        let deleted = Arc::new(Subscription { version, ..(*row.subscription).clone() });
        *row = SubscriptionRow { subscription: Arc::clone(&deleted), deleted: true };
        tables.deleting.insert(id);
        tables.changed(&deleted);
        Ok(Changed::Done(deleted))
    }

    async fn get(&self, ids: &[SubscriptionId]) -> Result<Vec<Option<Arc<Subscription>>>, BackendError> {
        let tables = self.tables();
        Ok(ids.iter().map(|id| tables.subscription(*id).cloned()).collect())
    }

    async fn list(
        &self,
        filter: &SubscriptionFilter,
        request: PageRequest<SubscriptionId>,
    ) -> Result<Page<Arc<Subscription>, SubscriptionId>, BackendError> {
        let tables = self.tables();
        let end = request.before.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = tables.subscriptions.range((Bound::Unbounded, end)).rev();
        let wanted = rows.filter(|(_, row)| !row.deleted && takes(&row.subscription, filter));
        Ok(page(wanted.map(|(id, row)| (*id, Arc::clone(&row.subscription))), request.limit))
    }

    async fn snapshot(&self, tenant: &Tenant) -> Result<Snapshot, BackendError> {
        let tables = self.tables();
        let subscriptions = tables
            .subscriptions
            .values()
            .filter(|row| !row.deleted && row.subscription.tenant == *tenant)
            .map(|row| Arc::clone(&row.subscription))
            .collect();
        Ok(Snapshot { version: tables.config_version(tenant), subscriptions })
    }

    async fn changes_since(
        &self,
        tenant: &Tenant,
        version: ConfigVersion,
    ) -> Result<Option<Changes>, BackendError> {
        let tables = self.tables();
        let unchanged = Config::default();
        let config = tables.configs.get(tenant).unwrap_or(&unchanged);
        let Some(log) = config.since(version) else { return Ok(None) };
        let mut ids: Vec<SubscriptionId> = log.collect();
        ids.sort_unstable();
        ids.dedup();
        let (live, deleted): (Vec<_>, Vec<_>) =
            ids.into_iter().partition(|id| tables.subscription(*id).is_some());
        let changed = live.into_iter().filter_map(|id| tables.subscription(id).cloned()).collect();
        Ok(Some(Changes { version: config.version, changed, deleted }))
    }
}
