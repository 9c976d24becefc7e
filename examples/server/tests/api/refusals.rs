//! Requests that are wrong: the table that the API's own tests have, and what every route refuses by its kind.

use axum::http::Method;
use serde_json::json;

use crate::bad_requests;
use crate::operations::Operation;
use crate::support::api::Answer;
use crate::things::Things;
use crate::world::{ACME, ADMIN, Backend, REACHABLE, World};

/// Headers, a body, and the status and code that it must get.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [u8], (u16, &'a str));

/// The table. None of its requests may be a 500, and none may leave a row.
pub(crate) async fn table(backend: Backend) {
    let Some(world) = World::start(backend, "table", &[]).await else { return };
    let before = world.rows().await;
    let mut wrong = Vec::new();
    for bad in bad_requests::table() {
        let method: Method = bad.method.parse().unwrap();
        let answer = world.send(&method, &bad.path, Some(ADMIN), &bad.headers(), bad.body.clone()).await;
        let found = problem(&answer);
        let expected = (bad.status, bad.code.to_owned());
        let names =
            |field: &str| answer.json()["errors"].as_array().unwrap().iter().any(|e| e["field"] == field);
        if found != expected || bad.field.is_some_and(|field| !names(field)) {
            wrong.push(format!("{}: expected {expected:?}, got {found:?} {:?}", bad.name(), answer.body));
        }
        let allow = answer.headers.get("allow").map_or("", |allow| allow.to_str().unwrap());
        if bad.status == 405 && (allow.is_empty() || allow.contains(bad.method)) {
            wrong.push(format!("{}: Allow is {allow:?}", bad.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for operation in world.operations.iter().filter(|op| op.is_a_list() && !op.takes_an_id()) {
        let answer = world.get(&format!("{}?tenant=*", operation.path), ADMIN).await;
        assert_eq!(answer.json()["data"], json!([]), "{}", operation.path);
    }
    assert_eq!(world.rows().await, before, "a row was left");
}

/// What each route refuses because of what it is, on things that are there.
pub(crate) async fn every_route(backend: Backend) {
    let Some(world) = World::start(backend, "routes", &[REACHABLE]).await else { return };
    let things = Things::of_acme(&world).await;
    let before = things.snapshot(&world).await;
    for operation in &world.operations {
        let path = things.path(operation);
        parameters(&world, operation, &path).await;
        methods(&world, operation, &path).await;
        if operation.has_fields {
            bodies(&world, operation, &path).await;
        }
    }
    assert_eq!(things.snapshot(&world).await, before, "something changed");
}

async fn parameters(world: &World, operation: &Operation, path: &str) {
    let ask = async |query: &str| {
        let path = format!("{path}?{query}");
        (world.ask(operation, &path, Some(ADMIN)).await, path)
    };
    for query in
        ["bogus=1", "Tenant=acme", "tenant=", "tenant=a%20b", "tenant=%00", "tenant=acme&tenant=acme"]
    {
        let (answer, path) = ask(query).await;
        // An ingest is refused for the subscription that it is not for.
        let ok = problem(&answer) == (400, "invalid_parameter".to_owned());
        assert!(ok, "{} {path}: {:?}", operation.method, answer.body);
    }
    if !operation.takes_all_tenants {
        let (answer, path) = ask("tenant=*").await;
        assert_eq!(problem(&answer), (400, "invalid_parameter".to_owned()), "{} {path}", operation.method);
    }
    for name in operation.parameters.iter().filter(|name| *name != "tenant" && *name != "cursor") {
        for value in ["", "%00", "%FF", "a%20b"] {
            let (answer, path) = ask(&format!("tenant=acme&{name}={value}")).await;
            let ok = problem(&answer) == (400, "invalid_parameter".to_owned());
            assert!(ok, "{} {path}: {:?}", operation.method, answer.body);
        }
    }
}

/// The methods that a path does not have.
async fn methods(world: &World, operation: &Operation, path: &str) {
    let has: Vec<&Method> = world
        .operations
        .iter()
        .filter(|other| other.path == operation.path)
        .map(|other| &other.method)
        .collect();
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let method: Method = method.parse().unwrap();
        if has.contains(&&method) {
            continue;
        }
        let answer = world.send(&method, path, Some(ACME), &[], "").await;
        assert_eq!(problem(&answer), (405, "method_not_allowed".to_owned()), "{method} {path}");
        let allow = answer.headers["allow"].to_str().unwrap();
        assert!(has.iter().all(|method| allow.contains(method.as_str())), "{method} {path}: {allow}");
    }
}

async fn bodies(world: &World, operation: &Operation, path: &str) {
    let json = [("content-type", "application/json")];
    let text = [("content-type", "text/plain")];
    let coded = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let twice = operation.body.as_ref().and_then(|body| {
        let (name, value) = body.as_object()?.iter().next()?;
        Some(format!("{{\"{name}\":{value},\"{name}\":{value}}}"))
    });
    let large = format!("{{\"bogus\":\"{}\"}}", "x".repeat(300_000));
    let malformed = (400, "malformed_json");
    let invalid = (422, "validation_failed");
    let media = (415, "unsupported_media_type");
    let mut cases: Vec<Case<'_>> = vec![
        (&json, b"{", malformed),
        (&json, b"{}x", malformed),
        (&json, b"{'a':1}", malformed),
        (&json, b"{\"a\":\"\xff\"}", malformed),
        (&json, b"{\"a\":\"\0\"}", malformed),
        (&json, b"\xef\xbb\xbf{}", malformed),
        (&json, b"[]", invalid),
        (&json, b"null", invalid),
        (&json, b"\"text\"", invalid),
        (&json, b"{\"bogus\":1}", (422, "target_not_allowed")),
        (&json, b"{\"\":1}", (422, "target_not_allowed")),
        (&json, b"{\"\\u0000\":1}", (422, "target_not_allowed")),
        (&json, large.as_bytes(), (413, "payload_too_large")),
        (&text, b"{}", media),
        (&coded, b"{}", media),
    ];
    if let Some(twice) = &twice {
        cases.push((&json, twice.as_bytes(), invalid));
    }
    for (headers, body, (status, code)) in cases {
        let answer = world.send(&operation.method, path, Some(ACME), headers, body.to_vec()).await;
        let start = String::from_utf8_lossy(&body[..body.len().min(80)]);
        let found = problem(&answer);
        assert_eq!(found, (status, code.to_owned()), "{} {path} {start}", operation.method);
    }
}

/// The status and the code of a problem that is whole.
#[track_caller]
fn problem(answer: &Answer) -> (u16, String) {
    let body = String::from_utf8_lossy(&answer.body);
    let kind = answer.headers.get("content-type").map_or("", |kind| kind.to_str().unwrap());
    if kind != "application/problem+json" {
        return (answer.status.as_u16(), format!("no problem but {kind}: {body}"));
    }
    let value = answer.json();
    assert_eq!(value["status"], answer.status.as_u16(), "{body}");
    for (name, kind) in [("type", "string"), ("title", "string"), ("detail", "string"), ("errors", "array")] {
        let fits = if kind == "array" { value[name].is_array() } else { value[name].is_string() };
        assert!(fits, "{name} is missing: {body}");
    }
    (answer.status.as_u16(), value["code"].as_str().unwrap_or_default().to_owned())
}
