//! The engine on a queue of one's own: publishes three events, one of them to a target that is busy at
//! first, and prints what was delivered.
//!
//! `cargo run -p webhook-example-custom-backend`

#![allow(clippy::print_stdout, reason = "a demonstration talks on stdout")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use webhook_core::memory::MemoryStore;
use webhook_core::model::{NewEvent, Tenant};
use webhook_core::retry::Schedule;
use webhook_core::testing::{RecordingDeliverer, Scripted};
use webhook_core::{SubscriptionDraft, Webhooks, Workers};
use webhook_example_custom_backend::SmallQueue;

const TARGET: &str = "https://example.com/hooks";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // Sends nothing: it records, and answers 200 unless told otherwise.
    let target = RecordingDeliverer::new();
    target.answer(TARGET, Scripted::status(500));

    let webhooks = Webhooks::builder(Arc::new(MemoryStore::new()))
        .queue(Arc::new(SmallQueue::new()))
        .deliverer(Arc::new(target.clone()))
        .retry(Schedule::new([Duration::from_millis(300)], 0.0)?)
        .build()?;
    let draft =
        SubscriptionDraft { event_types: vec!["order.*".to_owned()], ..SubscriptionDraft::to(TARGET) };
    webhooks.subscriptions().create(&Tenant::default(), &draft).await?;
    webhooks.spawn(Workers::default())?;

    for number in 1..=3 {
        let payload = format!(r#"{{"number":{number}}}"#);
        let published = webhooks.publish(NewEvent::json("order.created", payload)).await?;
        println!("published  {}  deliveries: {}", published.id, published.delivery_count);
    }

    // Three deliveries, and a second attempt for the one that was answered with 500.
    let requests = tokio::time::timeout(Duration::from_secs(10), target.wait_for(4)).await?;
    let first = requests.first().map(|recorded| recorded.at);
    for recorded in &requests {
        println!(
            "delivered  {}  attempt {} after {:>3} ms  {}",
            recorded.header("webhook-id").unwrap_or("?"),
            recorded.header("webhook-attempt").unwrap_or("?"),
            first.map_or(0, |first| (recorded.at - first).as_millis()),
            String::from_utf8_lossy(&recorded.request.body),
        );
    }
    webhooks.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
