//! What was counted and is not being written yet.
//!
//! A thing is counted for everybody, for its tenant and for its subscription: one look-up for each of the latter
//! two, and a name is copied only when it is counted for the first time. Whoever counts holds the lock for a whole
//! committed batch, and awaits nothing meanwhile.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::MutexGuard;
use std::time::Duration;

use tokio::sync::mpsc;

use super::meters::Meters;
use crate::id::SubscriptionId;
use crate::model::{DeliveryStatus, Outcome, Tenant};
use crate::stats::{Counts, Rollup, Scope};

/// Subscriptions that one set of roll-ups names.
const SUBSCRIPTIONS: usize = 10_000;
/// Tenants that one set of roll-ups names.
const TENANTS: usize = 10_000;

#[derive(Debug, Default)]
struct OfTenant {
    counts: Counts,
    subscriptions: HashMap<SubscriptionId, Counts>,
}

/// Counts by scope.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    all: Counts,
    tenants: HashMap<Tenant, OfTenant>,
    /// How many all tenants have.
    subscriptions: usize,
    is_full: bool,
}

impl Gathered {
    /// Counts something that happened to these subscriptions of a tenant: for each of them, and unless it is
    /// `only_theirs` once for the tenant and once for everybody.
    fn count(
        &mut self,
        tenant: &Tenant,
        subscriptions: impl IntoIterator<Item = SubscriptionId>,
        only_theirs: bool,
        count: impl Fn(&mut Counts),
    ) {
        if !only_theirs {
            count(&mut self.all);
        }
        let is_full = self.tenants.len() == TENANTS;
        let of_tenant = match self.tenants.get_mut(tenant) {
            Some(known) => known,
            None if is_full => return Self::full(&mut self.is_full),
            None => self.tenants.entry(tenant.clone()).or_default(),
        };
        if !only_theirs {
            count(&mut of_tenant.counts);
        }
        for subscription in subscriptions {
            match of_tenant.subscriptions.entry(subscription) {
                Entry::Occupied(mut known) => count(known.get_mut()),
                Entry::Vacant(_) if self.subscriptions == SUBSCRIPTIONS => Self::full(&mut self.is_full),
                Entry::Vacant(new) => {
                    self.subscriptions += 1;
                    count(new.insert(Counts::default()));
                }
            }
        }
    }

    fn full(is_full: &mut bool) {
        if !std::mem::replace(is_full, true) {
            tracing::warn!("too many subscriptions are busy at once: some have no statistics for now");
        }
    }

    /// Tells what was counted for the subscriptions of a tenant, or of all.
    pub(super) fn each_subscription(
        &self,
        scope: &Scope,
        mut tell: impl FnMut(&Tenant, SubscriptionId, &Counts),
    ) {
        let mut tell_all = |tenant: &Tenant, of: &OfTenant| {
            of.subscriptions.iter().for_each(|(id, counts)| tell(tenant, *id, counts));
        };
        match scope {
            Scope::All => self.tenants.iter().for_each(|(tenant, of)| tell_all(tenant, of)),
            Scope::Tenant(tenant) => {
                if let Some(of) = self.tenants.get(tenant) {
                    tell_all(tenant, of);
                }
            }
            Scope::Subscription(..) => {}
        }
    }

    /// What was counted for a scope.
    pub(super) fn of(&self, scope: &Scope) -> Option<&Counts> {
        match scope {
            Scope::All => Some(&self.all),
            Scope::Tenant(tenant) => self.tenants.get(tenant).map(|of| &of.counts),
            Scope::Subscription(tenant, id) => self.tenants.get(tenant)?.subscriptions.get(id),
        }
    }

    /// One roll-up for each scope of which something was counted.
    pub(super) fn into_rollups(self) -> Vec<Rollup> {
        let nothing = Counts::default();
        let mut rollups = Vec::with_capacity(1 + self.tenants.len() + self.subscriptions);
        let mut add = |scope, counts: Counts| {
            if counts != nothing {
                rollups.push(Rollup::new(scope, counts));
            }
        };
        add(Scope::All, self.all);
        for (tenant, OfTenant { counts, subscriptions }) in self.tenants {
            for (id, counts) in subscriptions {
                add(Scope::Subscription(tenant.clone(), id), counts);
            }
            add(Scope::Tenant(tenant), counts);
        }
        rollups
    }
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Happened {
    /// An attempt was recorded; whether it replaces its own unknown row.
    pub attempt: Option<(Outcome, bool)>,
    /// It became this and had not ended before; and so did others of its subscription, so many in all.
    pub ended: Option<(DeliveryStatus, u64)>,
    /// It succeeded so long after it was published.
    pub latency: Option<Duration>,
}

/// Counts for the metrics and for the statistics, which count the same things, until it is dropped.
pub(super) struct Counting<'a> {
    meters: &'a Meters,
    gathered: MutexGuard<'a, Gathered>,
    woken: &'a mpsc::Sender<()>,
}

impl<'a> Counting<'a> {
    pub(super) fn new(
        meters: &'a Meters,
        gathered: MutexGuard<'a, Gathered>,
        woken: &'a mpsc::Sender<()>,
    ) -> Self {
        Self { meters, gathered, woken }
    }

    /// An event was stored, with deliveries to these subscriptions.
    pub(super) fn published(
        &mut self,
        tenant: &Tenant,
        subscriptions: impl ExactSizeIterator<Item = SubscriptionId>,
    ) {
        self.meters.published(subscriptions.len());
        self.gathered.count(tenant, subscriptions, false, |counts| counts.events += 1);
    }

    /// An event that was stored before has deliveries to these subscriptions too.
    pub(super) fn added(&mut self, tenant: &Tenant, subscriptions: impl IntoIterator<Item = SubscriptionId>) {
        self.gathered.count(tenant, subscriptions, true, |counts| counts.events += 1);
    }

    /// Something happened to a delivery. (The meters count an attempt when its exchange is over.)
    pub(super) fn happened(&mut self, tenant: &Tenant, subscription: SubscriptionId, what: Happened) {
        let Happened { attempt, ended, latency } = what;
        if let Some((status, count)) = ended {
            self.meters.ended(status, count);
        }
        if let Some(latency) = latency {
            self.meters.latency(latency);
        }
        self.gathered.count(tenant, [subscription], false, |counts| {
            if let Some((outcome, replaces)) = attempt {
                counts.attempt(outcome, replaces);
            }
            if let Some((status, count)) = ended {
                counts.ended(status, count);
            }
            if let Some(latency) = latency {
                counts.latency.add(latency);
            }
        });
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        // Full: it is awake.
        let _ = self.woken.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        name.parse().unwrap()
    }

    #[test]
    fn each_scope_has_one_roll_up_and_what_counted_nothing_has_none() {
        let mut gathered = Gathered::default();
        let [one, other] = [SubscriptionId::new(), SubscriptionId::new()];
        let event = |counts: &mut Counts| counts.events += 1;
        gathered.count(&tenant("a"), [one, other], false, event);
        gathered.count(&tenant("a"), [one], false, event);
        gathered.count(&tenant("b"), [other], true, event);
        let mut found: Vec<_> =
            gathered.into_rollups().into_iter().map(|rollup| (rollup.scope, rollup.counts.events)).collect();
        found.sort();
        let of = |name, id| Scope::Subscription(tenant(name), id);
        let expected = [
            (Scope::All, 2),
            (Scope::Tenant(tenant("a")), 2),
            (of("a", one), 2),
            (of("a", other), 1),
            (of("b", other), 1),
        ];
        assert_eq!(found, expected);
    }

    /// Promise 16.
    #[test]
    fn a_set_names_no_more_subscriptions_than_its_bound() {
        let mut gathered = Gathered::default();
        for _ in 0..=SUBSCRIPTIONS {
            gathered.count(&tenant("a"), [SubscriptionId::new()], false, |counts| counts.events += 1);
        }
        let events = i64::try_from(SUBSCRIPTIONS).unwrap() + 1;
        assert_eq!(gathered.of(&Scope::Tenant(tenant("a"))).unwrap().events, events, "the sums are whole");
        assert_eq!(gathered.into_rollups().len(), SUBSCRIPTIONS + 2);
    }
}
