//! Rotation, by what a receiver sees.

use webhook_core::SubscriptionDraft;
use webhook_core::retry::Schedule;
use webhook_core::secret::Secret;
use webhook_core::signature::{SignatureScheme, Signer};
use webhook_core::testing::Scripted;

use crate::target::{Got, Reply, attempt};
use crate::world::{TARGET, World, seconds, tenant};

/// The signature that this secret makes for a request.
fn signature(secret: &Secret, got: &Got) -> String {
    let signer = Signer::new(SignatureScheme::Standard, std::slice::from_ref(secret));
    let at = got.header("webhook-timestamp").parse().unwrap();
    signer.sign(got.header("webhook-id"), at, &got.request.body).unwrap().value
}

/// Promise 9: only time-stamp, signature and number change.
#[tokio::test]
async fn a_rotation_in_mid_flight_signs_with_both_secrets_until_the_overlap_ends() {
    let world = World::with(
        |request| match attempt(request) {
            1 => Reply::Held,
            4 => Reply::status(200),
            _ => Reply::status(500),
        },
        |builder| builder.retry(Schedule::new([seconds(10), seconds(3589), seconds(1)], 0.0).unwrap()),
    )
    .await;
    world.spawn();
    let id = world.subscribe(SubscriptionDraft::to(TARGET)).await.id;
    let start = world.now();
    let delivery = world.publish("a.b").await;
    world.requested(1).await;
    let subscriptions = world.webhooks.subscriptions();
    let old = subscriptions.secret(&tenant(), id).await.unwrap();
    let new = subscriptions.rotate_secret(&tenant(), id, None, seconds(3600)).await.unwrap();
    world.target.release(Scripted::status(500));
    // The third attempt is the last second of the overlap, the fourth its end.
    for (number, wait) in [(1, 10), (2, 3599), (3, 3600)] {
        world.tried(delivery, number).await;
        world.comes_exactly_at(start.after(seconds(wait))).await;
    }
    world.finished(delivery).await;
    let got = world.target.got();
    let both = |got: &Got| format!("{} {}", signature(&new, got), signature(&old, got));
    let expected = [signature(&old, &got[0]), both(&got[1]), both(&got[2]), signature(&new, &got[3])];
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got.header("webhook-signature"), expected, "attempt {}", got.header("webhook-attempt"));
    }
    for later in &got[1..] {
        assert_eq!(later.header("webhook-id"), got[0].header("webhook-id"));
        assert_eq!(later.request.body, got[0].request.body);
    }
    world.end().await;
}
