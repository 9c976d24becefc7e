use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use webhook_core::model::DeliveryStatus;
use webhook_core::testing::{RecordingDeliverer, Scripted};
use webhook_core::{SubscriptionDraft, Workers};

use crate::support::{World, seconds};

fn scripted() -> RecordingDeliverer {
    RecordingDeliverer::scripted(|request| match request.url.host_str() {
        Some("dead.example.com") => Scripted::hang(),
        _ => Scripted::status(200).after(Duration::from_millis(20)),
    })
}

fn only(event_type: &str, url: &str) -> SubscriptionDraft {
    SubscriptionDraft { event_types: vec![event_type.into()], ..SubscriptionDraft::to(url) }
}

/// Promise 13.
#[tokio::test(start_paused = true)]
async fn a_target_that_never_answers_does_not_delay_a_healthy_one() {
    let world = World::new(scripted());
    world.webhooks.spawn(Workers::default().concurrency(64)).unwrap();
    world.subscribe(only("dead", "https://dead.example.com/")).await;
    world.subscribe(only("good", "https://good.example.com/")).await;
    for _ in 0..200 {
        world.publish("dead").await;
    }
    let mut worst = Duration::ZERO;
    for _ in 0..100 {
        let start = tokio::time::Instant::now();
        let published = world.publish("good").await;
        let delivery = world.finished(published.deliveries[0].0).await;
        assert_eq!(delivery.state.status, DeliveryStatus::Succeeded);
        worst = worst.max(start.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(worst < seconds(1), "{worst:?}");
}

/// Promise 13: the second pool.
#[tokio::test(start_paused = true)]
async fn good_targets_that_hang_together_do_not_delay_another() {
    let hanging = Arc::new(AtomicBool::new(false));
    let hang = Arc::clone(&hanging);
    let target = RecordingDeliverer::scripted(move |request| {
        let hangs = hang.load(Ordering::SeqCst) && request.url.host_str() == Some("fifty.example.com");
        if hangs { Scripted::hang() } else { Scripted::status(200) }
    });
    let world = World::new(target);
    world.webhooks.spawn(Workers::default()).unwrap();
    world.subscribe(SubscriptionDraft::to("https://good.example.com/")).await;
    for _ in 0..50 {
        world.subscribe(only("fifty", "https://fifty.example.com/")).await;
    }
    for _ in 0..4 {
        world.publish("fifty").await;
        world.webhooks.run_until_idle().await.unwrap();
    }
    hanging.store(true, Ordering::SeqCst);
    for _ in 0..40 {
        world.publish("fifty").await;
    }
    // All fifty are tried again every fifteen seconds at first.
    for _ in 0..20 {
        let start = tokio::time::Instant::now();
        let published = world.publish("good").await;
        world.finished(published.deliveries[0].0).await;
        assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
        tokio::time::sleep(seconds(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_spaces_attempts_evenly() {
    let world = World::new(scripted());
    world.webhooks.spawn(Workers::default()).unwrap();
    let rate_limit = Some(webhook_core::model::RateLimit { requests: 10, per: seconds(1) });
    world
        .subscribe(SubscriptionDraft { rate_limit, ..SubscriptionDraft::to("https://good.example.com/") })
        .await;
    let mut last = None;
    for _ in 0..40 {
        last = Some(world.publish("a").await.deliveries[0].0);
    }
    world.finished(last.unwrap()).await;
    let times: Vec<_> = world.target.requests().iter().map(|request| request.at).collect();
    assert_eq!(times.len(), 40);
    for (index, start) in times.iter().enumerate() {
        let inside = times[index..].iter().take_while(|at| **at < *start + seconds(1)).count();
        assert!(inside <= 11, "{inside} in one second");
    }
    assert!(times[39] - times[0] < seconds(6), "{:?}", times[39] - times[0]);
}
