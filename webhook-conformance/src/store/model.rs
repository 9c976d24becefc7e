//! Random calls on a store and on the reference in memory, compared after each.
//!
//! Waits are not compared (each store has its own clock), everything else is: what is answered, where each
//! delivery stands, who waits behind whom, and the rows of the log.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use webhook_core::id::{DeliveryId, Token};
use webhook_core::lifecycle::{Input, Next};
use webhook_core::memory::MemoryStore;
use webhook_core::model::{DeliveryStatus, Event, Outcome, StatusReason, Subscription};
use webhook_core::store::{
    DeliveryStore as _, Ended, History as _, Inserted, Load, Record, Recorded, SubscriptionStore as _,
};

use crate::StoreFixture;
use crate::bench::LONG;
use crate::sample::{Desk, asked, due, event, late, result, subscription};

const RUNS: usize = 8;
const STEPS: usize = 50;
const SUBSCRIPTIONS: usize = 3;

#[derive(Debug, Clone)]
enum Call {
    /// To one subscription or to all, with one of two keys of order.
    Publish {
        subscription: Option<usize>,
        key: bool,
    },
    /// An attempt of a delivery, decided on what is there or, stale, on what was there at its publish.
    Attempt {
        delivery: usize,
        outcome: Outcome,
        stale: bool,
    },
    /// What the recorder makes of a stale one.
    Late {
        delivery: usize,
        outcome: Outcome,
    },
    Ask {
        delivery: usize,
        what: u8,
    },
    Repeat,
    Delete {
        subscription: usize,
    },
    CancelDeleted {
        limit: u32,
    },
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let outcome = || prop_oneof![Just(Outcome::Succeeded), Just(Outcome::Failed), Just(Outcome::Unknown)];
    let call = prop_oneof![
        6 => (prop::option::of(0..SUBSCRIPTIONS), any::<bool>())
            .prop_map(|(subscription, key)| Call::Publish { subscription, key }),
        6 => (any::<usize>(), outcome(), prop::bool::weighted(0.2))
            .prop_map(|(delivery, outcome, stale)| Call::Attempt { delivery, outcome, stale }),
        2 => (any::<usize>(), outcome()).prop_map(|(delivery, outcome)| Call::Late { delivery, outcome }),
        4 => (any::<usize>(), 0u8..4).prop_map(|(delivery, what)| Call::Ask { delivery, what }),
        1 => Just(Call::Repeat),
        1 => (0..SUBSCRIPTIONS).prop_map(|subscription| Call::Delete { subscription }),
        1 => (0u32..4).prop_map(|limit| Call::CancelDeleted { limit }),
    ];
    prop::collection::vec(call, STEPS)
}

struct Pair<'a, F> {
    desk: Desk<'a, F>,
    reference: MemoryStore,
    subscriptions: Vec<Arc<Subscription>>,
    deleted: Vec<usize>,
    deliveries: Vec<DeliveryId>,
    last: Option<Record>,
}

/// A fixed seed, so that a failure comes again; its calls are printed with it.
pub async fn random_calls_do_what_the_reference_does<F: StoreFixture>(fixture: &F) {
    let mut runner = TestRunner::deterministic();
    for run in 0..RUNS {
        let calls = calls().new_tree(&mut runner).expect("nothing is filtered out").current();
        let mut pair = Pair::new(fixture).await;
        for (step, call) in calls.iter().enumerate() {
            let right = pair.apply(call).await && pair.compare().await;
            assert!(right, "run {run}, step {step} differs from the reference, after {:#?}", &calls[..=step]);
        }
        pair.clear().await;
    }
}

impl<'a, F: StoreFixture> Pair<'a, F> {
    async fn new(fixture: &'a F) -> Self {
        let (desk, reference) = (Desk::new(fixture), MemoryStore::new());
        let mut subscriptions = Vec::new();
        // A tenant of its own, as a run begins with configuration version 0 on the reference.
        let tenant: webhook_core::model::Tenant = Token::new().to_string().parse().unwrap();
        for index in 0..SUBSCRIPTIONS {
            let new = Subscription { tenant: tenant.clone(), ordered: index > 0, ..subscription() };
            reference.create(&new).await.unwrap();
            subscriptions.push(desk.create(&new).await);
        }
        Self { desk, reference, subscriptions, deleted: Vec::new(), deliveries: Vec::new(), last: None }
    }

    async fn apply(&mut self, call: &Call) -> bool {
        match call {
            Call::Publish { subscription, key } => self.publish(*subscription, *key).await,
            Call::Attempt { delivery, outcome, stale } => {
                let Some((id, loaded)) = self.pick(*delivery).await else { return true };
                let mut record = result(id, &loaded, *outcome, Token::new());
                record.revision -= u64::from(*stale && record.revision > 0);
                self.record(record).await
            }
            Call::Late { delivery, outcome } => {
                let Some((id, loaded)) = self.pick(*delivery).await else { return true };
                let rows = self.desk.attempts(id).await;
                let unknown = rows.iter().find(|row| row.outcome == Outcome::Unknown);
                let token = unknown.map_or_else(Token::new, |row| row.token);
                let replaces = unknown.map(|row| row.number);
                self.record(late(id, &loaded, &loaded.state, *outcome, token, replaces)).await
            }
            Call::Ask { delivery, what } => {
                let Some((id, loaded)) = self.pick(*delivery).await else { return true };
                let finished = loaded.state.status.is_finished();
                let input = match what {
                    0 => Input::Cancel(StatusReason::CancelledByUser),
                    1 => Input::Expire,
                    2 => Input::Reopen,
                    _ => Input::Retry { force: true },
                };
                if (*what < 2 && finished) || (*what == 2 && !finished) {
                    return true;
                }
                self.record(asked(id, &loaded.state, &input)).await
            }
            Call::Repeat => match self.last.clone() {
                Some(record) => self.record(record).await,
                None => true,
            },
            Call::Delete { subscription } => {
                let gone = Arc::clone(&self.subscriptions[*subscription]);
                self.deleted.push(*subscription);
                let here = self.desk.store.delete(&gone.tenant, gone.id, None).await.unwrap();
                let there = self.reference.delete(&gone.tenant, gone.id, None).await.unwrap();
                std::mem::discriminant(&here) == std::mem::discriminant(&there)
            }
            Call::CancelDeleted { limit } => self.cancel_deleted(*limit).await,
        }
    }

    async fn publish(&mut self, to: Option<usize>, key: bool) -> bool {
        let tenant = self.subscriptions[0].tenant.clone();
        let event = Event { tenant, ordering_key: key.then(|| "k".to_owned()), ..event() };
        let matching: Vec<Arc<Subscription>> = (0..SUBSCRIPTIONS)
            .filter(|index| to.is_none_or(|to| to == *index) && !self.deleted.contains(index))
            .map(|index| Arc::clone(&self.subscriptions[index]))
            .collect();
        let insert = self.desk.matched(event, &matching).await;
        self.deliveries.extend(insert.deliveries.iter().map(|delivery| delivery.id));
        let there = self.reference.insert(std::slice::from_ref(&insert), None).await.unwrap().remove(0);
        match (self.desk.insert(&insert).await, there) {
            (Inserted::Stored { waiting: mut here, .. }, Inserted::Stored { waiting: mut there, .. }) => {
                here.sort_unstable();
                there.sort_unstable();
                here == there
            }
            (here, there) => here == there,
        }
    }

    async fn pick(&self, delivery: usize) -> Option<(DeliveryId, webhook_core::store::Loaded)> {
        let id = *self.deliveries.get(delivery.checked_rem(self.deliveries.len())?)?;
        Some((id, self.desk.load(id).await))
    }

    async fn record(&mut self, record: Record) -> bool {
        // A wait of seconds could pass on one of the clocks while a run is under way.
        let record = match record.next {
            Next::After(wait) if !wait.is_zero() => due(record, Next::After(LONG)),
            Next::After(_) | Next::Never | Next::AsBefore => record,
        };
        let here = self.desk.record(&record).await;
        let there = self.reference.record(std::slice::from_ref(&record)).await.unwrap().remove(0);
        self.last = Some(record);
        match (here, there) {
            (Recorded::Applied { released: here, .. }, Recorded::Applied { released: there, .. }) => {
                here == there
            }
            (here, there) => here == there,
        }
    }

    /// Which ones a batch takes is the store's choice, so both do it to the end.
    async fn cancel_deleted(&mut self, limit: u32) -> bool {
        let (mut here, mut there) = (0, 0);
        loop {
            let batch = Ended::total(&self.desk.store.cancel_deleted(limit + 1).await.unwrap());
            if batch == 0 {
                break;
            }
            here += batch;
        }
        loop {
            let batch = Ended::total(&self.reference.cancel_deleted(limit + 1).await.unwrap());
            if batch == 0 {
                break;
            }
            there += batch;
        }
        here == there
    }

    async fn compare(&self) -> bool {
        let loads: Vec<Load> =
            self.deliveries.iter().map(|id| Load { id: *id, unsettled: Vec::new() }).collect();
        let here = self.desk.store.load(&loads).await.unwrap();
        let there = self.reference.load(&loads).await.unwrap();
        for (id, pair) in self.deliveries.iter().zip(here.into_iter().zip(there)) {
            let (Some(here), Some(there)) = pair else { return false };
            let waits = here.waiting == there.waiting && here.due_in.is_zero() == there.due_in.is_zero();
            let same = here.state == there.state && here.subscription_version == there.subscription_version;
            if !waits || !same {
                eprintln!("{id}: {here:?}\nreference: {there:?}");
                return false;
            }
            let rows = self.desk.attempts(*id).await;
            let reference = self.reference.attempts_of(None, *id).await.unwrap();
            let shown = |rows: &[webhook_core::model::Attempt]| -> Vec<_> {
                rows.iter().map(|row| (row.number, row.token, row.outcome)).collect()
            };
            if shown(&rows) != shown(&reference) {
                eprintln!("{id}: {rows:#?}\nreference: {reference:#?}");
                return false;
            }
        }
        self.owed().await
    }

    /// The same is owed, if the store owes a queue at all.
    async fn owed(&self) -> bool {
        if !self.desk.owes_a_queue() {
            return true;
        }
        let mine = |owed: &[webhook_core::store::Owed]| -> Vec<_> {
            owed.iter().map(|owed| (owed.id, owed.lane, owed.urgent, owed.wait.is_zero())).collect()
        };
        let there = self.reference.owed(None, u32::MAX).await.unwrap();
        mine(&self.desk.owed().await) == mine(&there)
    }

    /// Leaves nothing behind that a later run would meet.
    async fn clear(mut self) {
        for index in 0..SUBSCRIPTIONS {
            self.apply(&Call::Delete { subscription: index }).await;
        }
        self.cancel_deleted(10).await;
        for id in &self.deliveries {
            let status: DeliveryStatus = self.desk.status(*id).await;
            assert!(status.is_finished(), "{id} is {status} after its subscription was deleted");
        }
    }
}
