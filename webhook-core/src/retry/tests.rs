use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn spec(text: &str) -> RetrySpec {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The waits of a chain in which every draw is the same.
fn waits(policy: &dyn RetryPolicy, sample: f64) -> Vec<Duration> {
    (1..).map_while(|failed| policy.wait(failed, sample)).collect()
}

#[test]
fn n_waits_make_n_plus_one_attempts() {
    let schedule = Schedule::new([secs(10), secs(30)], 0.0).unwrap();
    assert_eq!(schedule.attempts(), 3);
    assert_eq!(waits(&schedule, 0.5), [secs(10), secs(30)]);
}

#[test]
fn an_empty_schedule_makes_one_attempt() {
    for spec in [spec("schedule:"), spec("none"), RetrySpec::from_json(&json!({"schedule": []})).unwrap()] {
        assert_eq!(spec.wait(1, 0.5), None);
        assert_eq!((spec.span(), spec.longest()), (Duration::ZERO, Duration::ZERO));
        assert_eq!(spec.wait(0, 0.5), Some(Duration::ZERO), "the first attempt is owed");
    }
}

#[test]
fn an_exponential_policy_of_one_attempt_has_no_wait() {
    let policy = Exponential::new(secs(1), 2.0, secs(1), 1, 0.2).unwrap();
    assert_eq!(policy.wait(1, 0.0), None);
    assert_eq!((policy.span(), policy.longest()), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn the_standard_policy_is_the_documented_one() {
    let hours = |hours: u64| secs(hours * 3_600);
    let expected =
        [secs(5), secs(300), secs(1_800), hours(2), hours(5), hours(10), hours(14), hours(20), hours(24)];
    assert_eq!(waits(&RetrySpec::standard(), 0.5), expected);
    assert_eq!(RetrySpec::standard().longest(), hours(24).mul_f64(1.2));
    assert_eq!(spec("standard"), RetrySpec::standard());
}

#[test]
fn every_preset_is_valid_and_survives_json_and_text() {
    for name in RetrySpec::preset_names() {
        let preset = RetrySpec::preset(name).unwrap();
        assert_eq!(spec(name), preset);
        assert_eq!(spec(&preset.to_string()), preset);
        assert_eq!(RetrySpec::from_json(&serde_json::to_value(&preset).unwrap()), Ok(preset));
    }
    assert_eq!(RetrySpec::preset("unheard-of"), None);
}

#[test]
fn the_documented_flag_values_are_read_and_written_back() {
    let schedule = "schedule:10s,30s,1m,5m,15m";
    assert_eq!(waits(&spec(schedule), 0.9), [10, 30, 60, 300, 900].map(secs));
    assert_eq!(spec(schedule), RetrySpec::preset("short").unwrap());
    let exponential = "exponential:10s,x2,max=1h,attempts=7,jitter=0.2";
    assert_eq!(waits(&spec(exponential), 0.5), [10, 20, 40, 80, 160, 320].map(secs));
    for text in [schedule, exponential, "schedule:5s,jitter=0.2", "schedule:"] {
        assert_eq!(spec(text).to_string(), text);
    }
    assert_eq!(spec(" exponential: 1s , attempts=3 "), spec("exponential:1s,x2,max=7d,attempts=3,jitter=0"));
}

#[test]
fn bad_flag_values_name_the_field() {
    for (text, field) in [
        ("", "retry"),
        ("sometimes", "retry"),
        ("Standard", "retry"),
        ("schedule:10s,,1m", "retry.schedule[1]"),
        ("schedule:10s,1m,", "retry.schedule[2]"),
        ("schedule:10", "retry.schedule[0]"),
        ("schedule:1s,8d", "retry.schedule[1]"),
        ("schedule:1s,jitter=2", "retry.jitter"),
        ("schedule:1s,jitter=nan", "retry.jitter"),
        ("schedule:1s,jitter=0.1,jitter=0.2", "retry.jitter"),
        ("exponential:", "retry.exponential.base"),
        ("exponential:x2,attempts=3", "retry.exponential.base"),
        ("exponential:10s", "retry.exponential.attempts"),
        ("exponential:10s,attempts=many", "retry.exponential.attempts"),
        ("exponential:10s,attempts=-1", "retry.exponential.attempts"),
        ("exponential:10s,xinf,attempts=3", "retry.exponential.factor"),
        ("exponential:10s,x2,x3,attempts=3", "retry.exponential.factor"),
        ("exponential:10s,attempts=3,speed=9", "retry.exponential"),
    ] {
        assert_eq!(text.parse::<RetrySpec>().unwrap_err().field, field, "{text}");
    }
    let unknown = "sometimes".parse::<RetrySpec>().unwrap_err().to_string();
    assert!(unknown.contains("standard") && unknown.contains("schedule:10s"), "{unknown}");
}

#[test]
fn the_documented_json_is_read_and_written_back() {
    for json in [
        json!({"schedule": ["10s", "30s", "1m", "5m", "15m"]}),
        json!({"schedule": []}),
        json!({"exponential": {"base": "10s", "factor": 2, "max": "1h", "attempts": 7, "jitter": 0.2}}),
        json!({"exponential": {"base": "10s", "factor": 1.5, "max": "1h", "attempts": 7, "jitter": 0}}),
    ] {
        let spec: RetrySpec = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap(), json);
    }
    let jittered = RetrySpec::from(Schedule::new([secs(5)], 0.25).unwrap());
    assert_eq!(serde_json::to_value(&jittered).unwrap(), json!({"schedule": ["5s"], "jitter": 0.25}));
}

#[test]
fn bad_json_names_the_path() {
    let exponential = |key: &str, value: Value| {
        let mut json = json!({"base": "10s", "factor": 2, "max": "1h", "attempts": 7, "jitter": 0.2});
        json[key] = value;
        json!({ "exponential": json })
    };
    for (json, field) in [
        (json!(null), "retry"),
        (json!("standard"), "retry"),
        (json!([]), "retry"),
        (json!({}), "retry"),
        (json!({"schedule": [], "exponential": {}}), "retry"),
        (json!({"schedule": [], "extra": 1}), "retry.extra"),
        (json!({"intervals": []}), "retry.intervals"),
        (json!({"schedule": "10s"}), "retry.schedule"),
        (json!({"schedule": null}), "retry.schedule"),
        (json!({"schedule": ["10s", 30]}), "retry.schedule[1]"),
        (json!({"schedule": ["10s", "30"]}), "retry.schedule[1]"),
        (json!({"schedule": ["10s", "-30s"]}), "retry.schedule[1]"),
        (json!({"schedule": ["10s", "1m", "5m", "169h"]}), "retry.schedule[3]"),
        (json!({"schedule": vec!["1s"; 101]}), "retry.schedule"),
        (json!({"schedule": [], "jitter": "0.2"}), "retry.jitter"),
        (json!({"schedule": [], "jitter": 1.1}), "retry.jitter"),
        (json!({"exponential": {}}), "retry.exponential.base"),
        (json!({"exponential": {"base": "1s"}}), "retry.exponential.attempts"),
        (json!({"exponential": "10s"}), "retry.exponential"),
        (json!({"exponential": {"base": "1s", "attempts": 2}, "jitter": 0.1}), "retry.jitter"),
        (exponential("base", json!(10)), "retry.exponential.base"),
        (exponential("base", json!("0s")), "retry.exponential.base"),
        (exponential("factor", json!("2")), "retry.exponential.factor"),
        (exponential("factor", json!(0.5)), "retry.exponential.factor"),
        (exponential("factor", json!(101)), "retry.exponential.factor"),
        (exponential("max", json!("5s")), "retry.exponential.max"),
        (exponential("max", json!("8d")), "retry.exponential.max"),
        (exponential("attempts", json!(0)), "retry.exponential.attempts"),
        (exponential("attempts", json!(102)), "retry.exponential.attempts"),
        (exponential("attempts", json!(u64::MAX)), "retry.exponential.attempts"),
        (exponential("attempts", json!(2.5)), "retry.exponential.attempts"),
        (exponential("attempts", json!(-1)), "retry.exponential.attempts"),
        (exponential("jitter", json!(-0.1)), "retry.exponential.jitter"),
        (exponential("jitter", json!(null)), "retry.exponential.jitter"),
        (exponential("speed", json!(1)), "retry.exponential.speed"),
    ] {
        let error = RetrySpec::from_json(&json).unwrap_err();
        assert_eq!(error.field, field, "{json}: {error}");
        let through_serde = serde_json::from_value::<RetrySpec>(json).unwrap_err().to_string();
        assert_eq!(through_serde, error.to_string());
    }
}

#[test]
fn a_hundred_waits_of_seven_days_are_accepted() {
    let longest = RetrySpec::from_json(&json!({"schedule": vec!["7d"; 100], "jitter": 1})).unwrap();
    assert_eq!(longest.span(), MAX_WAIT * 200);
    assert_eq!(waits(&longest, 0.0), [Duration::ZERO; 100]);
}

/// Promise 14: a policy must not panic, whatever it is given.
#[test]
fn a_bad_draw_stays_within_the_bounds() {
    let schedule = Schedule::new([secs(100)], 0.2).unwrap();
    for (sample, expected) in
        [(f64::NAN, 100), (-1.0, 80), (f64::NEG_INFINITY, 80), (2.0, 120), (f64::INFINITY, 120)]
    {
        assert_eq!(schedule.wait(1, sample), Some(secs(expected)), "{sample}");
    }
}

fn schedules() -> impl Strategy<Value = RetrySpec> {
    (prop::collection::vec(0..=604_800_000_u64, 0..=MAX_WAITS), 0.0..=1.0_f64).prop_map(|(waits, jitter)| {
        Schedule::new(waits.into_iter().map(Duration::from_millis), jitter).unwrap().into()
    })
}

fn exponentials() -> impl Strategy<Value = RetrySpec> {
    (1..=604_800_000_u64, 1.0..=MAX_FACTOR, 0.0..=1.0_f64, 1..=101_u32, 0.0..=1.0_f64).prop_map(
        |(base, factor, room, attempts, jitter)| {
            let base = Duration::from_millis(base);
            let max = base
                + Duration::from_millis(u64::try_from((MAX_WAIT - base).as_millis()).unwrap()).mul_f64(room);
            let max = Duration::from_millis(u64::try_from(max.as_millis()).unwrap());
            Exponential::new(base, factor, max, attempts, jitter).unwrap().into()
        },
    )
}

fn specs() -> impl Strategy<Value = RetrySpec> {
    prop_oneof![schedules(), exponentials()]
}

fn attempts(spec: &RetrySpec) -> usize {
    match spec {
        RetrySpec::Schedule(policy) => policy.attempts(),
        RetrySpec::Exponential(policy) => policy.attempts() as usize,
    }
}

fn jitter(spec: &RetrySpec) -> f64 {
    match spec {
        RetrySpec::Schedule(policy) => policy.jitter(),
        RetrySpec::Exponential(policy) => policy.jitter(),
    }
}

proptest! {
    #[test]
    fn a_chain_has_exactly_one_wait_fewer_than_attempts(spec in specs(), sample in 0.0..1.0_f64) {
        prop_assert_eq!(waits(&spec, sample).len(), attempts(&spec) - 1);
    }

    #[test]
    fn after_the_end_nothing_comes_back(spec in specs(), beyond: u32, sample in 0.0..1.0_f64) {
        let failed = u32::try_from(attempts(&spec)).unwrap().saturating_add(beyond);
        prop_assert_eq!(spec.wait(failed, sample), None);
        prop_assert_eq!(spec.wait(u32::MAX, sample), None);
    }

    /// The contract of the trait, with a fresh draw for every wait.
    #[test]
    fn waits_stay_within_longest_and_span(spec in specs(), samples in prop::collection::vec(0.0..1.0_f64, 101)) {
        let waits: Vec<Duration> =
            (1..).zip(samples).map_while(|(failed, sample)| spec.wait(failed, sample)).collect();
        prop_assert!(waits.iter().all(|wait| *wait <= spec.longest()));
        prop_assert!(waits.iter().sum::<Duration>() <= spec.span());
    }

    #[test]
    fn jitter_moves_a_wait_by_its_share_at_most(spec in specs(), sample in 0.0..1.0_f64) {
        let share = jitter(&spec);
        for (plain, wait) in waits(&spec, 0.5).into_iter().zip(waits(&spec, sample)) {
            let slack = 1e-6;
            prop_assert!(wait.as_secs_f64() >= plain.as_secs_f64() * (1.0 - share) - slack);
            prop_assert!(wait.as_secs_f64() <= plain.as_secs_f64() * (1.0 + share) + slack);
        }
    }

    #[test]
    fn exponential_waits_never_shrink_and_never_pass_the_maximum(spec in exponentials()) {
        let RetrySpec::Exponential(policy) = &spec else { unreachable!("the strategy makes no other") };
        let waits = waits(policy, 0.5);
        prop_assert!(waits.is_sorted());
        prop_assert!(waits.iter().all(|wait| *wait <= policy.max()));
        prop_assert!(waits.first().is_none_or(|first| *first == policy.base()));
    }

    #[test]
    fn a_policy_survives_json_and_text(spec in specs()) {
        prop_assert_eq!(&spec.to_string().parse::<RetrySpec>().unwrap(), &spec);
        let json = serde_json::to_value(&spec).unwrap();
        prop_assert_eq!(&RetrySpec::from_json(&json).unwrap(), &spec);
        let json = serde_json::to_string(&spec).unwrap();
        let back: RetrySpec = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(waits(&back, 0.5).len(), waits(&spec, 0.5).len());
    }

    #[test]
    fn reading_a_flag_never_panics(text in "(schedule:|exponential:)?[0-9smhdx=,.a-z]{0,40}|\\PC{0,30}") {
        let _ = text.parse::<RetrySpec>();
    }
}
