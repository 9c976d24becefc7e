//! What is refused for more than what one request says: a cursor that is another list's, a body that does not end.

use std::time::Duration;

use http::Method;
use serde_json::json;

use super::harness::{Api, request, text};

/// A real cursor is of one list, one tenant and one set of filters.
#[tokio::test]
async fn a_cursor_of_another_list_tenant_or_filter_is_refused() {
    let api = Api::new();
    for _ in 0..2 {
        api.subscribe(json!({})).await;
        api.publish("a", json!(1)).await;
    }
    let id = text(&api.get("/subscriptions").await.value()["data"][1]["id"]);
    let lists = [
        "/subscriptions?limit=1",
        "/subscriptions?limit=1&status=active",
        "/subscriptions?limit=1&tenant=*",
        "/events?limit=1",
        "/events?limit=1&event_type=a",
        "/events?limit=1&tenant=*",
        "/deliveries?limit=1",
        "/deliveries?limit=1&status=pending",
        &format!("/deliveries?limit=1&subscription_id={id}"),
        &format!("/subscriptions/{id}/deliveries?limit=1"),
    ];
    for from in lists {
        let cursor = text(&api.get(from).await.value()["next_cursor"]);
        for to in lists {
            let answer = api.get(&format!("{to}&cursor={cursor}")).await;
            if from == to {
                assert_eq!(answer.status, 200, "{from}");
            } else {
                assert_eq!(answer.problem(), (400, "invalid_cursor".into()), "{from} on {to}");
            }
        }
    }
}

/// A body that comes slowly, or never, holds nothing for longer than the deadline.
#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up() {
    let api = Api::new();
    for path in ["/subscriptions", "/events", "/events/batch", "/deliveries/retry"] {
        let drops = futures::stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_secs(1)).await; // verify: allow(sleep): paused time
            Some((Ok::<_, std::io::Error>(bytes::Bytes::from_static(b" ")), ()))
        });
        let body = axum::body::Body::from_stream(Box::pin(drops));
        let started = tokio::time::Instant::now();
        let answer =
            api.send(request(Method::POST, path, &[("content-type", "application/json")], body)).await;
        assert_eq!(answer.problem(), (400, "malformed_json".into()), "{path}");
        assert!(answer.text().contains("within 30 s"), "{}", answer.text());
        assert!(started.elapsed() < Duration::from_secs(31), "{path}");
    }
    let broken = futures::stream::iter([Err::<bytes::Bytes, _>(std::io::Error::other("cut off"))]);
    let body = axum::body::Body::from_stream(broken);
    let answer =
        api.send(request(Method::POST, "/events", &[("content-type", "application/json")], body)).await;
    assert_eq!(answer.problem(), (400, "malformed_json".into()));
}
