//! Roll-ups of statistics, and what has to be done.

use std::sync::Arc;
use std::time::Duration;

use webhook_core::lifecycle::Input;
use webhook_core::model::{Event, Outcome, Subscription, SubscriptionStatus};
use webhook_core::stats::{Counts, LaneLoad, Rollup, Scope, Totals, Unfinished, Worst};

use crate::sample::{Desk, event, subscription, tenant};
use crate::{Fixture, StoreFixture};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Something of everything.
fn counts(some: i64) -> Counts {
    let mut counts = Counts {
        events: some,
        succeeded: some + 1,
        exhausted: some + 2,
        cancelled: some + 3,
        attempts_succeeded: some + 4,
        attempts_failed: some + 5,
        attempts_unknown: -some,
        ..Counts::default()
    };
    counts.latency.add(Duration::from_millis(some.unsigned_abs()));
    counts.latency.add(Duration::from_secs(1));
    counts
}

fn sum<'a>(all: impl IntoIterator<Item = &'a Counts>) -> Counts {
    let mut sum = Counts::default();
    all.into_iter().for_each(|counts| sum.merge(counts));
    sum
}

fn of(subscription: &Subscription) -> Scope {
    Scope::Subscription(subscription.tenant.clone(), subscription.id)
}

async fn totals<F: StoreFixture>(desk: &Desk<'_, F>, scope: &Scope, window: Duration) -> Totals {
    desk.store.totals(scope, window, 10).await.unwrap()
}

async fn add<F: StoreFixture>(desk: &Desk<'_, F>, scope: &Scope, counts: &Counts) {
    desk.store.add_rollups(&[Rollup::new(scope.clone(), counts.clone())]).await.unwrap();
}

/// Merges until nothing is left to do; answers how many rows went.
async fn compact<F: StoreFixture>(desk: &Desk<'_, F>) -> u64 {
    compact_by(desk, 2).await
}

async fn compact_by<F: StoreFixture>(desk: &Desk<'_, F>, limit: u32) -> u64 {
    let mut all = 0;
    loop {
        let went = desk.store.compact_rollups(limit).await.unwrap();
        assert!(went <= u64::from(limit) * 3, "{limit} of each kind at most");
        if went == 0 {
            return all;
        }
        all += went;
    }
}

/// Each scope's own, with every number as it was, and nobody else's.
pub async fn roll_ups_of_a_scope_add_up<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let one = of(&subscription());
    let scopes = [Scope::All, Scope::Tenant(tenant("default")), Scope::Tenant(tenant("other")), one];
    for (index, scope) in (0_i64..).zip(&scopes) {
        assert_eq!(totals(&desk, scope, HOUR).await, Totals::default());
        let rollups = [1, 2].map(|part| Rollup::new(scope.clone(), counts(index * 10 + part))).to_vec();
        desk.store.add_rollups(&rollups).await.unwrap();
        add(&desk, scope, &counts(index * 10 + 3)).await;
    }
    desk.store.add_rollups(&[]).await.unwrap();
    for (index, scope) in (0_i64..).zip(&scopes) {
        let parts = [1, 2, 3].map(|part| counts(index * 10 + part));
        assert_eq!(totals(&desk, scope, HOUR).await.counts, sum(&parts), "{scope:?}");
    }
}

/// As when the answer to an insert was lost.
pub async fn a_roll_up_that_is_inserted_again_adds_nothing<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let rollups = [1, 2].map(|part| Rollup::new(Scope::All, counts(part)));
    for repeated in [&rollups[..1], &rollups, &rollups] {
        desk.store.add_rollups(repeated).await.unwrap();
    }
    let parts = [1, 2].map(counts);
    assert_eq!(totals(&desk, &Scope::All, HOUR).await.counts, sum(&parts));
}

/// A window ends now, by the store's clock.
pub async fn a_window_leaves_out_what_is_older<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    if !F::MOVES_TIME {
        eprintln!("does not apply: the backend really waits");
        return;
    }
    add(&desk, &Scope::All, &counts(1)).await;
    desk.fixture.advance(MINUTE * 10).await;
    add(&desk, &Scope::All, &counts(2)).await;
    let both = sum(&[counts(1), counts(2)]);
    assert_eq!(totals(&desk, &Scope::All, MINUTE * 5).await.counts, counts(2));
    assert_eq!(totals(&desk, &Scope::All, MINUTE * 10).await.counts, both, "a minute counts whole");
    desk.fixture.advance(MINUTE * 7).await;
    assert_eq!(totals(&desk, &Scope::All, MINUTE * 5).await.counts, Counts::default());
    assert_eq!(totals(&desk, &Scope::All, HOUR).await.counts, both);
}

/// Neither by minutes nor by hours, for no scope.
pub async fn merging_roll_ups_changes_no_sum<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    if !F::MOVES_TIME {
        eprintln!("does not apply: the backend really waits");
        return;
    }
    let one = subscription();
    let scopes = [Scope::All, Scope::Tenant(one.tenant.clone()), of(&one)];
    let mut expected = Counts::default();
    for part in 1..=6 {
        for scope in &scopes {
            add(&desk, scope, &counts(part)).await;
        }
        expected.merge(&counts(part));
        desk.fixture.advance(MINUTE / 3).await;
    }
    assert_eq!(compact(&desk).await, 0, "they are too young");
    let check = async |what: &str| {
        for scope in &scopes {
            let found = totals(&desk, scope, DAY).await;
            assert_eq!(found.counts, expected, "{scope:?} {what}");
            let worst = Worst {
                subscription_id: one.id,
                succeeded: expected.attempts_succeeded,
                failed: expected.attempts_failed,
            };
            assert_eq!(found.worst, [worst], "{scope:?} {what}");
        }
    };
    check("as they came").await;
    desk.fixture.advance(MINUTE * 20).await;
    assert_eq!(compact(&desk).await, 18);
    check("by minutes").await;
    assert_eq!(compact(&desk).await, 0);
    desk.fixture.advance(HOUR * 5).await;
    assert!(compact(&desk).await >= 6);
    check("by hours").await;
    assert_eq!(compact(&desk).await, 0);
}

/// However many scopes are busy, more than are merged at once: then a scope's roll-ups are merged with each other, and
/// not each by itself.
pub async fn roll_ups_are_merged_scope_by_scope<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    if !F::MOVES_TIME {
        eprintln!("does not apply: the backend really waits");
        return;
    }
    const LIMIT: u32 = 6;
    let scopes: Vec<Scope> = (0..LIMIT).map(|_| of(&subscription())).collect();
    for _minute in 0..2 {
        for part in 0..6 {
            for scope in &scopes {
                add(&desk, scope, &counts(part)).await;
            }
        }
        desk.fixture.advance(MINUTE).await;
    }
    desk.fixture.advance(MINUTE * 20).await;
    assert_eq!(compact_by(&desk, LIMIT).await, 72, "all parts go");
    // What goes in the next step is what came of the one before. Each minute has six scopes in six steps; where the
    // clock moves by itself, its parts may lie in two of them.
    desk.fixture.advance(HOUR * 5).await;
    let minutes = compact_by(&desk, LIMIT).await;
    assert!(minutes <= 36, "{minutes} rows of two minutes and six scopes");
    desk.fixture.advance(DAY * 33).await;
    let hours = compact_by(&desk, LIMIT).await;
    assert!(hours <= 18, "{hours} rows of an hour or two and six scopes");
}

/// And nothing sooner.
pub async fn roll_ups_are_forgotten_after_a_month<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    if !F::MOVES_TIME {
        eprintln!("does not apply: the backend really waits");
        return;
    }
    add(&desk, &Scope::All, &counts(1)).await;
    desk.fixture.advance(DAY * 30).await;
    compact(&desk).await;
    assert_eq!(totals(&desk, &Scope::All, DAY * 40).await.counts, counts(1));
    desk.fixture.advance(DAY * 2).await;
    compact(&desk).await;
    assert_eq!(totals(&desk, &Scope::All, DAY * 40).await.counts, Counts::default());
}

/// The most failed attempts first; those without any are not named, nor is another tenant's.
pub async fn the_worst_subscriptions_come_first<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let of_tenant = |name: &str| Subscription { tenant: tenant(name), ..subscription() };
    let here = [of_tenant("default"), of_tenant("default"), of_tenant("default"), of_tenant("default")];
    let there = of_tenant("other");
    for (subscription, failed) in here.iter().zip([3, 0, 7, 5]).chain([(&there, 6)]) {
        for part in [failed - failed / 2, failed / 2] {
            let counts = Counts { attempts_failed: part, attempts_succeeded: 1, ..Counts::default() };
            add(&desk, &of(subscription), &counts).await;
        }
    }
    let worst = |subscription: &Subscription, failed| Worst {
        subscription_id: subscription.id,
        succeeded: 2,
        failed,
    };
    let tenants = totals(&desk, &Scope::Tenant(tenant("default")), HOUR).await.worst;
    assert_eq!(tenants, [worst(&here[2], 7), worst(&here[3], 5), worst(&here[0], 3)]);
    let alls = desk.store.totals(&Scope::All, HOUR, 2).await.unwrap().worst;
    assert_eq!(alls, [worst(&here[2], 7), worst(&there, 6)], "no more than asked for");
    assert_eq!(totals(&desk, &of(&here[3]), HOUR).await.worst, [worst(&here[3], 5)]);
    assert_eq!(totals(&desk, &of(&here[1]), HOUR).await.worst, []);
}

async fn unfinished<F: StoreFixture>(desk: &Desk<'_, F>, scope: &Scope) -> Vec<LaneLoad> {
    let found = desk.store.unfinished(scope, 100).await.unwrap();
    assert!(!found.more);
    found.lanes
}

fn load(subscription: &Subscription) -> LaneLoad {
    LaneLoad {
        subscription_id: subscription.id,
        held: false,
        pending: 0,
        retrying: 0,
        due: 0,
        scheduled: 0,
        behind: 0,
        oldest_due: None,
    }
}

/// By subscription: due, scheduled or behind another; what has ended is not.
pub async fn what_is_unfinished_is_counted<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    assert_eq!(unfinished(&desk, &Scope::All).await, []);
    let (plain, ordered) = (desk.subscribe().await, desk.subscribe_ordered().await);
    let other = desk.create(&Subscription { tenant: tenant("other"), ..subscription() }).await;
    let ids = [desk.publish(&plain).await, desk.publish(&plain).await, desk.publish(&plain).await];
    desk.attempt(ids[0], Outcome::Failed).await;
    desk.succeed(ids[1]).await;
    let cancelled = desk.publish(&plain).await;
    desk.cancel(cancelled).await;
    let head = desk.publish_keyed(&ordered, Some("a")).await;
    desk.publish_keyed(&ordered, Some("a")).await;
    desk.publish_keyed(&ordered, Some("b")).await;
    desk.publish(&other).await;

    desk.pass(2).await;
    let without_ages = |lanes: Vec<LaneLoad>| -> Vec<LaneLoad> {
        for lane in &lanes {
            let age = lane.oldest_due.map(|age| age >= <F as Fixture>::UNIT * 2);
            assert_eq!(age, (lane.due > 0).then_some(true), "{lane:?}");
        }
        lanes.into_iter().map(|lane| LaneLoad { oldest_due: None, ..lane }).collect()
    };
    let of_plain = LaneLoad { pending: 1, retrying: 1, due: 1, scheduled: 1, ..load(&plain) };
    let of_ordered = LaneLoad { pending: 3, due: 2, behind: 1, ..load(&ordered) };
    let of_other = LaneLoad { pending: 1, due: 1, ..load(&other) };
    let here = Scope::Tenant(plain.tenant.clone());
    let all = without_ages(unfinished(&desk, &Scope::All).await);
    assert_eq!(all, [of_plain.clone(), of_ordered.clone(), of_other.clone()]);
    assert_eq!(without_ages(unfinished(&desk, &here).await), [of_plain.clone(), of_ordered.clone()]);
    assert_eq!(without_ages(unfinished(&desk, &of(&ordered)).await), std::slice::from_ref(&of_ordered));
    assert_eq!(unfinished(&desk, &Scope::Tenant(tenant("nobody"))).await, []);

    desk.succeed(head).await;
    let next = LaneLoad { pending: 2, due: 2, behind: 0, ..of_ordered };
    assert_eq!(without_ages(unfinished(&desk, &of(&ordered)).await), [next]);
}

/// What was asked for by a person is due at once.
pub async fn what_a_person_asked_for_is_due<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let subscription = desk.subscribe().await;
    let id = desk.publish(&subscription).await;
    desk.attempt(id, Outcome::Failed).await;
    desk.ask(id, &Input::Retry { force: false }).await;
    let found = unfinished(&desk, &of(&subscription)).await;
    let found: Vec<_> = found.iter().map(|lane| (lane.retrying, lane.due, lane.scheduled)).collect();
    assert_eq!(found, [(1, 1, 0)]);
}

/// Paused ones are marked; deleted ones are left out before their deliveries are cancelled.
pub async fn held_subscriptions_are_told_apart<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let (paused, deleted) = (desk.subscribe().await, desk.subscribe().await);
    desk.publish(&paused).await;
    desk.publish(&deleted).await;
    let change = Subscription { status: SubscriptionStatus::Paused, ..(*paused).clone() };
    desk.store.update(&change, paused.version).await.unwrap();
    desk.store.delete(&deleted.tenant, deleted.id, None).await.unwrap();
    for scope in [Scope::All, Scope::Tenant(paused.tenant.clone())] {
        let found = unfinished(&desk, &scope).await;
        assert_eq!(found.len(), 1, "{scope:?}");
        assert!(found[0].held && found[0].subscription_id == paused.id && found[0].pending == 1);
    }
    assert_eq!(unfinished(&desk, &of(&deleted)).await, []);
}

/// So that it costs no more however much there is.
pub async fn counting_what_is_unfinished_stops_at_its_bound<F: StoreFixture>(fixture: &F) {
    let desk = Desk::new(fixture);
    let one = desk.subscribe().await;
    let event = Event { deliver_at: None, ..event() };
    for _ in 0..5 {
        let next = Event { id: webhook_core::id::EventId::new(), ..event.clone() };
        desk.publish_event(next, &[Arc::clone(&one)]).await;
    }
    for scope in [Scope::All, Scope::Tenant(one.tenant.clone()), of(&one)] {
        let Unfinished { lanes, more } = desk.store.unfinished(&scope, 3).await.unwrap();
        let counted: u64 = lanes.iter().map(|lane| lane.pending).sum();
        assert!(more && (3..=4).contains(&counted), "{scope:?}: {counted}");
        let Unfinished { lanes, more } = desk.store.unfinished(&scope, 5).await.unwrap();
        assert!(!more && lanes[0].pending == 5, "{scope:?}: {lanes:?}");
    }
}
