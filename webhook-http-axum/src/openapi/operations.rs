//! What each route takes and gives, in words and by the names of schemas.

use serde_json::{Value, json};

use crate::routes::Route;

/// One route for the document.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    /// Names among [`parameters`], beside `id`.
    pub(super) parameters: &'static [&'static str],
    pub(super) body: Body,
    pub(super) answers: &'static [(u16, Answer)],
    /// Statuses beyond those that follow from path and body.
    pub(super) errors: &'static [u16],
}

/// What a request carries, by the name of its schema.
#[derive(Debug)]
pub(super) enum Body {
    None,
    Required(&'static str),
    Optional(&'static str),
    Patch(&'static str),
    /// Any bytes.
    Raw,
}

/// What comes back when it went well: the name of the schema, and what it means.
#[derive(Debug)]
pub(super) enum Answer {
    Json(&'static str, &'static str),
    /// With an `ETag`.
    Tagged(&'static str, &'static str),
    Bytes(&'static str),
    Nothing(&'static str),
}

pub(super) fn of(route: &Route) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.method == route.method && operation.path == route.path)
}

/// A route with a tenant, no body, one answer and no errors of its own: what the entries below start from.
const PLAIN: Operation = Operation {
    method: "GET",
    path: "",
    id: "",
    tag: "",
    summary: "",
    description: "",
    parameters: &["tenant"],
    body: Body::None,
    answers: &[],
    errors: &[],
};

const SUBSCRIPTIONS: &str = "Subscriptions";
const EVENTS: &str = "Events";
const DELIVERIES: &str = "Deliveries";
const OPERATION: &str = "Operation";
const NO_BODY: Body = Body::Optional("Empty");

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "POST",
        path: "/subscriptions",
        id: "createSubscription",
        tag: SUBSCRIPTIONS,
        summary: "Create a subscription",
        description: "Only `target_url` is required. The answer is the only one that shows the secret unasked.",
        body: Body::Required("NewSubscription"),
        answers: &[(201, Answer::Tagged("SubscriptionWithSecret", "Created; `Location` names it"))],
        ..PLAIN
    },
    Operation {
        path: "/subscriptions",
        id: "listSubscriptions",
        tag: SUBSCRIPTIONS,
        summary: "List subscriptions",
        parameters: &["tenants", "subscriptionStatus", "eventType", "limit", "cursor"],
        answers: &[(200, Answer::Json("SubscriptionList", "A page"))],
        ..PLAIN
    },
    Operation {
        path: "/subscriptions/{id}",
        id: "getSubscription",
        tag: SUBSCRIPTIONS,
        summary: "Read a subscription",
        answers: &[(200, Answer::Tagged("Subscription", "As it is"))],
        ..PLAIN
    },
    Operation {
        method: "PUT",
        path: "/subscriptions/{id}",
        id: "replaceSubscription",
        tag: SUBSCRIPTIONS,
        summary: "Replace a subscription",
        description: "What is left out has its default; `***`, and what `verify` leaves out, keeps what is stored. \
            Read-only fields are accepted when they are equal to what is stored.",
        parameters: &["tenant", "ifMatch"],
        body: Body::Required("SubscriptionChange"),
        answers: &[(200, Answer::Tagged("Subscription", "As it is now"))],
        errors: &[409, 412],
    },
    Operation {
        method: "PATCH",
        path: "/subscriptions/{id}",
        id: "patchSubscription",
        tag: SUBSCRIPTIONS,
        summary: "Change fields of a subscription",
        description: "JSON Merge Patch (RFC 7396): `null` clears.",
        parameters: &["tenant", "ifMatch"],
        body: Body::Patch("SubscriptionPatch"),
        answers: &[(200, Answer::Tagged("Subscription", "As it is now"))],
        errors: &[409, 412],
    },
    Operation {
        method: "DELETE",
        path: "/subscriptions/{id}",
        id: "deleteSubscription",
        tag: SUBSCRIPTIONS,
        summary: "Delete a subscription",
        description: "Nothing more starts; its unfinished deliveries become cancelled shortly after.",
        parameters: &["tenant", "ifMatch"],
        answers: &[(204, Answer::Nothing("Gone"))],
        errors: &[409, 412],
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/subscriptions/{id}/pause",
        id: "pauseSubscription",
        tag: SUBSCRIPTIONS,
        summary: "Pause a subscription: its deliveries wait",
        body: NO_BODY,
        answers: &[(200, Answer::Tagged("Subscription", "Paused"))],
        errors: &[409],
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/subscriptions/{id}/resume",
        id: "resumeSubscription",
        tag: SUBSCRIPTIONS,
        summary: "Resume a subscription that is paused or disabled",
        body: NO_BODY,
        answers: &[(200, Answer::Tagged("Subscription", "Active"))],
        errors: &[409],
        ..PLAIN
    },
    Operation {
        path: "/subscriptions/{id}/secret",
        id: "getSecret",
        tag: SUBSCRIPTIONS,
        summary: "Show the signing secret",
        answers: &[(200, Answer::Json("Secret", "The newest one"))],
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/subscriptions/{id}/rotate-secret",
        id: "rotateSecret",
        tag: SUBSCRIPTIONS,
        summary: "Sign with another secret",
        description: "Both sign until the overlap ends.",
        body: Body::Optional("RotateSecret"),
        answers: &[(200, Answer::Json("Secret", "The new one"))],
        errors: &[409],
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/subscriptions/{id}/test",
        id: "testSubscription",
        tag: SUBSCRIPTIONS,
        summary: "Send a `webhook.test` event through the whole path, whatever the filters say",
        body: NO_BODY,
        answers: &[(202, Answer::Json("Published", "Durable, and on its way"))],
        errors: &[409],
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/subscriptions/{id}/replay",
        id: "replaySubscription",
        tag: SUBSCRIPTIONS,
        summary: "Reopen what a subscription missed since a moment",
        body: Body::Required("ReplaySubscription"),
        answers: &[
            (200, Answer::Json("ReplayDryRun", "How many it would be")),
            (202, Answer::Json("ReplayStarted", "Workers reopen them at a bounded rate")),
        ],
        ..PLAIN
    },
    Operation {
        path: "/subscriptions/{id}/attempts",
        id: "listAttemptsOfSubscription",
        tag: SUBSCRIPTIONS,
        summary: "List a subscription's attempts",
        parameters: &["tenants", "deliveryId", "eventId", "outcome", "since", "until", "limit", "cursor"],
        answers: &[(200, Answer::Json("AttemptList", "A page"))],
        ..PLAIN
    },
    Operation {
        path: "/subscriptions/{id}/deliveries",
        id: "listDeliveriesOfSubscription",
        tag: SUBSCRIPTIONS,
        summary: "List a subscription's deliveries",
        parameters: &[
            "tenants",
            "deliveryStatus",
            "eventId",
            "eventType",
            "since",
            "until",
            "limit",
            "cursor",
        ],
        answers: &[(200, Answer::Json("DeliveryList", "A page"))],
        ..PLAIN
    },
    Operation {
        path: "/subscriptions/{id}/stats",
        id: "getSubscriptionStats",
        tag: SUBSCRIPTIONS,
        summary: "Read a subscription's statistics",
        parameters: &["tenants", "window"],
        answers: &[(200, Answer::Json("Stats", "As they are"))],
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/events",
        id: "publishEvent",
        tag: EVENTS,
        summary: "Publish an event",
        description: "Answered after the event and its deliveries are durable. `payload` is delivered byte for \
            byte as it was sent.",
        parameters: &["tenant", "idempotencyKey", "traceparent"],
        body: Body::Required("NewEvent"),
        answers: &[(202, Answer::Json("Published", "Durable; without a match, `deliveries` is empty"))],
        errors: &[409],
    },
    Operation {
        method: "POST",
        path: "/events/batch",
        id: "publishEvents",
        tag: EVENTS,
        summary: "Publish up to 1,000 events, each by itself",
        parameters: &["tenant", "traceparent"],
        body: Body::Required("Batch"),
        answers: &[(202, Answer::Json("BatchAnswer", "What became of each, in order"))],
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/ingest/{id}",
        id: "ingest",
        tag: EVENTS,
        summary: "Take any body as an event for one subscription",
        description: "The id is the subscription's. With `verify` its caller authenticates by a signature in place \
            of a key. A JSON content type, or none, needs a body that is JSON.",
        parameters: &["tenant", "ingestType", "ingestTypeHeader", "idempotencyKey", "traceparent"],
        body: Body::Raw,
        answers: &[(202, Answer::Json("Published", "Durable"))],
        errors: &[409],
    },
    Operation {
        path: "/events",
        id: "listEvents",
        tag: EVENTS,
        summary: "List events",
        parameters: &["tenants", "eventType", "since", "until", "limit", "cursor"],
        answers: &[(200, Answer::Json("EventList", "A page"))],
        ..PLAIN
    },
    Operation {
        path: "/events/{id}",
        id: "getEvent",
        tag: EVENTS,
        summary: "Read an event, its deliveries, and why subscriptions took it or not",
        answers: &[(200, Answer::Json("WholeEvent", "As it is"))],
        ..PLAIN
    },
    Operation {
        path: "/events/{id}/payload",
        id: "getPayload",
        tag: EVENTS,
        summary: "Download the payload",
        answers: &[(200, Answer::Bytes("The bytes as they were published, as an attachment"))],
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/events/{id}/cancel",
        id: "cancelEvent",
        tag: EVENTS,
        summary: "Cancel what is unfinished of an event",
        body: NO_BODY,
        answers: &[(200, Answer::Json("Cancelled", "How many deliveries it was"))],
        errors: &[409],
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/events/{id}/replay",
        id: "replayEvent",
        tag: EVENTS,
        summary: "Deliver an event again",
        description: "Finished deliveries are reopened, succeeded ones included unless `status` narrows it; \
            subscriptions that match now and had none get one.",
        body: Body::Optional("ReplayEvent"),
        answers: &[(202, Answer::Json("Replayed", "What was reopened or added"))],
        errors: &[409],
        ..PLAIN
    },
    Operation {
        path: "/deliveries",
        id: "listDeliveries",
        tag: DELIVERIES,
        summary: "List deliveries",
        parameters: &[
            "tenants",
            "deliveryStatus",
            "subscriptionId",
            "eventId",
            "eventType",
            "since",
            "until",
            "limit",
            "cursor",
        ],
        answers: &[(200, Answer::Json("DeliveryList", "A page"))],
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/deliveries/retry",
        id: "retryDeliveries",
        tag: DELIVERIES,
        summary: "Reopen many deliveries",
        description: "The dead letters, unless `status` names others. `GET /replays/{id}` tells how far it is.",
        body: Body::Optional("RetryDeliveries"),
        answers: &[
            (200, Answer::Json("ReplayDryRun", "How many it would be")),
            (202, Answer::Json("ReplayStarted", "Workers reopen them at a bounded rate")),
        ],
        errors: &[404],
        ..PLAIN
    },
    Operation {
        path: "/deliveries/{id}",
        id: "getDelivery",
        tag: DELIVERIES,
        summary: "Read a delivery and its attempts",
        answers: &[(200, Answer::Json("WholeDelivery", "As it is"))],
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/deliveries/{id}/retry",
        id: "retryDelivery",
        tag: DELIVERIES,
        summary: "Make one attempt now, or reopen what is finished",
        parameters: &["tenant", "force"],
        body: NO_BODY,
        answers: &[(202, Answer::Json("Delivery", "As it is now"))],
        errors: &[409],
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/deliveries/{id}/cancel",
        id: "cancelDelivery",
        tag: DELIVERIES,
        summary: "Cancel a delivery",
        body: NO_BODY,
        answers: &[(200, Answer::Json("Delivery", "Cancelled"))],
        errors: &[409],
        ..PLAIN
    },
    Operation {
        path: "/attempts",
        id: "listAttempts",
        tag: DELIVERIES,
        summary: "List attempts",
        parameters: &[
            "tenants",
            "subscriptionId",
            "deliveryId",
            "eventId",
            "outcome",
            "since",
            "until",
            "limit",
            "cursor",
        ],
        answers: &[(200, Answer::Json("AttemptList", "A page; bodies and headers are left out"))],
        ..PLAIN
    },
    Operation {
        path: "/inbox",
        id: "listInbox",
        tag: OPERATION,
        summary: "List events of transactions that could not be published",
        parameters: &["tenants", "inboxStatus", "limit", "cursor"],
        answers: &[(200, Answer::Json("RejectedList", "A page"))],
        ..PLAIN
    },
    Operation {
        method: "DELETE",
        path: "/inbox/{id}",
        id: "deleteRejected",
        tag: OPERATION,
        summary: "Delete one of them",
        parameters: &["tenants"],
        answers: &[(204, Answer::Nothing("Gone"))],
        ..PLAIN
    },
    Operation {
        path: "/replays/{id}",
        id: "getReplay",
        tag: DELIVERIES,
        summary: "See how far a bulk retry is",
        answers: &[(200, Answer::Json("Replay", "As it is"))],
        ..PLAIN
    },
    Operation {
        path: "/stats",
        id: "getStats",
        tag: OPERATION,
        summary: "Read statistics",
        description: "What was counted in the window, which begins at a full minute, beyond 3 hours at a full hour, \
            and what has to be done now.",
        parameters: &["tenants", "window"],
        answers: &[(200, Answer::Json("Stats", "As they are"))],
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/purge",
        id: "purge",
        tag: OPERATION,
        summary: "Delete the tenant's finished events, now",
        description: "Those that finished longer than `older_than` ago, with their deliveries and attempts; `0s` is \
            all that is finished. Idempotency keys are kept their time. Answered when all is deleted, which takes \
            minutes for millions of events; a repeat goes on where one that was broken off stopped.",
        body: Body::Required("Purge"),
        answers: &[(200, Answer::Json("Purged", "How many events it was"))],
        ..PLAIN
    },
];

pub(super) fn tags() -> Value {
    json!([
        {"name": SUBSCRIPTIONS, "description": "Who gets what, where, and how"},
        {"name": EVENTS, "description": "What happened, published once"},
        {"name": DELIVERIES, "description": "One event for one subscription, its attempts, and what people ask of it"},
        {"name": OPERATION, "description": "Running the service"},
    ])
}

pub(super) fn parameters() -> Value {
    let query = |name: &str, schema: Value, what: &str| json!({"name": name, "in": "query", "description": what, "schema": schema});
    let header = |name: &str, schema: Value, what: &str| json!({"name": name, "in": "header", "description": what, "schema": schema});
    let listed = |name: &str, names: &[&str]| {
        json!({
            "name": name, "in": "query", "description": "One or several, separated by commas",
            "style": "form", "explode": false,
            "schema": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": names}},
        })
    };
    let id = || json!({"type": "string", "format": "uuid"});
    let time = || json!({"type": "string", "format": "date-time"});
    let event_type = || json!({"$ref": "#/components/schemas/EventType"});
    json!({
        "id": {"name": "id", "in": "path", "required": true, "schema": id()},
        "tenant": query(
            "tenant",
            json!({"$ref": "#/components/schemas/Tenant"}),
            "The tenant to act for; `default`, or that of the key, when left out",
        ),
        "tenants": query(
            "tenant",
            json!({"type": "string", "pattern": "^([A-Za-z0-9_.-]{1,64}|\\*)$"}),
            "The tenant to act for; `*` for all, with an admin's key",
        ),
        "limit": query(
            "limit",
            json!({"type": "integer", "minimum": 1, "maximum": 250, "default": 50}),
            "Rows of a page",
        ),
        "cursor": query("cursor", json!({"type": "string"}), "`next_cursor` of the page before"),
        "since": query("since", time(), "From this moment on"),
        "until": query("until", time(), "Before this moment"),
        "eventType": query("event_type", event_type(), "Of this type"),
        "subscriptionId": query("subscription_id", id(), "Of this subscription"),
        "deliveryId": query("delivery_id", id(), "Of this delivery"),
        "eventId": query("event_id", id(), "Of this event"),
        "subscriptionStatus": listed("status", &["active", "paused", "disabled"]),
        "deliveryStatus": listed("status", &["pending", "retrying", "succeeded", "exhausted", "cancelled"]),
        "outcome": listed("outcome", &["succeeded", "failed", "unknown"]),
        "inboxStatus": listed("status", &["rejected"]),
        "window": query(
            "window",
            json!({"$ref": "#/components/schemas/Window"}),
            "The time that ends now: `1m` to `30d`",
        ),
        "force": query(
            "force",
            json!({"type": "boolean", "default": false}),
            "One more attempt of a delivery that has succeeded; it changes no state",
        ),
        "ifMatch": header("If-Match", json!({"type": "string", "pattern": "^(\\*|\"[0-9]+\")$"}), "`\"VERSION\"`: 412 when another one is stored"),
        "idempotencyKey": header(
            "Idempotency-Key",
            json!({"$ref": "#/components/schemas/IdempotencyKey"}),
            "The same key and the same request within 24 hours give the first answer, with `duplicate`",
        ),
        "traceparent": header(
            "traceparent",
            json!({"type": "string"}),
            "W3C Trace Context: each attempt goes on with its trace id. Ignored when it is not valid",
        ),
        "ingestType": query("event_type", event_type(), "The event's type; `webhook.received` when left out"),
        "ingestTypeHeader": header("X-Event-Type", event_type(), "The same in a header"),
    })
}

pub(super) fn health() -> Value {
    json!({"get": {
        "operationId": "health",
        "tags": [OPERATION],
        "summary": "Whether the process runs",
        "security": [],
        "responses": {"200": {
            "description": "It does",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Health"}}},
        }},
    }})
}

pub(super) fn ready() -> Value {
    let answer = |what: &str| {
        json!({
            "description": what,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ready"}}},
        })
    };
    json!({"get": {
        "operationId": "ready",
        "tags": [OPERATION],
        "summary": "Whether requests can be served",
        "security": [],
        "responses": {
            "200": answer("They can; `degraded` while the queue is away"),
            "503": answer("The store is away, or the server is stopping"),
        },
    }})
}

pub(super) fn metrics() -> Value {
    json!({"get": {
        "operationId": "metrics",
        "tags": [OPERATION],
        "summary": "What the process measures, for Prometheus",
        "security": [],
        "responses": {"200": {
            "description": "Text exposition format 0.0.4",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }},
    }})
}
