//! The OpenAPI 3.1 document of the API, made of the table of routes.
//!
//! Every route has an [`Operation`](operations::Operation) that says what it takes and gives; one without does
//! not get through the tests of this module. The schemas are written beside, not derived: requests are read by
//! hand-written readers, which accept and refuse more than a type can say. What keeps them true is the crate's
//! test suite: it holds every answer of every test, and every body that was accepted, against this document.

mod operations;
mod schemas;

use serde_json::{Map, Value, json};

use crate::problem::ProblemCode;
use crate::routes::ROUTES;
use operations::{Answer, Body, Operation};

/// The document, for a router that is nested under `base`, such as `/api/v1`. It has probes and metrics at the
/// root, where [`probes`](crate::probes) and [`metrics`](crate::metrics()) put them, and its paths are whole.
///
/// ```
/// let document = webhook_http_axum::openapi("/api/v1");
/// assert_eq!(document["openapi"], "3.1.0");
/// assert!(document["paths"]["/api/v1/events"]["post"].is_object());
/// ```
#[must_use]
pub fn openapi(base: &str) -> Value {
    let base = base.trim_end_matches('/');
    let mut paths = Map::new();
    for route in ROUTES {
        if let Some(operation) = operations::of(route) {
            let path = paths.entry(format!("{base}{}", route.path)).or_insert_with(|| json!({}));
            path[route.method.to_ascii_lowercase()] = describe(operation);
        }
    }
    paths.insert("/health".to_owned(), operations::health());
    paths.insert("/ready".to_owned(), operations::ready());
    paths.insert("/metrics".to_owned(), operations::metrics());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Webhook delivery",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Publish events; they are delivered to subscriptions, signed, with retries.",
            "description": "Times are UTC in RFC 3339, ids are UUIDs (version 7), durations are texts such as \
                `10s` or `24h`. Errors are `application/problem+json` (RFC 9457) with a stable `code`. Lists are \
                newest first; a page never repeats or skips a row because others were inserted meanwhile. Every \
                request acts within one tenant: `?tenant=`, or the one that its key is bound to. Trailing \
                slashes are accepted. Fields of answers may be added; unknown fields of requests are refused.",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": operations::tags(),
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key, of an admin or bound to a tenant. A server without keys, which \
                    listens on loopback alone, asks for none.",
            }},
            "parameters": operations::parameters(),
            "responses": responses(),
            "schemas": schemas::all(),
        },
    })
}

fn describe(operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    let mut errors = vec![400, 401, 403, 500, 503];
    if operation.path.contains("{id}") {
        parameters.push(json!({"$ref": "#/components/parameters/id"}));
        errors.push(404);
    }
    parameters.extend(
        operation.parameters.iter().map(|name| json!({"$ref": format!("#/components/parameters/{name}")})),
    );
    if !matches!(operation.body, Body::None) {
        errors.extend([413, 415, 422]);
    }
    errors.extend(operation.errors);

    let mut responses = Map::new();
    for (status, answer) in operation.answers {
        responses.insert(status.to_string(), success(answer));
    }
    errors.sort_unstable();
    for status in errors {
        responses.insert(
            status.to_string(),
            json!({"$ref": format!("#/components/responses/{}", response_name(status))}),
        );
    }
    let mut described = json!({
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": parameters,
        "responses": responses,
    });
    if !operation.description.is_empty() {
        described["description"] = json!(operation.description);
    }
    if operation.path.starts_with("/ingest/") {
        // A signature stands in for the key.
        described["security"] = json!([{"key": []}, {}]);
    }
    if let Some(body) = body(&operation.body) {
        described["requestBody"] = body;
    }
    described
}

fn body(body: &Body) -> Option<Value> {
    let json = |name: &str| json!({"schema": {"$ref": format!("#/components/schemas/{name}")}});
    match body {
        Body::None => None,
        Body::Required(name) => Some(json!({"required": true, "content": {"application/json": json(name)}})),
        Body::Optional(name) => Some(json!({"required": false, "content": {"application/json": json(name)}})),
        Body::Patch(name) => Some(json!({"required": true, "content": {
            "application/json": json(name),
            "application/merge-patch+json": json(name),
        }})),
        Body::Raw => Some(json!({"required": true, "content": {
            "application/json": {"schema": {}},
            "*/*": {"schema": {}},
        }})),
    }
}

fn success(answer: &Answer) -> Value {
    let mut described = match answer {
        Answer::Json(name, what) | Answer::Tagged(name, what) => json!({
            "description": what,
            "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}},
        }),
        Answer::Bytes(what) => json!({"description": what, "content": {"*/*": {"schema": {}}}}),
        Answer::Nothing(what) => json!({"description": what}),
    };
    if let Answer::Tagged(..) = answer {
        described["headers"] = json!({"ETag": {
            "description": "The version in quotes, for `If-Match`.",
            "schema": {"type": "string"},
        }});
    }
    described
}

/// The answers of requests that failed, by the name of their status.
fn responses() -> Value {
    let mut responses = Map::new();
    for (status, what) in [
        (400, "Malformed JSON, or a query parameter, cursor, limit or header that is wrong"),
        (401, "No key or signature, or a wrong one"),
        (403, "The caller may not name this tenant, or reaches a server without keys from elsewhere"),
        (404, "Nothing of this id for this tenant"),
        (409, "It cannot be done as things stand"),
        (412, "It was changed since it was read"),
        (413, "The body or the payload is too large"),
        (415, "The content type, or a content coding, is not taken"),
        (422, "Fields are missing, wrong or unknown; `errors` names each"),
        (500, "A defect of the server; its log says why"),
        (503, "The store is away, or the server is stopping"),
    ] {
        let codes: Vec<_> = ProblemCode::ALL
            .iter()
            .filter(|code| code.status() == status)
            .map(|code| code.as_str())
            .collect();
        let mut response = json!({
            "description": format!("{what} (`{}`)", codes.join("`, `")),
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        });
        let text = json!({"type": "string"});
        match status {
            401 => response["headers"] = json!({"WWW-Authenticate": {"schema": text}}),
            503 => {
                response["headers"] = json!({"Retry-After": {"schema": text, "description": "In seconds"}});
            }
            _ => {}
        }
        responses.insert(response_name(status).to_owned(), response);
    }
    responses.into()
}

const fn response_name(status: u16) -> &'static str {
    match status {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        412 => "VersionMismatch",
        413 => "TooLarge",
        415 => "UnsupportedMediaType",
        422 => "Invalid",
        503 => "Unavailable",
        _ => "Internal",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_once_and_nothing_else_is() {
        let document = openapi("/api/v1/");
        let mut ids = BTreeSet::new();
        for route in ROUTES {
            let path = format!("/api/v1{}", route.path);
            let operation = &document["paths"][&path][route.method.to_ascii_lowercase()];
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{route:?}"));
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
        }
        assert_eq!(operations::OPERATIONS.len(), ROUTES.len());
    }

    /// Every `$ref` leads somewhere, and every component is used.
    #[test]
    fn references_are_whole() {
        fn collect(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(to)) = map.get("$ref") {
                        found.insert(to.clone());
                    }
                    map.values().for_each(|value| collect(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
                _ => {}
            }
        }
        let document = openapi("");
        let mut references = BTreeSet::new();
        collect(&document, &mut references);
        for reference in &references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        for kind in ["parameters", "responses", "schemas"] {
            for name in document["components"][kind].as_object().unwrap().keys() {
                let reference = format!("#/components/{kind}/{name}");
                assert!(references.contains(&reference), "{reference} is never used");
            }
        }
    }
}
