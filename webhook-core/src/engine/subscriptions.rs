//! Managing subscriptions: what a user writes is checked, stored, and seen by the next publish.

use std::sync::Arc;
use std::time::Duration;

use super::draft::{self, FieldError, SubscriptionDraft};
use super::handle::Inner;
use crate::error::BackendError;
use crate::id::SubscriptionId;
use crate::model::{ActiveSecret, DisabledReason, Subscription, SubscriptionStatus, Tenant};
use crate::secret::Secret;
use crate::store::{Changed, Page, PageRequest, SubscriptionFilter};

/// Why a subscription was not created, changed or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscriptionError {
    /// Some fields are wrong.
    #[error("the subscription is not valid: {}", list(.0))]
    Invalid(Vec<FieldError>),
    /// There is none with this id in this tenant.
    #[error("there is no such subscription")]
    NotFound,
    /// It was changed meanwhile.
    #[error("the subscription is at version {current}, not at the expected one")]
    VersionMismatch {
        /// The version it has.
        current: u64,
    },
    /// The store does not answer, or failed.
    #[error("the store did not take the change")]
    Store(#[from] BackendError),
}

fn list(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Subscriptions of one engine; from [`Webhooks::subscriptions`](super::Webhooks::subscriptions).
#[derive(Debug)]
pub struct Subscriptions<'a> {
    pub(super) inner: &'a Arc<Inner>,
}

/// A rotated secret signs at most this long beside its successor.
pub const MAX_OVERLAP: Duration = Duration::from_secs(30 * 86_400);

/// How often a change without an expected version is tried again because somebody else was faster.
const TRIES: usize = 8;

impl Subscriptions<'_> {
    /// Stores a new subscription. Every publish that starts after the return sees it (promise 10).
    ///
    /// # Errors
    /// [`SubscriptionError::Invalid`] with every wrong field; [`SubscriptionError::Store`].
    ///
    /// # Cancel safety
    /// If dropped, the subscription may or may not have been created.
    pub async fn create(
        &self,
        tenant: &Tenant,
        draft: &SubscriptionDraft,
    ) -> Result<Arc<Subscription>, SubscriptionError> {
        let subscription =
            draft::accept(draft, tenant, None, &self.inner.rules).map_err(SubscriptionError::Invalid)?;
        let stored = self.inner.store.create(&subscription).await?;
        self.changed(&stored).await;
        Ok(stored)
    }

    /// Replaces all that a user can change. `expected` is the version that the user has seen; without one
    /// the change is made on whatever is stored.
    ///
    /// # Errors
    /// As for [`create`](Self::create); [`SubscriptionError::NotFound`];
    /// [`SubscriptionError::VersionMismatch`].
    ///
    /// # Cancel safety
    /// If dropped, the change may or may not have been made.
    pub async fn replace(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
        draft: &SubscriptionDraft,
        expected: Option<u64>,
    ) -> Result<Arc<Subscription>, SubscriptionError> {
        self.change(tenant, id, expected, |stored| {
            draft::accept(draft, tenant, Some(stored), &self.inner.rules)
        })
        .await
    }

    /// Deletes it: nothing more starts, and its unfinished deliveries are cancelled shortly after.
    ///
    /// # Errors
    /// [`SubscriptionError::NotFound`], [`SubscriptionError::VersionMismatch`],
    /// [`SubscriptionError::Store`].
    ///
    /// # Cancel safety
    /// If dropped, it may or may not have been deleted.
    pub async fn delete(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
        expected: Option<u64>,
    ) -> Result<(), SubscriptionError> {
        match self.inner.store.delete(tenant, id, expected).await? {
            Changed::Done(_) => {
                self.inner.configs.forget(tenant);
                self.inner.reconcile_now.notify_one();
                Ok(())
            }
            Changed::VersionMismatch { current } => Err(SubscriptionError::VersionMismatch { current }),
            Changed::NotFound => Err(SubscriptionError::NotFound),
        }
    }

    /// One subscription.
    ///
    /// # Errors
    /// [`SubscriptionError::NotFound`], [`SubscriptionError::Store`].
    pub async fn get(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
    ) -> Result<Arc<Subscription>, SubscriptionError> {
        let found = self.inner.store.get(&[id]).await?.into_iter().next().flatten();
        found.filter(|found| found.tenant == *tenant).ok_or(SubscriptionError::NotFound)
    }

    /// One subscription of whatever tenant, for callers that may act for all of them.
    ///
    /// # Errors
    /// [`SubscriptionError::NotFound`], [`SubscriptionError::Store`].
    pub async fn get_any(&self, id: SubscriptionId) -> Result<Arc<Subscription>, SubscriptionError> {
        let found = self.inner.store.get(&[id]).await?.into_iter().next().flatten();
        found.ok_or(SubscriptionError::NotFound)
    }

    /// A page of subscriptions, newest first.
    ///
    /// # Errors
    /// [`SubscriptionError::Store`].
    pub async fn list(
        &self,
        filter: &SubscriptionFilter,
        page: PageRequest<SubscriptionId>,
    ) -> Result<Page<Arc<Subscription>, SubscriptionId>, SubscriptionError> {
        Ok(self.inner.store.list(filter, page).await?)
    }

    /// The newest signing secret.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub async fn secret(&self, tenant: &Tenant, id: SubscriptionId) -> Result<Secret, SubscriptionError> {
        let found = self.get(tenant, id).await?;
        found.secrets.first().map(|active| active.secret.clone()).ok_or(SubscriptionError::NotFound)
    }

    /// Lets its deliveries wait until [`resume`](Self::resume). One that is disabled already stays so.
    ///
    /// # Errors
    /// As for [`replace`](Self::replace).
    ///
    /// # Cancel safety
    /// If dropped, the change may or may not have been made.
    pub async fn pause(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
    ) -> Result<Arc<Subscription>, SubscriptionError> {
        self.change(tenant, id, None, |stored| {
            let mut changed = stored.clone();
            if stored.status == SubscriptionStatus::Active {
                changed.status = SubscriptionStatus::Paused;
            }
            Ok(changed)
        })
        .await
    }

    /// Lets its deliveries go, whether it was paused or disabled.
    ///
    /// # Errors
    /// As for [`replace`](Self::replace).
    ///
    /// # Cancel safety
    /// If dropped, the change may or may not have been made.
    pub async fn resume(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
    ) -> Result<Arc<Subscription>, SubscriptionError> {
        self.change(tenant, id, None, |stored| {
            let (status, disabled_reason) = (SubscriptionStatus::Active, None);
            Ok(Subscription { status, disabled_reason, ..stored.clone() })
        })
        .await
    }

    /// Makes `secret`, or a new one, the newest signing secret. The one before it signs too until `overlap`
    /// has passed; those before that no longer sign.
    ///
    /// # Errors
    /// [`SubscriptionError::Invalid`] when the secret does not fit the signature's scheme or the overlap is
    /// longer than [`MAX_OVERLAP`](super::MAX_OVERLAP); else as for [`replace`](Self::replace).
    ///
    /// # Cancel safety
    /// If dropped, the change may or may not have been made.
    pub async fn rotate_secret(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
        secret: Option<Secret>,
        overlap: Duration,
    ) -> Result<Secret, SubscriptionError> {
        if overlap > MAX_OVERLAP {
            return Err(SubscriptionError::Invalid(vec![FieldError::new("overlap", "at most 30d")]));
        }
        let secret = secret.unwrap_or_else(Secret::generate);
        let now = self.inner.clock.now();
        self.change(tenant, id, None, |stored| {
            Secret::parse(secret.expose(), stored.signature)
                .map_err(|error| vec![FieldError::new("secret", error)])?;
            let newest = ActiveSecret { secret: secret.clone(), expires_at: None };
            let before =
                stored.secrets.first().filter(|before| before.secret != secret && !overlap.is_zero());
            let before =
                before.map(|before| ActiveSecret { expires_at: Some(now.after(overlap)), ..before.clone() });
            Ok(Subscription {
                secrets: [Some(newest), before].into_iter().flatten().collect(),
                ..stored.clone()
            })
        })
        .await?;
        Ok(secret)
    }

    /// Disables it, if `still` holds for what is stored. One that is paused too: what its target said or showed is
    /// newer than what a person said, must be seen by whoever wants to resume it, and resuming re-enables either.
    pub(super) async fn disable(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
        reason: DisabledReason,
        still: impl Fn(&Subscription) -> bool,
    ) -> Result<(), SubscriptionError> {
        self.change(tenant, id, None, |stored| {
            let mut changed = stored.clone();
            if stored.status != SubscriptionStatus::Disabled && still(stored) {
                changed.status = SubscriptionStatus::Disabled;
                changed.disabled_reason = Some(reason);
            }
            Ok(changed)
        })
        .await
        .map(drop)
    }

    async fn change(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
        expected: Option<u64>,
        change: impl Fn(&Subscription) -> Result<Subscription, Vec<FieldError>>,
    ) -> Result<Arc<Subscription>, SubscriptionError> {
        let mut last_seen = 0;
        for _ in 0..TRIES {
            let stored = self.get(tenant, id).await?;
            if let Some(expected) = expected
                && expected != stored.version
            {
                return Err(SubscriptionError::VersionMismatch { current: stored.version });
            }
            let changed = change(&stored).map_err(SubscriptionError::Invalid)?;
            if changed == *stored {
                return Ok(stored);
            }
            match self.inner.store.update(&changed, stored.version).await? {
                Changed::Done(stored) => {
                    self.changed(&stored).await;
                    return Ok(stored);
                }
                Changed::VersionMismatch { current } if expected.is_some() => {
                    return Err(SubscriptionError::VersionMismatch { current });
                }
                Changed::VersionMismatch { current } => last_seen = current,
                Changed::NotFound => return Err(SubscriptionError::NotFound),
            }
        }
        Err(SubscriptionError::VersionMismatch { current: last_seen })
    }

    /// Lets a separate queue know at once; should that fail, the next enqueue or sweep meets the older
    /// version and pushes the settings.
    async fn changed(&self, stored: &Subscription) {
        self.inner.configs.forget(&stored.tenant);
        if !self.inner.own_queue
            && let Err(error) = self.inner.queue.lanes(&[super::lane_settings(stored)]).await
        {
            tracing::debug!(%error, subscription = %stored.id, "the queue did not take the lane's settings");
        }
    }
}
