//! What this process knows of the tenants' subscriptions.
//!
//! A publish must see every subscription created before it, on every node (promise 10). So this is only ever
//! a guess that the store checks: `insert` carries the version that was matched against, and an outdated one
//! is refreshed here and matched again. What stands here needs no expiry and no messages between nodes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::BackendError;
use crate::id::SubscriptionId;
use crate::matching::Matcher;
use crate::model::{Subscription, Tenant};
use crate::retry::{RetryPolicy, give_up_after};
use crate::secret::Secret;
use crate::signature::Signer;
use crate::store::{ConfigVersion, SubscriptionStore};
use crate::time::Timestamp;

/// Defaults for what a subscription does not set itself.
#[derive(Debug, Clone)]
pub(super) struct Defaults {
    pub policy: Arc<dyn RetryPolicy>,
    pub timeout: Duration,
}

/// A subscription with all that sending to it needs, made once for each of its versions.
pub(super) struct Endpoint {
    pub subscription: Arc<Subscription>,
    pub policy: Arc<dyn RetryPolicy>,
    pub timeout: Duration,
    /// How long after its start a chain of attempts may be given up.
    pub give_up_after: Duration,
    signer: Signer,
    /// From then on one of the signer's secrets no longer signs.
    signer_until: Option<Timestamp>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("subscription", &self.subscription.id).finish_non_exhaustive()
    }
}

impl Endpoint {
    pub(super) fn new(subscription: Arc<Subscription>, defaults: &Defaults, now: Timestamp) -> Self {
        let policy: Arc<dyn RetryPolicy> = match &subscription.retry {
            Some(own) => Arc::new(own.clone()),
            None => Arc::clone(&defaults.policy),
        };
        Self {
            give_up_after: give_up_after(&*policy),
            policy,
            timeout: subscription.timeout.unwrap_or(defaults.timeout),
            signer: signer(&subscription, now),
            signer_until: subscription
                .secrets
                .iter()
                .filter_map(|active| active.expires_at)
                .filter(|end| now < *end)
                .min(),
            subscription,
        }
    }

    /// Signs with the secrets that sign at `now`.
    pub(super) fn signer(&self, now: Timestamp) -> std::borrow::Cow<'_, Signer> {
        if self.signer_until.is_some_and(|end| end <= now) {
            std::borrow::Cow::Owned(signer(&self.subscription, now))
        } else {
            std::borrow::Cow::Borrowed(&self.signer)
        }
    }
}

fn signer(subscription: &Subscription, now: Timestamp) -> Signer {
    let secrets: Vec<Secret> = subscription.signing_secrets(now).cloned().collect();
    Signer::new(subscription.signature, &secrets)
}

/// A tenant's subscriptions as of one version, compiled for matching.
#[derive(Debug)]
pub(super) struct TenantConfig {
    pub version: ConfigVersion,
    pub endpoints: HashMap<SubscriptionId, Arc<Endpoint>>,
    pub matcher: Matcher<Arc<Endpoint>>,
}

impl TenantConfig {
    fn new(version: ConfigVersion, endpoints: HashMap<SubscriptionId, Arc<Endpoint>>) -> Self {
        let mut ordered: Vec<_> = endpoints.values().collect();
        ordered.sort_by_key(|endpoint| endpoint.subscription.id);
        let matcher = Matcher::new(ordered.into_iter().map(|endpoint| {
            let subscription = &endpoint.subscription;
            (Arc::clone(endpoint), subscription.event_types.as_slice(), subscription.filter.clone())
        }));
        Self { version, endpoints, matcher }
    }
}

/// The configurations of all tenants that this process has met.
#[derive(Debug)]
pub(super) struct Configs {
    tenants: Mutex<HashMap<Tenant, Known>>,
    endpoints: Mutex<HashMap<SubscriptionId, Arc<Endpoint>>>,
    /// Held while a configuration is read, so that a thousand publishes read it once; first come, first
    /// served, so that they keep their order.
    reading: tokio::sync::Mutex<()>,
    pub defaults: Defaults,
}

#[derive(Debug, Clone)]
struct Known {
    config: Arc<TenantConfig>,
    /// The store has changed since, as far as this process knows.
    outdated: bool,
}

/// So many endpoints are kept for claims; each is one subscription's settings and keys.
const ENDPOINTS: usize = 10_000;

impl Configs {
    pub(super) fn new(defaults: Defaults) -> Self {
        let reading = tokio::sync::Mutex::new(());
        Self { tenants: Mutex::default(), endpoints: Mutex::default(), reading, defaults }
    }

    /// The tenant's configuration, as new as this process knows it.
    pub(super) async fn of(
        &self,
        store: &dyn SubscriptionStore,
        tenant: &Tenant,
        now: Timestamp,
    ) -> Result<Arc<TenantConfig>, BackendError> {
        let known = || lock(&self.tenants).get(tenant).cloned();
        if let Some(Known { config, outdated: false }) = known() {
            return Ok(config);
        }
        let _reading = self.reading.lock().await;
        match known() {
            Some(Known { config, outdated: false }) => Ok(config),
            known => self.refresh(store, tenant, known.map(|known| known.config), now).await,
        }
    }

    /// The store has another version than `seen`: the next look reads it, unless somebody has already.
    pub(super) fn outdated(&self, tenant: &Tenant, seen: ConfigVersion) {
        if let Some(known) = lock(&self.tenants).get_mut(tenant)
            && known.config.version == seen
        {
            known.outdated = true;
        }
    }

    /// This process changed the tenant's configuration.
    pub(super) fn forget(&self, tenant: &Tenant) {
        if let Some(known) = lock(&self.tenants).get_mut(tenant) {
            known.outdated = true;
        }
    }

    async fn refresh(
        &self,
        store: &dyn SubscriptionStore,
        tenant: &Tenant,
        known: Option<Arc<TenantConfig>>,
        now: Timestamp,
    ) -> Result<Arc<TenantConfig>, BackendError> {
        let changes = match &known {
            Some(known) => store.changes_since(tenant, known.version).await?,
            None => None,
        };
        let endpoint = |subscription: Arc<Subscription>| {
            (subscription.id, Arc::new(Endpoint::new(subscription, &self.defaults, now)))
        };
        let config = match (known, changes) {
            (Some(known), Some(changes)) => {
                let mut endpoints = known.endpoints.clone();
                endpoints.extend(changes.changed.into_iter().map(endpoint));
                for id in &changes.deleted {
                    endpoints.remove(id);
                }
                TenantConfig::new(changes.version, endpoints)
            }
            _ => {
                let snapshot = store.snapshot(tenant).await?;
                TenantConfig::new(
                    snapshot.version,
                    snapshot.subscriptions.into_iter().map(endpoint).collect(),
                )
            }
        };
        let config = Arc::new(config);
        let mut tenants = lock(&self.tenants);
        match tenants.get(tenant) {
            // A slower reader must not put back what a faster one has left behind.
            Some(newer) if newer.config.version > config.version => Ok(Arc::clone(&newer.config)),
            _ => {
                let known = Known { config: Arc::clone(&config), outdated: false };
                tenants.insert(tenant.clone(), known);
                Ok(config)
            }
        }
    }

    /// Endpoints of these subscriptions at exactly these versions, read from the store where this process
    /// has another; `None` for one that is deleted by now or changed again.
    pub(super) async fn endpoints(
        &self,
        store: &dyn SubscriptionStore,
        wanted: &[(SubscriptionId, u64)],
        now: Timestamp,
    ) -> Result<HashMap<SubscriptionId, Arc<Endpoint>>, BackendError> {
        let mut found = HashMap::with_capacity(wanted.len());
        let mut missing = Vec::new();
        {
            let endpoints = lock(&self.endpoints);
            for (id, version) in wanted {
                match endpoints.get(id) {
                    Some(endpoint) if endpoint.subscription.version == *version => {
                        found.insert(*id, Arc::clone(endpoint));
                    }
                    _ if !missing.contains(id) => missing.push(*id),
                    _ => {}
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let read = store.get(&missing).await?;
        let mut endpoints = lock(&self.endpoints);
        for subscription in read.into_iter().flatten() {
            let id = subscription.id;
            let endpoint = Arc::new(Endpoint::new(subscription, &self.defaults, now));
            if endpoints.len() >= ENDPOINTS {
                endpoints.clear();
            }
            endpoints.insert(id, Arc::clone(&endpoint));
            found.insert(id, endpoint);
        }
        Ok(found)
    }
}

/// None of the code under these locks can leave the maps half changed, so a panic elsewhere is no reason to
/// stop.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
