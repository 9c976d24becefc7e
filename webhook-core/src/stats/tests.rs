use proptest::prelude::*;

use super::*;

fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

fn counts(events: i64, failed: i64) -> Counts {
    Counts { events, attempts_failed: failed, ..Counts::default() }
}

fn scopes() -> impl Strategy<Value = Scope> {
    prop_oneof![Just(Scope::All), Just(Scope::Tenant(tenant("a"))), Just(Scope::Tenant(tenant("b")))]
}

proptest! {
    #[test]
    fn merging_in_any_steps_keeps_the_sums(
        rows in prop::collection::vec((0_i64..4, scopes(), 0_i64..9, 0_i64..9), 0..30),
        cut in 0_usize..30,
    ) {
        let rows: Vec<_> =
            rows.into_iter().map(|(start, scope, events, failed)| (start, scope, counts(events, failed))).collect();
        let plain = |merged: Vec<(i64, Rollup)>| -> Vec<(i64, Scope, Counts)> {
            merged.into_iter().map(|(start, rollup)| (start, rollup.scope, rollup.counts)).collect()
        };
        let at_once = plain(merge(rows.clone()));
        let (first, second) = rows.split_at(cut.min(rows.len()));
        let in_steps = plain(merge(plain(merge(first.to_vec())).into_iter().chain(second.to_vec())));
        prop_assert_eq!(at_once, in_steps);
    }

    #[test]
    fn a_window_is_never_shorter_than_asked_for(now in 0_i64..1 << 52, seconds in 60_u64..3_000_000) {
        let window = Duration::from_secs(seconds);
        let (minutes, hours) = window_start(now, window);
        let from = now - i64::try_from(window.as_micros()).unwrap();
        prop_assert!(minutes <= from && from - minutes < 60_000_000);
        prop_assert!(hours <= minutes && from - hours < 3_600_000_000);
    }
}

#[test]
fn a_late_result_takes_its_unknown_one_back() {
    let mut counts = Counts::default();
    counts.attempt(Outcome::Unknown, false);
    counts.attempt(Outcome::Succeeded, true);
    assert_eq!((counts.attempts_succeeded, counts.attempts_unknown), (1, 0));
}

#[test]
fn the_success_rate_is_of_what_ended() {
    let mut counts = Counts::default();
    assert_eq!(counts.success_rate(), None);
    counts.ended(DeliveryStatus::Succeeded, 3);
    counts.ended(DeliveryStatus::Exhausted, 1);
    counts.ended(DeliveryStatus::Retrying, 5);
    assert_eq!(counts.success_rate(), Some(0.75));
}

#[test]
fn the_worst_have_the_most_failures_first() {
    let ids = [SubscriptionId::new(), SubscriptionId::new(), SubscriptionId::new()];
    let worst = |id: usize, succeeded, failed| Worst { subscription_id: ids[id], succeeded, failed };
    let mut list = vec![worst(0, 9, 2), worst(2, 1, 2), worst(1, 1, 7)];
    Worst::sort(&mut list);
    assert_eq!(list.iter().map(|worst| worst.subscription_id).collect::<Vec<_>>(), [ids[1], ids[2], ids[0]]);
}

#[test]
fn what_waits_for_a_held_lane_is_not_due() {
    let load = LaneLoad {
        subscription_id: SubscriptionId::new(),
        held: false,
        pending: 4,
        retrying: 3,
        due: 3,
        scheduled: 2,
        behind: 1,
        oldest_due: Some(Duration::from_secs(5)),
    };
    let of = |load: &LaneLoad, now| {
        let mut backlog = Backlog::default();
        backlog.add(load, now);
        (backlog.due, backlog.scheduled, backlog.waiting, backlog.oldest_due)
    };
    let now = LaneNow::default();
    assert_eq!(of(&load, now), (3, 2, 0, load.oldest_due));
    assert_eq!(of(&load, LaneNow { in_flight: 3, ..now }), (0, 2, 0, None), "what is in flight is not due");
    assert_eq!(of(&load, LaneNow { parked: true, ..now }), (0, 2, 3, None));
    assert_eq!(of(&load, LaneNow { held: true, ..now }), (0, 0, 6, None));
    assert_eq!(of(&LaneLoad { held: true, ..load }, now), (0, 0, 6, None));
}
