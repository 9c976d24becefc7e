//! The store's traits on [`PgStore`], each method in the module of its name.

mod columns;
mod deletion;
mod expire;
mod history;
mod inbox;
mod insert;
mod jobs;
mod load;
mod mark;
mod prune;
mod purge;
mod record;
mod relay;
mod replays;
mod statistics;
mod subscriptions;
mod turns;
mod whole;

pub(crate) use load::owed;
pub(crate) use relay::Relay;
pub(crate) use subscriptions::lane_settings;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, EventId, SubscriptionId};
use webhook_core::model::{Subscription, Tenant};
use webhook_core::queue::{HandOff, JobQueue};
use webhook_core::store::{
    Added, Changed, Changes, ConfigVersion, DeliveryStore, Ended, Expire, Expired, Insert, Inserted, Load,
    Loaded, NewDelivery, OfEvent, Owed, Page, PageRequest, PoolUse, Purged, Record, Recorded, Snapshot,
    Store, SubscriptionFilter, SubscriptionStore,
};

use crate::error::Fault;
use crate::open::{Inner, PgStore};
use crate::sql;

#[async_trait]
impl SubscriptionStore for PgStore {
    async fn create(&self, subscription: &Subscription) -> Result<Arc<Subscription>, BackendError> {
        let args = (&*self.inner, subscription);
        let run = self
            .inner
            .keeper
            .run("create", &args, |conn, (store, new)| subscriptions::create(conn, store, new).boxed());
        run.await
    }

    async fn update(&self, subscription: &Subscription, expected: u64) -> Result<Changed, BackendError> {
        let args = (&*self.inner, subscription, expected);
        let run = self.inner.keeper.run("update", &args, |conn, (store, new, expected)| {
            subscriptions::update(conn, store, new, *expected).boxed()
        });
        run.await
    }

    async fn delete(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
        expected: Option<u64>,
    ) -> Result<Changed, BackendError> {
        let args = (&*self.inner, tenant, id, expected);
        let run = self.inner.keeper.run("delete", &args, |conn, (store, tenant, id, expected)| {
            deletion::delete(conn, store, tenant, *id, *expected).boxed()
        });
        run.await
    }

    async fn get(&self, ids: &[SubscriptionId]) -> Result<Vec<Option<Arc<Subscription>>>, BackendError> {
        self.inner.loader.run("get", ids, |conn, ids| subscriptions::get(conn, ids).boxed()).await
    }

    async fn list(
        &self,
        filter: &SubscriptionFilter,
        page: PageRequest<SubscriptionId>,
    ) -> Result<Page<Arc<Subscription>, SubscriptionId>, BackendError> {
        let args = (filter, page);
        let run = self
            .inner
            .people
            .run("list", &args, |conn, (filter, page)| subscriptions::list(conn, filter, *page).boxed());
        run.await
    }

    async fn snapshot(&self, tenant: &Tenant) -> Result<Snapshot, BackendError> {
        self.inner
            .loader
            .run("snapshot", tenant, |conn, tenant| subscriptions::snapshot(conn, tenant).boxed())
            .await
    }

    async fn changes_since(
        &self,
        tenant: &Tenant,
        version: ConfigVersion,
    ) -> Result<Option<Changes>, BackendError> {
        let args = (tenant, version);
        let run = self.inner.loader.run("changes_since", &args, |conn, (tenant, version)| {
            subscriptions::changes_since(conn, tenant, *version).boxed()
        });
        run.await
    }
}

#[async_trait]
impl DeliveryStore for PgStore {
    async fn insert(
        &self,
        events: &[Insert],
        hand_off: Option<&HandOff>,
    ) -> Result<Vec<Inserted>, BackendError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let args = (&*self.inner, events, hand_off);
        let run = self.inner.committer.run("insert", &args, |conn, (store, events, hand_off)| {
            insert::insert(conn, store, events, *hand_off).boxed()
        });
        run.await
    }

    async fn load(&self, deliveries: &[Load]) -> Result<Vec<Option<Loaded>>, BackendError> {
        if deliveries.is_empty() {
            return Ok(Vec::new());
        }
        self.inner.loader.run("load", deliveries, |conn, wanted| load::load(conn, wanted).boxed()).await
    }

    async fn record(&self, results: &[Record]) -> Result<Vec<Recorded>, BackendError> {
        if results.is_empty() {
            return Ok(Vec::new());
        }
        let args = (&*self.inner, results);
        let run = self
            .inner
            .recorder
            .run("record", &args, |conn, (store, results)| record::record(conn, store, results).boxed());
        run.await
    }

    async fn cancel_deleted(&self, limit: u32) -> Result<Vec<Ended>, BackendError> {
        deletion::cancel_deleted(&self.inner, limit).await
    }

    async fn expire(&self, which: Expire, limit: u32) -> Result<Expired, BackendError> {
        expire::expire(&self.inner, which, limit).await
    }

    async fn of_event(&self, tenant: &Tenant, event: EventId) -> Result<Option<OfEvent>, BackendError> {
        let args = (tenant, event);
        let run = self
            .inner
            .people
            .run("of_event", &args, |conn, (tenant, event)| whole::of_event(conn, tenant, *event).boxed());
        run.await
    }

    async fn add_deliveries(
        &self,
        event: EventId,
        deliveries: &[NewDelivery],
        config_version: ConfigVersion,
    ) -> Result<Added, BackendError> {
        let args = (&*self.inner, event, deliveries, config_version);
        let run = self.inner.keeper.run("add_deliveries", &args, |conn, (store, event, new, version)| {
            whole::add(conn, store, *event, new, *version).boxed()
        });
        run.await
    }

    /// Nothing when the queue is in the same database: it misses no job.
    async fn owed(&self, after: Option<DeliveryId>, limit: u32) -> Result<Vec<Owed>, BackendError> {
        if self.inner.own_queue {
            return Ok(Vec::new());
        }
        let args = (after, limit);
        self.inner.keeper.run("owed", &args, |conn, (after, limit)| owed(conn, *after, *limit).boxed()).await
    }

    async fn prune(&self, retention: Duration, limit: u32) -> Result<u64, BackendError> {
        prune::prune(&self.inner, retention, limit).await
    }

    async fn purge(
        &self,
        tenant: &Tenant,
        older_than: Duration,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Purged, BackendError> {
        purge::purge(&self.inner, tenant, older_than, after, limit).await
    }
}

#[async_trait]
impl Store for PgStore {
    fn own_queue(&self) -> Option<Arc<dyn JobQueue>> {
        self.inner.own_queue.then(|| Arc::new(self.clone()) as Arc<dyn JobQueue>)
    }

    async fn ping(&self) -> Result<(), BackendError> {
        let ping = self.inner.keeper.run("ping", &(), |conn, ()| {
            async move { Ok::<_, Fault>(sqlx::query(sql::PING).execute(conn).await?) }.boxed()
        });
        ping.await.map(|_| ())
    }

    /// Those of the store's tasks; with its own queue, that queue's too.
    fn pools(&self) -> Vec<PoolUse> {
        let Inner { committer, recorder, loader, keeper, people, queue, own_queue, .. } = &*self.inner;
        let mut pools = vec![
            committer.usage("committer"),
            recorder.usage("recorder"),
            loader.usage("loader"),
            keeper.usage("keeper"),
            people.usage("people"),
        ];
        if *own_queue {
            pools.extend(queue.pools());
        }
        pools
    }

    async fn queue_epoch(&self) -> Result<u64, BackendError> {
        let read = self.inner.keeper.run("queue_epoch", &(), |conn, ()| {
            async move { Ok::<i64, Fault>(sqlx::query_scalar(sql::EPOCH).fetch_one(conn).await?) }.boxed()
        });
        read.await.map(i64::cast_unsigned)
    }

    async fn advance_epoch(&self, expected: u64, to: u64) -> Result<bool, BackendError> {
        let args = (expected.cast_signed(), to.cast_signed());
        let advance = self.inner.keeper.run("advance_epoch", &args, |conn, (expected, to)| {
            let update = sqlx::query(sql::ADVANCE_EPOCH).bind(*expected).bind(*to);
            async move { Ok::<_, Fault>(update.execute(conn).await?) }.boxed()
        });
        advance.await.map(|done| done.rows_affected() == 1)
    }
}
