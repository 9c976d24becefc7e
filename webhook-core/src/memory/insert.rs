//! Storing events with their deliveries, and more deliveries of a stored event.

use std::collections::HashSet;
use std::sync::Arc;

use super::store::{Chain, DeliveryRow, EventRow, KeyRow, Tables};
use crate::id::{DeliveryId, EventId, SubscriptionId};
use crate::model::{DeliveryState, Event, Tenant};
use crate::store::{Added, ConfigVersion, Duplicate, Insert, Inserted, KEY_LIFETIME, NewDelivery};
use crate::time::Timestamp;

/// So many deliveries are listed of a repeated publish.
const DUPLICATE_LIST: usize = 1000;

impl KeyRow {
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        now < self.created_at.after(KEY_LIFETIME)
    }
}

impl Tables {
    /// Stores an event with all its deliveries, or says why not and stores nothing.
    pub(super) fn insert(&mut self, insert: &Insert, now: Timestamp) -> Inserted {
        let event = &insert.event;
        if let Some(row) = self.events.get(&event.id) {
            return Inserted::Duplicate(self.duplicate(row));
        }
        let key = event.idempotency_key.as_ref().map(|key| (event.tenant.clone(), key.clone()));
        if let Some(repeat) = key.as_ref().and_then(|key| self.repeat(key, insert, now)) {
            return repeat;
        }
        if insert.config_version != self.config_version(&event.tenant) {
            return Inserted::Outdated;
        }
        if let Some(key) = key {
            let row = KeyRow {
                fingerprint: insert.fingerprint,
                event_id: event.id,
                delivery_count: insert.deliveries.len() as u64,
                created_at: now,
            };
            self.keys.insert(key, row);
        }
        let row = EventRow {
            event: Arc::clone(event),
            created_at: now,
            deliveries: Vec::new(),
            published: insert.deliveries.len(),
        };
        self.events.insert(event.id, row);
        let waiting = self.add(event, &insert.deliveries, now);
        Inserted::Stored { leases: Vec::new(), waiting }
    }

    /// Adds deliveries to an event that is stored, for subscriptions that had none of it.
    pub(super) fn add_deliveries(
        &mut self,
        event: EventId,
        deliveries: &[NewDelivery],
        config_version: ConfigVersion,
        now: Timestamp,
    ) -> Added {
        let Some(row) = self.events.get(&event) else { return Added::Gone };
        if config_version != self.config_version(&row.event.tenant) {
            return Added::Outdated;
        }
        let served = row.deliveries.iter().filter_map(|id| self.deliveries.get(id));
        let mut served: HashSet<SubscriptionId> = served.map(|row| row.subscription_id).collect();
        let missing = deliveries.iter().filter(|delivery| served.insert(delivery.subscription_id));
        let missing: Vec<NewDelivery> = missing.cloned().collect();
        let event = Arc::clone(&row.event);
        let waiting = self.add(&event, &missing, now);
        Added::Stored { added: missing.iter().map(|delivery| delivery.id).collect(), waiting }
    }

    /// What is answered to a publish whose key is taken.
    fn repeat(&self, key: &(Tenant, String), insert: &Insert, now: Timestamp) -> Option<Inserted> {
        let taken = self.keys.get(key).filter(|taken| taken.is_live(now))?;
        if taken.fingerprint != insert.fingerprint {
            return Some(Inserted::KeyReused);
        }
        Some(Inserted::Duplicate(match self.events.get(&taken.event_id) {
            Some(row) => self.duplicate(row),
            None => Duplicate {
                event_id: taken.event_id,
                deliveries: Vec::new(),
                delivery_count: taken.delivery_count,
            },
        }))
    }

    fn duplicate(&self, row: &EventRow) -> Duplicate {
        let listed = row.deliveries.iter().take(row.published.min(DUPLICATE_LIST));
        Duplicate {
            event_id: row.event.id,
            deliveries: listed
                .filter_map(|id| Some((*id, self.deliveries.get(id)?.subscription_id)))
                .collect(),
            delivery_count: row.published as u64,
        }
    }

    /// Adds deliveries to an event's row. Returns those that wait behind others.
    fn add(&mut self, event: &Event, deliveries: &[NewDelivery], now: Timestamp) -> Vec<DeliveryId> {
        for delivery in deliveries {
            self.last_number += 1;
            let order = delivery.ordered.then(|| (delivery.subscription_id, event.ordering_key.clone()));
            let row = DeliveryRow {
                event_id: event.id,
                subscription_id: delivery.subscription_id,
                number: self.last_number,
                order,
                state: DeliveryState::new(),
                due: Some(event.deliver_at.map_or(now, |at| at.max(now))),
                chain: Chain::starting(now, event.deliver_at, delivery.give_up_after),
                created_at: now,
                finished_at: None,
                attempts: Vec::new(),
            };
            self.deliveries.insert(delivery.id, row);
            self.open.insert(delivery.id);
            self.take_turns(delivery.id);
        }
        let ids = deliveries.iter().map(|delivery| delivery.id);
        if let Some(row) = self.events.get_mut(&event.id) {
            row.deliveries.extend(ids.clone());
        }
        let waits = |id: &DeliveryId| self.deliveries.get(id).is_some_and(|row| self.is_waiting(*id, row));
        ids.filter(waits).collect()
    }
}
