//! Every route with an id: ids of another tenant, of nothing, of another kind, and what can be no id.

use axum::http::Method;
use serde_json::json;

use crate::bad_requests::ID as UNKNOWN;
use crate::operations::Operation;
use crate::support::api::Answer;
use crate::things::Things;
use crate::world::{ACME, ADMIN, Backend, OTHER, REACHABLE, WRONG, World};

/// The whole walk on one server. What another tenant has is 404, as what nobody has is, and none of it changes; then
/// its own tenant reaches each, which shows that the walk went where something is.
pub(crate) async fn foreign_ids(backend: Backend) {
    let Some(world) = World::start(backend, "foreign", &[REACHABLE]).await else { return };
    let things = Things::of_acme(&world).await;
    let before = things.snapshot(&world).await;
    let operations: Vec<_> = world.operations.iter().map(|operation| things.in_earnest(operation)).collect();
    for operation in &operations {
        if operation.takes_an_id() {
            of_another_tenant(&world, &things, operation).await;
            of_nothing(&world, &things, operation).await;
        }
        without_a_key(&world, &things, operation).await;
    }
    named_in_a_filter(&world, &things, &operations).await;
    assert_eq!(things.snapshot(&world).await, before, "something changed");
    of_its_own_tenant(&world, &things, operations).await;
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str, operation: &Operation, path: &str) {
    let found = answer.json();
    assert_eq!(
        (answer.status.as_u16(), found["code"].as_str()),
        (status, Some(code)),
        "{} {path:.200}: {found}",
        operation.method
    );
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{path:.200}");
}

async fn of_another_tenant(world: &World, things: &Things, operation: &Operation) {
    let path = things.path(operation);
    for path in [path.clone(), format!("{path}/"), format!("{path}?tenant=other")] {
        let answer = world.ask(operation, &path, Some(OTHER)).await;
        refused(&answer, 404, "not_found", operation, &path);
    }
    for tenant in ["acme", "default", "_operations"] {
        let path = format!("{path}?tenant={tenant}");
        let answer = world.ask(operation, &path, Some(OTHER)).await;
        refused(&answer, 403, "forbidden", operation, &path);
    }
    // An admin that names the wrong tenant, or none, which is `default`; an ingest is of its subscription's.
    let without = if operation.path.starts_with("/ingest/") { None } else { Some(path.clone()) };
    let named = ["other", "default", "_operations"].map(|tenant| format!("{path}?tenant={tenant}"));
    for path in named.into_iter().chain(without) {
        let answer = world.ask(operation, &path, Some(ADMIN)).await;
        refused(&answer, 404, "not_found", operation, &path);
    }
}

/// What nobody has is not there for its own tenant either, nor for an admin.
async fn of_nothing(world: &World, things: &Things, operation: &Operation) {
    let (kind, long) = (Things::kind(operation), "a".repeat(5000));
    let own = things.id(kind);
    let of_other_kinds = things.ids().filter(|(other, _)| *other != kind).map(|(_, id)| id.to_owned());
    let no_ids = [
        UNKNOWN,
        "00000000-0000-0000-0000-000000000000",
        "x",
        "0",
        "-1",
        "null",
        "*",
        "%00",
        "%FF",
        "%20",
        "%C3%A9",
        "..%2F..%2Fsubscriptions",
        "'%20OR%20'1'='1",
        &long,
    ]
    .map(str::to_owned);
    // Nearly the right one, in spellings that are not the API's.
    let nearly = [
        own[1..].to_owned(),
        format!("{own}0"),
        format!("{own}%00"),
        format!("%20{own}"),
        own.replace('-', ""),
        format!("%7B{own}%7D"),
        format!("urn:uuid:{own}"),
    ];
    for id in of_other_kinds.chain(no_ids).chain(nearly) {
        let path = operation.path.replace("{id}", &id);
        refused(&world.ask(operation, &path, Some(ACME)).await, 404, "not_found", operation, &path);
        let path = format!("{path}?tenant=acme");
        refused(&world.ask(operation, &path, Some(ADMIN)).await, 404, "not_found", operation, &path);
    }
}

async fn without_a_key(world: &World, things: &Things, operation: &Operation) {
    let path = things.path(operation);
    for key in [None, Some(WRONG), Some("")] {
        let answer = world.ask(operation, &path, key).await;
        refused(&answer, 401, "unauthorized", operation, &path);
        assert_eq!(answer.headers["www-authenticate"], "Bearer", "{path}");
    }
}

/// A list of one's own has nothing of a foreign thing, whatever its filter names, and a body names none.
async fn named_in_a_filter(world: &World, things: &Things, operations: &[Operation]) {
    let mut filters = 0;
    for operation in operations.iter().filter(|operation| operation.is_a_list() && !operation.takes_an_id()) {
        for (parameter, kind) in
            [("subscription_id", "subscriptions"), ("event_id", "events"), ("delivery_id", "deliveries")]
        {
            if operation.parameters.contains(parameter) {
                let path = format!("{}?{parameter}={}", operation.path, things.id(kind));
                let answer = world.get(&path, OTHER).await;
                assert_eq!((answer.status.as_u16(), &answer.json()["data"]), (200, &json!([])), "{path}");
                filters += 1;
            }
        }
        let answer = world.get(&format!("{}?limit=250", operation.path), OTHER).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["data"]), (200, &json!([])), "{}", operation.path);
    }
    assert!(filters >= 5, "{filters}");
    let body = json!({"subscription_id": things.id("subscriptions")}).to_string();
    let json = [("content-type", "application/json")];
    let answer = world.send(&Method::POST, "/deliveries/retry", Some(OTHER), &json, body).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (404, &json!("not_found")));
}

/// Every route answers its own tenant; what ends things comes last.
async fn of_its_own_tenant(world: &World, things: &Things, mut operations: Vec<Operation>) {
    operations.sort_by_key(|operation| match (operation.method.as_str(), operation.path.as_str()) {
        ("GET", _) => 0,
        ("DELETE", _) => 3,
        (_, "/purge") => 2,
        _ => 1,
    });
    for operation in operations {
        let path = things.path(&operation);
        let answer = world.ask(&operation, &path, Some(ACME)).await;
        // Whether a thing is finished or paused by then is not what this is about.
        let conflicts = operation.takes_an_id() && answer.status == 409;
        assert!(
            answer.status.is_success() || conflicts,
            "{} {path}: {} {:?}",
            operation.method,
            answer.status,
            answer.body
        );
    }
}
