//! What spans show: in OpenTelemetry's names, nothing that is secret, and nothing at `info`. In a program of its own, so
//! that no other test's thread logs meanwhile.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::format::FmtSpan;
use webhook_core::memory::{MemoryQueue, MemoryStore};
use webhook_core::model::{NewEvent, Tenant};
use webhook_core::secret::Secret;
use webhook_core::testing::{RecordingDeliverer, Scripted, TokioClock};
use webhook_core::{SubscriptionDraft, Webhooks};

const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One at a time: what a thread logs depends on the subscribers of all of them, for a moment.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Everything that is logged of a publish and a failed attempt, at this level.
async fn logged(level: tracing_subscriber::filter::LevelFilter) -> String {
    let _alone = ALONE.lock().await;
    let log = Log::default();
    let sink = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || sink.clone())
        .finish();
    // The test's runtime has one thread, which is this one.
    let _guard = tracing::subscriber::set_default(subscriber);
    let receiver = RecordingDeliverer::new();
    let clock = Arc::new(TokioClock::new());
    let webhooks = Webhooks::builder(Arc::new(MemoryStore::with_clock(clock.clone())))
        .queue(Arc::new(MemoryQueue::with_clock(clock.clone())))
        .deliverer(Arc::new(receiver.clone()))
        .clock(clock)
        .build()
        .unwrap();
    let target = "https://example.com/services/path-secret?key=query-secret";
    receiver.answer(target, Scripted::status(503));
    webhooks
        .subscriptions()
        .create(
            &Tenant::default(),
            &SubscriptionDraft {
                headers: [("X-Api-Key".to_owned(), "header-secret".to_owned())].into(),
                secret: Some(Secret::from_stored("signing-secret-of-some-length".into())),
                ..SubscriptionDraft::to(target)
            },
        )
        .await
        .unwrap();
    let event = NewEvent::json("order.created", r#"{"card":"payload-secret"}"#).idempotency_key("key-secret");
    webhooks.publish(event.traceparent(GIVEN.parse().unwrap())).await.unwrap();
    webhooks.run_until_idle().await.unwrap();
    assert_eq!(receiver.requests().len(), 1);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn spans_say_in_opentelemetrys_names_what_happened_and_nothing_that_is_secret() {
    let text = logged(tracing_subscriber::filter::LevelFilter::TRACE).await;
    for expected in [
        "publish{",
        "commit{",
        "claim{",
        "attempt{",
        "record{",
        "otel.kind=\"client\"",
        "http.request.method=\"POST\"",
        "http.response.status_code=503",
        "error.type=503",
        "url.full=https://example.com/REDACTED",
        "server.address=\"example.com\"",
        "server.port=443",
        "messaging.operation.type=\"send\"",
        "messaging.batch.message_count=1",
        "trace_id=4bf92f3577b34da6a3ce929d0e0e4736",
        "parent_span_id=00f067aa0ba902b7",
        "trace_flags=\"01\"",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    // Each of them says so: the payload, a header, the signing secret, the key, the target's path and query.
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_delivered_says_nothing_at_info() {
    let text = logged(tracing_subscriber::filter::LevelFilter::INFO).await;
    // Once in the life of a queue.
    let others: Vec<&str> = text.lines().filter(|line| !line.contains("engine::rebuild")).collect();
    assert!(others.is_empty(), "{others:?}");
}
