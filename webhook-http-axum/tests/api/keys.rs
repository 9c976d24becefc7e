//! With keys: who gets in, and what they see. The tables walk over every route that there is.

use axum::Router;
use http::Method;
use serde_json::{Value, json};
use webhook_http_axum::{HttpOptions, Keys, ROUTES, Route, router};

use super::harness::{Answer, Api, TARGET, ids, request, send, text};
use super::inbox::rejected;

const ADMIN: &str = "the-key-of-an-admin";
const ACME: &str = "the-key-of-acme-corp";
const OTHER: &str = "the-key-of-another-tenant";
const WRONG: &str = "the-key-of-nobody-at-all";

/// An API with keys over the backends of one without, which tests set up.
struct Locked {
    open: Api,
    router: Router,
}

impl Locked {
    fn new() -> Self {
        let open = Api::new();
        let mut keys = Keys::new();
        for key in [ADMIN.to_owned(), format!("acme:{ACME}"), format!("other:{OTHER}")] {
            keys.add(&key).unwrap();
        }
        let options = HttpOptions::new().keys(keys);
        let router = router(open.webhooks.clone(), open.store.clone(), options);
        Self { open, router }
    }

    async fn ask(&self, route: &Route, path: &str, key: Option<&str>) -> Answer {
        let bearer = key.map(|key| format!("Bearer {key}"));
        let mut headers = vec![];
        if let Some(bearer) = &bearer {
            headers.push(("authorization", bearer.as_str()));
        }
        let body = body(route);
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let method: Method = route.method.parse().unwrap();
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        send(self.router.clone(), request(method, path, &headers, body)).await
    }
}

/// A good body for this route, where it takes one.
fn body(route: &Route) -> Option<Value> {
    match (route.method, route.path) {
        ("POST", "/subscriptions") | ("PUT", _) => Some(json!({"target_url": TARGET})),
        ("PATCH", _) => Some(json!({"description": "changed"})),
        ("POST", "/events") => Some(json!({"event_type": "a", "payload": 1})),
        ("POST", "/events/batch") => Some(json!({"events": [{"event_type": "a", "payload": 1}]})),
        ("POST", "/subscriptions/{id}/replay") => Some(json!({"since": "2026-01-01T00:00:00Z"})),
        ("POST", "/ingest/{id}") => Some(json!({})),
        ("POST", "/purge") => Some(json!({"older_than": "72h"})),
        _ => None,
    }
}

/// One of everything, all of one tenant.
struct Things {
    subscription: String,
    event: String,
    delivery: String,
    replay: String,
    rejected: String,
}

impl Things {
    async fn of_acme(api: &Api) -> Self {
        let subscription = text(&api.subscribe(json!({"tenant": "acme"})).await["id"]);
        let event = json!({"event_type": "a", "payload": 1, "tenant": "acme"});
        let published = api.post("/events", event).await.value();
        let replay = api.post("/deliveries/retry?tenant=acme", json!({})).await.value();
        let [rejected] = rejected(api, ["acme"]).await;
        Self {
            subscription,
            event: text(&published["id"]),
            delivery: text(&published["deliveries"][0]["id"]),
            replay: text(&replay["id"]),
            rejected,
        }
    }

    /// The path of a route, of one of these things where it takes an id.
    fn path(&self, route: &Route) -> String {
        let kind = route.path.split('/').nth(1).unwrap();
        let id = match kind {
            "subscriptions" | "ingest" => &self.subscription,
            "events" => &self.event,
            "deliveries" => &self.delivery,
            "replays" => &self.replay,
            "inbox" => &self.rejected,
            "attempts" | "purge" | "stats" => "",
            other => panic!("whose id is in /{other}?"),
        };
        route.path.replace("{id}", id)
    }
}

#[tokio::test]
async fn every_route_needs_a_key_of_this_server() {
    let locked = Locked::new();
    locked.open.spawn();
    let things = Things::of_acme(&locked.open).await;
    assert!(ROUTES.len() >= 32, "{}", ROUTES.len());
    let nowhere = ["/nothing", "/subscriptions/x/y/z", "/"].map(|path| Route { method: "GET", path });
    let no_method = Route { method: "DELETE", path: "/events" };
    for route in ROUTES.iter().chain(&nowhere).chain([&no_method]) {
        let path = if ROUTES.contains(route) { things.path(route) } else { route.path.to_owned() };
        for path in [path.clone(), format!("{}/", path.trim_end_matches('/')), format!("{path}?bogus=1")] {
            for key in [None, Some(WRONG), Some(""), Some(&ADMIN[1..])] {
                let answer = locked.ask(route, &path, key).await;
                assert_eq!(answer.problem(), (401, "unauthorized".into()), "{route:?} {path} {key:?}");
                assert_eq!(answer.header("www-authenticate"), "Bearer", "{route:?} {key:?}");
                assert!(!answer.text().contains(WRONG), "a key is not repeated");
            }
        }
    }
    let unchanged = locked.open.get(&format!("/subscriptions/{}?tenant=acme", things.subscription)).await;
    assert_eq!(unchanged.value()["version"], 1);
    assert_eq!(ids(&locked.open.get("/events?tenant=*").await.value()), [things.event.as_str()]);
    assert_eq!(ids(&locked.open.get("/inbox?tenant=*").await.value()), [things.rejected.as_str()]);
    assert_eq!(locked.ask(&nowhere[0], "/nothing", Some(ADMIN)).await.problem(), (404, "not_found".into()));
    assert_eq!(locked.ask(&no_method, "/events", Some(OTHER)).await.problem().0, 405);
}

#[tokio::test]
async fn what_is_anothers_is_404_on_every_route_and_naming_them_is_403() {
    let locked = Locked::new();
    locked.open.spawn();
    let things = Things::of_acme(&locked.open).await;
    for route in ROUTES {
        let path = things.path(route);
        let answer = locked.ask(route, &path, Some(OTHER)).await;
        if route.path.contains("{id}") {
            assert_eq!(answer.problem(), (404, "not_found".into()), "{route:?}");
            // An admin acts for `default` unless it names one; only ingest takes the subscription's.
            let admin = locked.ask(route, &format!("{path}?tenant=default"), Some(ADMIN)).await;
            assert_eq!(admin.problem(), (404, "not_found".into()), "{route:?}");
        } else {
            assert!(answer.status.is_success(), "{route:?}: {}", answer.text());
            assert!(!answer.text().contains(&things.subscription), "{route:?}: {}", answer.text());
        }
        for tenant in ["acme", "default", "_operations"] {
            let answer = locked.ask(route, &format!("{path}?tenant={tenant}"), Some(OTHER)).await;
            assert_eq!(answer.problem(), (403, "forbidden".into()), "{route:?} {tenant}");
        }
    }
    let unchanged = locked.open.get(&format!("/subscriptions/{}?tenant=acme", things.subscription)).await;
    assert_eq!(unchanged.value()["version"], 1);
    assert_eq!(ids(&locked.open.get("/events?tenant=acme").await.value()), [things.event.as_str()]);
    assert_eq!(ids(&locked.open.get("/inbox?tenant=acme").await.value()), [things.rejected.as_str()]);
}

#[tokio::test]
async fn a_bound_key_implies_its_tenant_on_every_route() {
    let locked = Locked::new();
    locked.open.spawn();
    let things = Things::of_acme(&locked.open).await;
    let (last, first): (Vec<_>, Vec<_>) =
        ROUTES.iter().partition(|route| route.method == "DELETE" && route.path == "/subscriptions/{id}");
    for route in first.into_iter().chain(last) {
        let answer = locked.ask(route, &things.path(route), Some(ACME)).await;
        // Its delivery may have been made meanwhile: then there is nothing to cancel or to retry.
        let code = answer.status.as_u16();
        assert!((200..300).contains(&code) || code == 409, "{route:?}: {}", answer.text());
        let named = locked.ask(route, &format!("{}?tenant=acme", things.path(route)), Some(ACME)).await;
        assert!(![401, 403].contains(&named.status.as_u16()), "{route:?}: {}", named.text());
    }
}

#[tokio::test]
async fn an_admins_key_may_name_any_tenant_and_all_of_them_on_lists() {
    let locked = Locked::new();
    locked.open.spawn();
    let things = Things::of_acme(&locked.open).await;
    let lists = ["/subscriptions", "/events", "/deliveries", "/attempts", "/inbox", "/stats"];
    for path in lists {
        let route = Route { method: "GET", path };
        for tenant in ["*", "acme", "_operations"] {
            let answer = locked.ask(&route, &format!("{path}?tenant={tenant}"), Some(ADMIN)).await;
            assert_eq!(answer.status, 200, "{path} {tenant}");
        }
        let answer = locked.ask(&route, &format!("{path}?tenant=*"), Some(ACME)).await;
        assert_eq!(answer.problem(), (403, "forbidden".into()), "{path}");
    }
    for route in ROUTES.iter().filter(|route| !route.path.contains("{id}") && !lists.contains(&route.path)) {
        let answer = locked.ask(route, &format!("{}?tenant=*", route.path), Some(ADMIN)).await;
        assert_eq!(answer.problem(), (400, "invalid_parameter".into()), "{route:?}");
    }
    let path = format!("/subscriptions/{}?tenant=acme", things.subscription);
    assert_eq!(locked.ask(&Route { method: "GET", path: "" }, &path, Some(ADMIN)).await.status, 200);
}

#[tokio::test]
async fn a_body_cannot_name_anothers_tenant() {
    let locked = Locked::new();
    let post = async |path: &str, key: &str, body: Value| {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        send(locked.router.clone(), request(Method::POST, path, &headers, body.to_string())).await
    };
    for tenant in ["acme", "_operations"] {
        let subscription = json!({"target_url": TARGET, "tenant": tenant});
        let event = json!({"event_type": "a", "payload": 1, "tenant": tenant});
        assert_eq!(post("/subscriptions", OTHER, subscription.clone()).await.problem().0, 403);
        assert_eq!(post("/events", OTHER, event.clone()).await.problem().0, 403);
        let own = json!({"event_type": "a", "payload": 1});
        let batch = json!({"events": [event, own]});
        let answer = post("/events/batch", OTHER, batch).await;
        assert_eq!(answer.status, 202);
        let items = answer.value()["data"].clone();
        assert_eq!((&items[0]["status"], &items[1]["status"]), (&json!(403), &json!(202)));
        assert_eq!(items[0]["problem"]["code"], "forbidden");
        assert_eq!(post("/subscriptions", ADMIN, subscription).await.status, 201);
    }
    assert_eq!(ids(&locked.open.get("/events?tenant=acme").await.value()).len(), 0);
}

#[tokio::test]
async fn who_ingests_needs_a_key_or_the_subscriptions_signature_in_its_place() {
    let locked = Locked::new();
    let plain = text(&locked.open.subscribe(json!({"tenant": "acme"})).await["id"]);
    let verify = json!({"scheme": "hex", "secret": "0123456789abcdef0123"});
    let signed = text(&locked.open.subscribe(json!({"tenant": "acme", "verify": verify})).await["id"]);
    let unknown = "0190c8f2-7d1e-7c3a-9b0e-2f4f6a8b0c1d";
    // HMAC-SHA256 of `{}` under that secret.
    let good = super::ingest::hex_signature(b"0123456789abcdef0123", b"{}");
    let ingest = async |id: &str, query: &str, key: Option<&str>, signature: Option<&str>| {
        let bearer = key.map(|key| format!("Bearer {key}"));
        let mut headers = Vec::new();
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        headers.extend(signature.map(|signature| ("x-signature", signature)));
        let path = format!("/ingest/{id}{query}");
        send(locked.router.clone(), request(Method::POST, &path, &headers, "{}")).await.status.as_u16()
    };
    for (id, query, key, signature, expected) in [
        (&*plain, "", None, None, 401),
        (&plain, "", None, Some(&*good), 401),
        (&plain, "", Some(WRONG), None, 401),
        (&plain, "", Some(OTHER), None, 404),
        (&plain, "?tenant=acme", Some(OTHER), None, 403),
        (&plain, "?tenant=other", Some(OTHER), None, 404),
        (&plain, "?tenant=other", Some(ACME), None, 403),
        (&plain, "", Some(ACME), None, 202),
        (&plain, "?tenant=acme", Some(ACME), None, 202),
        (&plain, "", Some(ADMIN), None, 202),
        (&plain, "?tenant=other", Some(ADMIN), None, 404),
        // A key does not stand in for the signature, and a wrong one does not spoil it.
        (&signed, "", None, Some(&good), 202),
        (&signed, "?tenant=acme", None, Some(&good), 202),
        (&signed, "?tenant=other", None, Some(&good), 404),
        (&signed, "", Some(WRONG), Some(&good), 202),
        (&signed, "", Some(OTHER), Some(&good), 202),
        (&signed, "", None, None, 401),
        (&signed, "", Some(ACME), None, 401),
        (&signed, "", Some(ADMIN), Some(&good[1..]), 401),
        // To a stranger, what does not exist is what wants a key.
        (unknown, "", None, Some(&good), 401),
        ("x", "", None, None, 401),
        (unknown, "", Some(ADMIN), None, 404),
        ("x", "", Some(ACME), None, 404),
    ] {
        assert_eq!(ingest(id, query, key, signature).await, expected, "{id}{query} {key:?} {signature:?}");
    }
}

#[tokio::test]
async fn a_large_body_without_a_key_is_not_read() {
    let locked = Locked::new();
    let stream = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let body = axum::body::Body::from_stream(stream);
    let post = request(Method::POST, "/events", &[("content-type", "application/json")], body);
    assert_eq!(send(locked.router.clone(), post).await.problem().0, 401);
}
