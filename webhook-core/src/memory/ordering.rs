//! Turns among ordered deliveries (promise 12).
//!
//! The unfinished deliveries of one subscription and ordering key stand in a line, in the order of their
//! numbers. One of them is the head, which alone may be tried; the others wait. A head stays the head until
//! it ends, even if an earlier one is reopened behind its back.

use std::collections::BTreeSet;

use super::store::{DeliveryRow, Tables};
use crate::id::{DeliveryId, LaneId, SubscriptionId};

/// Those that take turns: one subscription's deliveries with equal keys, or all without one.
pub(super) type OrderKey = (SubscriptionId, Option<String>);

/// A line of ordered deliveries.
#[derive(Debug, Default)]
pub(super) struct Order {
    unfinished: BTreeSet<(u64, DeliveryId)>,
    head: Option<DeliveryId>,
}

impl Tables {
    /// Whether a delivery waits behind another of its key.
    pub(super) fn is_waiting(&self, id: DeliveryId, row: &DeliveryRow) -> bool {
        let order = row.order.as_ref().and_then(|key| self.orders.get(key));
        !row.state.status.is_finished() && order.is_some_and(|order| order.head != Some(id))
    }

    /// Puts an ordered delivery into its line or takes it out, as its status asks. Returns the delivery that
    /// became the head by it, if one did.
    pub(super) fn take_turns(&mut self, id: DeliveryId) -> Option<(DeliveryId, LaneId)> {
        let row = self.deliveries.get(&id)?;
        let (key, place) = (row.order.as_ref()?, (row.number, id));
        let order = self.orders.entry(key.clone()).or_default();
        if row.state.status.is_finished() {
            order.unfinished.remove(&place);
            order.head.take_if(|head| *head == id);
        } else {
            order.unfinished.insert(place);
        }
        if order.head.is_some() {
            return None;
        }
        order.head = order.unfinished.first().map(|(_, first)| *first);
        let released = order.head.map(|head| (head, key.0));
        if released.is_none() {
            self.orders.remove(key);
        }
        released
    }
}
