//! The schemas of bodies and answers, with examples. An object of a request closes itself
//! (`additionalProperties: false`), as its reader refuses what it does not know; one of an answer stays open, as
//! fields may be added.

use serde_json::{Map, Value, json};

use crate::problem::ProblemCode;

const EXAMPLE_ID: &str = "0190c8f2-7d1e-7c3a-9b0e-2f4f6a8b0c1d";
const EXAMPLE_TIME: &str = "2026-11-21T09:30:00.000000Z";

/// All of them by their names.
pub(super) fn all() -> Value {
    let mut schemas = Map::new();
    for group in [values(), subscriptions(), publishing(), deliveries(), requests(), others()] {
        if let Value::Object(group) = group {
            schemas.extend(group);
        }
    }
    schemas.into()
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn or_null(schema: &Value) -> Value {
    match schema.get("type") {
        Some(Value::String(kind)) if schema.get("enum").is_none() => {
            let mut nullable = schema.clone();
            nullable["type"] = json!([kind, "null"]);
            nullable
        }
        _ => json!({"anyOf": [schema, {"type": "null"}]}),
    }
}

/// An object of an answer, every field in it.
fn answer(properties: Value) -> Value {
    let required: Vec<_> = properties.as_object().into_iter().flat_map(Map::keys).collect();
    let mut schema = json!({"type": "object", "required": required});
    schema["properties"] = properties;
    schema
}

/// An object of a request: a field that is not required may be null, which is the same as left out.
fn request(required: &[&str], properties: &Value) -> Value {
    let fields = properties.as_object().into_iter().flatten();
    let properties: Map<_, _> = fields
        .map(|(name, schema)| {
            let demanded = required.contains(&name.as_str()) || name == "payload";
            (name.clone(), if demanded { schema.clone() } else { or_null(schema) })
        })
        .collect();
    json!({
        "type": "object", "required": required, "additionalProperties": false, "properties": properties,
    })
}

fn list(name: &str) -> Value {
    answer(json!({
        "data": {"type": "array", "items": reference(name)},
        "next_cursor": {"type": ["string", "null"]},
    }))
}

fn with(schema: &Value, more: &Value) -> Value {
    let mut whole = schema.clone();
    if let (Some(properties), Some(more)) = (whole["properties"].as_object_mut(), more.as_object()) {
        properties.extend(more.clone());
    }
    if let (Some(required), Some(more)) = (whole["required"].as_array_mut(), more.as_object()) {
        required.extend(more.keys().cloned().map(Value::String));
    }
    whole
}

fn id() -> Value {
    json!({"type": "string", "format": "uuid", "examples": [EXAMPLE_ID]})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time", "examples": [EXAMPLE_TIME]})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn texts() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

fn values() -> Value {
    json!({
        "Tenant": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$", "default": "default"},
        "EventType": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,256}$", "examples": ["invoice.paid"]},
        "IdempotencyKey": {
            "type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[!-~]+$",
        },
        "Duration": {
            "type": "string", "pattern": "^[0-9]",
            "description": "Such as `250ms`, `10s`, `5m`, `72h` or `30d`", "examples": ["10s"],
        },
        "Window": {
            "type": "string", "pattern": "^[0-9]", "default": "24h",
            "description": "A duration of `1m` to `30d`", "examples": ["1h"],
        },
        "EventTypes": {
            "type": "array", "items": {"type": "string"},
            "description": "Exact names, `*`, or a prefix with `.*`; empty: all",
            "examples": [["invoice.*", "order.created"]],
        },
        "Filter": {
            "type": "object",
            "description": "A condition on the JSON payload, by paths: `$eq $ne $gt $gte $lt $lte $in $nin \
                $exists $prefix`, `$and $or $not`; a bare value means `$eq`",
            "examples": [{"data.amount": {"$gte": 100}, "data.currency": {"$in": ["EUR", "USD"]}}],
        },
        "Retry": {
            "description": "n waits make n+1 attempts; `attempts` are counted in total",
            "oneOf": [
                {
                    "type": "object", "required": ["schedule"], "additionalProperties": false,
                    "properties": {
                        "schedule": {"type": "array", "maxItems": 100, "items": reference("Duration")},
                        "jitter": {"type": "number", "minimum": 0, "maximum": 1},
                    },
                },
                {
                    "type": "object", "required": ["exponential"], "additionalProperties": false,
                    "properties": {"exponential": {
                        "type": "object",
                        "required": ["base", "attempts"],
                        "additionalProperties": false,
                        "properties": {
                            "base": reference("Duration"),
                            "factor": {"type": "number"},
                            "max": reference("Duration"),
                            "attempts": {"type": "integer", "minimum": 1},
                            "jitter": {"type": "number", "minimum": 0, "maximum": 1},
                        },
                    }},
                },
            ],
            "examples": [
                {"schedule": ["10s", "30s", "1m", "5m", "15m"]},
                {"exponential": {"base": "10s", "factor": 2, "max": "1h", "attempts": 7, "jitter": 0.2}},
            ],
        },
        "RateLimit": {
            "type": "object", "required": ["requests", "per"], "additionalProperties": false,
            "properties": {
                "requests": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
                "per": reference("Duration"),
            },
            "examples": [{"requests": 100, "per": "1s"}],
        },
        "Signature": {"type": "string", "enum": ["standard", "github", "stripe", "none"]},
        "VerifyScheme": {"type": "string", "enum": ["standard", "github", "hex"]},
        "Failure": answer(json!({
            "kind": {"type": "string", "enum": [
                "dns", "connect", "tls", "timeout", "reset", "protocol", "blocked", "status", "interrupted",
                "internal",
            ]},
            "detail": {"type": "string"},
        })),
    })
}

/// What users write of a subscription.
fn written() -> Map<String, Value> {
    let fields = json!({
        "target_url": {"type": "string", "format": "uri", "examples": ["https://example.com/hooks"]},
        "description": {"type": "string"},
        "event_types": reference("EventTypes"),
        "filter": reference("Filter"),
        "headers": texts(),
        "metadata": texts(),
        "retry": reference("Retry"),
        "timeout": reference("Duration"),
        "max_in_flight": {"type": "integer", "minimum": 1, "maximum": 10_000},
        "rate_limit": reference("RateLimit"),
        "ordered": {"type": "boolean", "default": false},
        "signature": reference("Signature"),
        "verify": {
            "type": "object", "required": ["scheme"], "additionalProperties": false,
            "properties": {
                "scheme": reference("VerifyScheme"),
                "header": {"type": ["string", "null"], "examples": ["X-Signature"]},
                "secret": {"type": ["string", "null"], "writeOnly": true},
            },
        },
        "secret": {
            "type": "string", "minLength": 1,
            "description": "`whsec_` and base64, or plain characters; made when absent",
        },
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn subscriptions() -> Value {
    let status = json!({"type": "string", "enum": ["active", "paused", "disabled"]});
    let shown = answer(json!({
        "id": id(),
        "tenant": reference("Tenant"),
        "target_url": {"type": "string", "format": "uri"},
        "description": {"type": ["string", "null"]},
        "event_types": reference("EventTypes"),
        "filter": or_null(&reference("Filter")),
        "headers": texts(),
        "metadata": texts(),
        "status": status,
        "disabled_reason": {"anyOf": [{"type": "string", "enum": ["gone", "failing"]}, {"type": "null"}]},
        "retry": or_null(&reference("Retry")),
        "timeout": or_null(&reference("Duration")),
        "max_in_flight": {"type": ["integer", "null"], "minimum": 1},
        "rate_limit": or_null(&reference("RateLimit")),
        "ordered": {"type": "boolean"},
        "signature": reference("Signature"),
        "verify": or_null(&answer(json!({
            "scheme": reference("VerifyScheme"),
            "header": {"type": ["string", "null"]},
        }))),
        "version": {"type": "integer", "minimum": 1},
        "created_at": time(),
        "updated_at": time(),
    }));
    // What is read can be sent back: read-only fields are taken when they are equal to what is stored.
    let read_only = json!({
        "id": id(),
        "tenant": reference("Tenant"),
        "status": status,
        "disabled_reason": {"type": "string"},
        "version": {"type": "integer", "minimum": 1},
        "created_at": time(),
        "updated_at": time(),
    });
    let mut fields = written();
    fields.extend(read_only.as_object().cloned().unwrap_or_default());
    let fields = Value::Object(fields);
    let mut new = request(&["target_url"], &fields);
    new["examples"] = json!([
        {"target_url": "https://example.com/hooks"},
        {
            "target_url": "https://example.com/hooks",
            "event_types": ["invoice.*"],
            "filter": {"data.amount": {"$gte": 100}},
            "headers": {"X-Team": "billing"},
            "retry": {"schedule": ["10s", "30s", "1m", "5m", "15m"]},
            "rate_limit": {"requests": 100, "per": "1s"},
            "signature": "standard",
        },
    ]);
    let mut patch = request(&[], &fields);
    // A patch clears what it says null for, inside of objects too.
    patch["properties"]["headers"] =
        json!({"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}});
    patch["properties"]["metadata"] = patch["properties"]["headers"].clone();
    for name in ["retry", "rate_limit", "verify", "filter"] {
        patch["properties"][name] = json!({"type": ["object", "null"]});
    }
    // Nothing is cleared by clearing what is not there.
    patch["additionalProperties"] = json!({"type": "null"});
    patch["examples"] = json!([{"description": "Invoices", "filter": null}]);
    json!({
        "Subscription": shown,
        "SubscriptionWithSecret": with(&shown, &json!({"secret": {"type": "string"}})),
        "SubscriptionList": list("Subscription"),
        "NewSubscription": new,
        "SubscriptionChange": new,
        "SubscriptionPatch": patch,
        "Secret": answer(json!({"secret": {"type": "string", "examples": ["whsec_…"]}})),
        "RotateSecret": request(&[], &json!({
            "secret": {"type": "string", "minLength": 1},
            "overlap": reference("Duration"),
        })),
    })
}

fn publishing() -> Value {
    let event = json!({
        "event_type": reference("EventType"),
        "payload": {"description": "Any JSON value, delivered byte for byte"},
        "tenant": reference("Tenant"),
        "ordering_key": {"type": "string", "minLength": 1, "maxLength": 256},
        "deliver_at": time(),
    });
    let mut item = event.clone();
    item["idempotency_key"] = reference("IdempotencyKey");
    let mut new = request(&["event_type", "payload"], &event);
    let example =
        json!({"event_type": "invoice.paid", "payload": {"data": {"amount": 120, "currency": "EUR"}}});
    new["examples"] = json!([example]);
    let mut batch = request(
        &["events"],
        &json!({
            "events": {"type": "array", "minItems": 1, "maxItems": 1000, "items": request(&["event_type", "payload"], &item)},
        }),
    );
    batch["examples"] = json!([{"events": [example]}]);
    let published = answer(json!({
        "id": id(),
        "deliveries": {"type": "array", "maxItems": 1000, "items": reference("DeliveryReference")},
        "delivery_count": count(),
        "duplicate": {"type": "boolean"},
    }));
    let shown = answer(json!({
        "id": id(),
        "tenant": reference("Tenant"),
        "event_type": reference("EventType"),
        "content_type": {"type": "string"},
        "payload_size": count(),
        "ordering_key": {"type": ["string", "null"]},
        "deliver_at": or_null(&time()),
        "idempotency_key": {"type": ["string", "null"]},
        "created_at": time(),
    }));
    json!({
        "NewEvent": new,
        "Batch": batch,
        "Published": published,
        "BatchAnswer": answer(json!({"data": {"type": "array", "items": {"anyOf": [
            with(&published, &json!({"status": {"const": 202}})),
            answer(json!({"status": {"type": "integer"}, "problem": reference("Problem")})),
        ]}}})),
        "DeliveryReference": answer(json!({"id": id(), "subscription_id": id()})),
        "Event": shown,
        "EventList": list("Event"),
        "WholeEvent": with(&shown, &json!({
            "deliveries": {"type": "array", "items": reference("Delivery")},
            "matches": {"type": "array", "maxItems": 100, "items": reference("Match")},
        })),
        "Match": answer(json!({
            "subscription_id": id(), "matched": {"type": "boolean"}, "reason": {"type": "string"},
        })),
    })
}

fn deliveries() -> Value {
    let shown = answer(json!({
        "id": id(),
        "event_id": id(),
        "subscription_id": id(),
        "tenant": reference("Tenant"),
        "event_type": reference("EventType"),
        "status": {
            "type": "string", "enum": ["pending", "retrying", "succeeded", "exhausted", "cancelled"],
        },
        "status_reason": {
            "type": ["string", "null"],
            "description": "Why it waits or ended; new ones may come",
            "examples": [
                "scheduled", "rate_limited", "parked", "paused", "disabled", "ordered", "gone",
                "attempts_exhausted", "expired", "poison", "subscription_deleted", "cancelled_by_user",
            ],
        },
        "attempt_count": count(),
        "next_attempt_at": or_null(&time()),
        "last_status_code": {"type": ["integer", "null"]},
        "last_error": or_null(&reference("Failure")),
        "created_at": time(),
        "finished_at": or_null(&time()),
    }));
    let attempt = answer(json!({
        "id": id(),
        "delivery_id": id(),
        "event_id": id(),
        "subscription_id": id(),
        "number": {"type": "integer", "minimum": 1},
        "trigger": {"type": "string", "enum": ["schedule", "manual"]},
        "started_at": time(),
        "duration_ms": count(),
        "outcome": {"type": "string", "enum": ["succeeded", "failed", "unknown"]},
        "status_code": {"type": ["integer", "null"]},
        "error": or_null(&reference("Failure")),
        "target_url": {"type": "string"},
    }));
    json!({
        "Delivery": shown,
        "DeliveryList": list("Delivery"),
        "WholeDelivery": with(&shown, &json!({
            "attempts": {"type": "array", "items": reference("WholeAttempt")},
        })),
        "Attempt": attempt,
        "AttemptList": list("Attempt"),
        "WholeAttempt": with(&attempt, &json!({
            "response_body": {"type": "string"},
            "response_headers": {"type": "array", "items": {
                "type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "string"},
            }},
        })),
    })
}

fn requests() -> Value {
    let statuses = json!({
        "type": "array", "minItems": 1,
        "items": {"type": "string", "enum": ["succeeded", "exhausted", "cancelled"]},
    });
    let dry_run = json!({"type": "boolean", "default": false});
    let mut replay = request(
        &["since"],
        &json!({"since": time(), "until": time(), "status": statuses, "dry_run": dry_run}),
    );
    replay["examples"] = json!([{"since": EXAMPLE_TIME, "dry_run": true}]);
    let mut retry = request(
        &[],
        &json!({
            "status": statuses,
            "subscription_id": id(),
            "event_type": reference("EventType"),
            "since": time(),
            "until": time(),
            "dry_run": dry_run,
        }),
    );
    retry["examples"] = json!([{"status": ["exhausted"], "event_type": "invoice.paid", "dry_run": true}]);
    let mut purge = request(&["older_than"], &json!({"older_than": reference("Duration")}));
    purge["examples"] = json!([{"older_than": "72h"}]);
    let counted = json!({"matched": count(), "more": {"type": "boolean"}, "done": count()});
    let counted = answer(counted);
    json!({
        "Empty": request(&[], &json!({})),
        "ReplayEvent": request(&[], &json!({"status": statuses})),
        "ReplaySubscription": replay,
        "RetryDeliveries": retry,
        "Purge": purge,
        "Purged": answer(json!({"deleted": count()})),
        "Cancelled": answer(json!({"cancelled": count()})),
        "Replayed": answer(json!({"deliveries": {"type": "array", "items": reference("DeliveryReference")}})),
        "ReplayDryRun": counted,
        "ReplayStarted": with(&counted, &json!({"id": id()})),
        "Replay": with(&counted, &json!({
            "id": id(), "status": {"type": "string", "enum": ["running", "done"]},
        })),
    })
}

fn stats() -> Value {
    let millis = json!({"type": ["integer", "null"], "minimum": 0});
    let described = |schema: Value, what: &str| with_description(schema, what);
    answer(json!({
        "window": reference("Window"),
        "events": described(count(), "That were stored, whether a subscription matched or not; of a subscription, \
            deliveries that were made for it"),
        "deliveries": answer(json!({
            "pending": described(count(), "Now: not tried yet"),
            "retrying": described(count(), "Now: tried, and to be tried again"),
            "succeeded": count(), "exhausted": count(), "cancelled": count(),
        })),
        "attempts": answer(json!({"succeeded": count(), "failed": count(), "unknown": count()})),
        "success_rate": described(
            json!({"type": ["number", "null"], "minimum": 0, "maximum": 1}),
            "Of the deliveries that finished in the window; null when none did",
        ),
        "latency_ms": described(
            answer(json!({"p50": millis, "p95": millis, "p99": millis})),
            "From publishing, or `deliver_at`, to success, less than an eighth off; null when nothing succeeded",
        ),
        "backlog": answer(json!({
            "due": count(), "scheduled": count(),
            "waiting": described(count(), "Of paused and disabled subscriptions, and due ones of parked ones"),
            "oldest_due_age_ms": described(count(), "0 when nothing is due"),
            "more": described(
                json!({"type": "boolean"}),
                "There is more than was counted: these numbers, and those of pending and retrying deliveries, \
                 are of the first 100,000",
            ),
        })),
        "worst_subscriptions": described(
            json!({"type": "array", "maxItems": 10, "items": answer(json!({
                "subscription_id": id(), "succeeded": count(), "failed": count(),
            }))}),
            "Those with the most failed attempts, the worst first; the numbers are of attempts",
        ),
    }))
}

fn with_description(mut schema: Value, what: &str) -> Value {
    schema["description"] = json!(what);
    schema
}

fn others() -> Value {
    let codes: Vec<_> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
    let up = answer(json!({"status": {"type": "string", "enum": ["ok", "down"]}}));
    json!({
        "Rejected": answer(json!({
            "id": id(),
            "tenant": {"type": "string"},
            "event_type": {"type": "string"},
            "problem": {"type": "string"},
            "created_at": time(),
        })),
        "RejectedList": list("Rejected"),
        "Stats": stats(),
        "Problem": answer(json!({
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": codes},
            "errors": {"type": "array", "items": answer(json!({
                "field": {"type": "string"}, "detail": {"type": "string"},
            }))},
        })),
        "Health": answer(json!({"status": {"const": "ok"}})),
        "Ready": answer(json!({
            "status": {"type": "string", "enum": ["ready", "degraded", "unavailable", "draining"]},
            "checks": answer(json!({"store": up, "queue": up})),
        })),
    })
}
