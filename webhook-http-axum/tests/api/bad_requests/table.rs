//! Requests that are wrong, each with the status, the code and the field of its answer.
//!
//! Plain data: nothing here sends a request or knows a backend. `bad_requests.rs` asks the router over memory, and the
//! bundled server's tests (`examples/server/tests/api`) ask a real process over every other backend. It owes them
//! requests whose answers do not depend on what is stored. Sizes assume payloads of up to [`MAX_PAYLOAD`] bytes.

use serde_json::json;

/// The largest payload of the API under test, in bytes.
pub(crate) const MAX_PAYLOAD: usize = 4096;

/// An id that nothing has.
pub(crate) const ID: &str = "0190c8f2-7d1e-7c3a-9b0e-2f4f6a8b0c1d";

const JSON: &str = "application/json";

/// One request and its answer.
#[derive(Debug, Clone)]
pub(crate) struct Bad {
    pub(crate) method: &'static str,
    /// Below the path that the API is nested under.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    /// The wrong field or parameter, when it is one.
    pub(crate) field: Option<&'static str>,
}

impl Bad {
    /// What a failure is told by.
    pub(crate) fn name(&self) -> String {
        let Self { method, path, headers, body, .. } = self;
        let start = String::from_utf8_lossy(&body[..body.len().min(80)]);
        format!("{method} {path:.200} {headers:.200?} {start}")
    }

    /// The headers as requests are built of them.
    pub(crate) fn headers(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

fn bad(
    method: &'static str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
    (status, code): (u16, &'static str),
    field: Option<&'static str>,
) -> Bad {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Bad { method, path: path.to_owned(), headers, body: body.into(), status, code, field }
}

/// All of them.
pub(crate) fn table() -> Vec<Bad> {
    [subscriptions(), bodies(), events(), requests(), addresses(), absurd(), lists()].concat()
}

pub(crate) const INVALID: (u16, &str) = (422, "validation_failed");
pub(crate) const REFUSED: (u16, &str) = (422, "target_not_allowed");
const MALFORMED: (u16, &str) = (400, "malformed_json");
const PARAMETER: (u16, &str) = (400, "invalid_parameter");
const MISSING: (u16, &str) = (404, "not_found");
const METHOD: (u16, &str) = (405, "method_not_allowed");
const MEDIA: (u16, &str) = (415, "unsupported_media_type");

fn subscriptions() -> Vec<Bad> {
    let with = |fields: serde_json::Value, expected, field| {
        let mut body = json!({"target_url": "https://example.com/hook"});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        bad("POST", "/subscriptions", &[("content-type", JSON)], body.to_string(), expected, field)
    };
    let many: serde_json::Map<_, _> = (0..51).map(|n| (n.to_string(), json!(""))).collect();
    vec![
        with(json!({"target_url": null}), INVALID, Some("target_url")),
        with(json!({"target_url": 1}), INVALID, Some("target_url")),
        with(json!({"target_url": ""}), INVALID, Some("target_url")),
        with(json!({"target_url": "not a url"}), INVALID, Some("target_url")),
        with(json!({"target_url": "http://127.0.0.1/"}), REFUSED, Some("target_url")),
        with(json!({"target_url": "http://169.254.169.254/"}), REFUSED, Some("target_url")),
        with(json!({"target_url": "http://[::ffff:10.0.0.1]/"}), REFUSED, Some("target_url")),
        with(json!({"target_url": "http://localhost/"}), REFUSED, Some("target_url")),
        with(json!({"bogus": 1}), REFUSED, Some("bogus")),
        with(json!({"Description": "x"}), REFUSED, Some("Description")),
        with(json!({"description": 1}), INVALID, Some("description")),
        with(json!({"event_types": "a"}), INVALID, Some("event_types")),
        with(json!({"event_types": ["a", 1]}), INVALID, Some("event_types[1]")),
        with(json!({"event_types": ["a b"]}), INVALID, Some("event_types[0]")),
        with(json!({"event_types": ["*.a"]}), INVALID, Some("event_types[0]")),
        with(json!({"filter": 1}), INVALID, Some("filter")),
        with(json!({"filter": {"a": {"$like": 1}}}), INVALID, Some("filter.a.$like")),
        with(json!({"headers": []}), INVALID, Some("headers")),
        with(json!({"headers": {"X-A": 1}}), INVALID, Some("headers.X-A")),
        with(json!({"headers": {"Host": "x"}}), INVALID, Some("headers.Host")),
        with(json!({"headers": {"X-A": "a\r\nb: c"}}), INVALID, Some("headers.X-A")),
        with(json!({"headers": {"Authorization": "***"}}), INVALID, Some("headers.Authorization")),
        with(json!({"metadata": {"a": 1}}), INVALID, Some("metadata.a")),
        with(json!({"metadata": many}), INVALID, Some("metadata")),
        with(json!({"retry": []}), INVALID, Some("retry")),
        with(json!({"retry": {"foo": 1}}), REFUSED, Some("retry.foo")),
        with(json!({"retry": {"schedule": ["1s"], "foo": 1}}), REFUSED, Some("retry.foo")),
        with(
            json!({"retry": {"exponential": {"base": "1s", "attempts": 3, "foo": 1}}}),
            REFUSED,
            Some("retry.exponential.foo"),
        ),
        with(json!({"retry": {"schedule": ["10"]}}), INVALID, Some("retry.schedule[0]")),
        with(json!({"retry": {"exponential": {"base": "1s"}}}), INVALID, Some("retry.exponential.attempts")),
        with(json!({"timeout": 15}), INVALID, Some("timeout")),
        with(json!({"timeout": "15"}), INVALID, Some("timeout")),
        with(json!({"timeout": "0s"}), INVALID, Some("timeout")),
        with(json!({"max_in_flight": 0}), INVALID, Some("max_in_flight")),
        with(json!({"max_in_flight": 1.5}), INVALID, Some("max_in_flight")),
        with(json!({"max_in_flight": 99_999_999_999_u64}), INVALID, Some("max_in_flight")),
        with(json!({"rate_limit": {"requests": 1}}), INVALID, Some("rate_limit.per")),
        with(json!({"rate_limit": {"requests": 0, "per": "1s"}}), INVALID, Some("rate_limit.requests")),
        with(
            json!({"rate_limit": {"requests": 1, "per": "1s", "burst": 1}}),
            REFUSED,
            Some("rate_limit.burst"),
        ),
        with(json!({"ordered": "yes"}), INVALID, Some("ordered")),
        with(json!({"signature": "md5"}), INVALID, Some("signature")),
        with(json!({"verify": "github"}), INVALID, Some("verify")),
        with(json!({"verify": {}}), INVALID, Some("verify.scheme")),
        with(json!({"verify": {"scheme": "standard", "header": "X"}}), INVALID, Some("verify.header")),
        with(json!({"verify": {"scheme": "hex", "header": "a b"}}), INVALID, Some("verify.header")),
        with(json!({"verify": {"scheme": "hex", "more": 1}}), REFUSED, Some("verify.more")),
        with(json!({"secret": "short"}), INVALID, Some("secret")),
        with(json!({"secret": "whsec_notbase64!"}), INVALID, Some("secret")),
        with(json!({"tenant": "a b"}), INVALID, Some("tenant")),
        with(json!({"tenant": 1}), INVALID, Some("tenant")),
        with(json!({"id": ID}), INVALID, Some("id")),
        with(json!({"status": "paused"}), INVALID, Some("status")),
        with(json!({"version": 2}), INVALID, Some("version")),
    ]
}

fn bodies() -> Vec<Bad> {
    let json = [("content-type", JSON)];
    let twice = r#"{"target_url":"https://example.com/","headers":{"X-A":"1","X-A":"2"}}"#;
    let mut all = vec![
        bad("POST", "/subscriptions", &json, twice, INVALID, Some("headers.X-A")),
        bad("POST", "/subscriptions", &json, r#"{"filter":[{"a":1,"a":1}]}"#, INVALID, Some("filter[0].a")),
    ];
    for path in ["/subscriptions", "/events", "/events/batch"] {
        let deep = format!("{{\"event_types\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
        let post = |body: &[u8], expected| bad("POST", path, &json, body, expected, None);
        all.extend([
            post(b"", MALFORMED),
            post(b"{", MALFORMED),
            post(b"{}x", MALFORMED),
            post(b"{'a':1}", MALFORMED),
            post(b"[1,]", MALFORMED),
            post(b"{\"a\":\xff}", MALFORMED),
            post(b"{\"a\":\"\xff\"}", MALFORMED),
            post(b"[]", INVALID),
            post(b"null", INVALID),
            post(b"1", INVALID),
            post(deep.as_bytes(), if path == "/subscriptions" { MALFORMED } else { REFUSED }),
        ]);
        for content_type in
            [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("json")]
        {
            let headers: Vec<_> = content_type.map(|text| ("content-type", text)).into_iter().collect();
            all.push(bad("POST", path, &headers, "{}", MEDIA, None));
        }
        let latin = [("content-type", "application/json; charset=iso-8859-1")];
        all.push(bad("POST", path, &latin, "{}", MEDIA, None));
        let coded = [("content-type", JSON), ("content-encoding", "gzip")];
        all.push(bad("POST", path, &coded, "{}", MEDIA, None));
    }
    all
}

fn events() -> Vec<Bad> {
    let json = [("content-type", JSON)];
    let event = |body: &str, expected, field| bad("POST", "/events", &json, body, expected, field);
    let keyed = |key: &str| {
        let headers = [("content-type", JSON), ("idempotency-key", key)];
        let body = r#"{"event_type":"a","payload":1}"#;
        bad("POST", "/events", &headers, body, INVALID, None)
    };
    let batch = |body: &str, expected, field| bad("POST", "/events/batch", &json, body, expected, field);
    let long = "x".repeat(257);
    vec![
        event("{}", INVALID, Some("event_type")),
        event(r#"{"event_type":"a"}"#, INVALID, Some("payload")),
        event(r#"{"payload":1}"#, INVALID, Some("event_type")),
        event(r#"{"event_type":1,"payload":1}"#, INVALID, Some("event_type")),
        event(r#"{"event_type":null,"payload":1}"#, INVALID, Some("event_type")),
        event(r#"{"event_type":"","payload":1}"#, INVALID, Some("event_type")),
        event(r#"{"event_type":"a b","payload":1}"#, INVALID, Some("event_type")),
        event(&format!(r#"{{"event_type":"{long}","payload":1}}"#), INVALID, Some("event_type")),
        event(r#"{"event_type":"\ud800","payload":1}"#, INVALID, Some("event_type")),
        event(r#"{"event_type":"a","payload":1,"payload":2}"#, INVALID, Some("payload")),
        event(r#"{"event_type":"a","payload":1,"event_type":"a"}"#, INVALID, Some("event_type")),
        event(r#"{"event_type":"a","payload":1,"bogus":1}"#, REFUSED, Some("bogus")),
        event(r#"{"event_type":"a","payload":1,"idempotency_key":"k"}"#, REFUSED, Some("idempotency_key")),
        event(r#"{"event_type":"a","payload":1,"deliver_at":"soon"}"#, INVALID, Some("deliver_at")),
        event(r#"{"event_type":"a","payload":1,"deliver_at":1}"#, INVALID, Some("deliver_at")),
        event(
            r#"{"event_type":"a","payload":1,"deliver_at":"2026-01-01T00:00:00"}"#,
            INVALID,
            Some("deliver_at"),
        ),
        event(r#"{"event_type":"a","payload":1,"ordering_key":""}"#, INVALID, Some("ordering_key")),
        event(r#"{"event_type":"a","payload":1,"ordering_key":{}}"#, INVALID, Some("ordering_key")),
        event(r#"{"event_type":"a","payload":1,"tenant":"*"}"#, INVALID, Some("tenant")),
        keyed(""),
        keyed("a b"),
        keyed(&long),
        bad(
            "POST",
            "/events",
            &[("content-type", JSON), ("idempotency-key", "a"), ("idempotency-key", "b")],
            r#"{"event_type":"a","payload":1}"#,
            INVALID,
            Some("idempotency-key"),
        ),
        bad(
            "POST",
            "/events?tenant=a",
            &json,
            r#"{"event_type":"a","payload":1,"tenant":"b"}"#,
            INVALID,
            Some("tenant"),
        ),
        batch("{}", INVALID, Some("events")),
        batch(r#"{"events":[]}"#, INVALID, Some("events")),
        batch(r#"{"events":{}}"#, INVALID, Some("events")),
        batch(r#"{"events":null}"#, INVALID, Some("events")),
        batch(r#"{"events":[1],"events":[1]}"#, INVALID, Some("events")),
        batch(r#"{"events":[1],"tenant":"a"}"#, REFUSED, Some("tenant")),
    ]
}

fn requests() -> Vec<Bad> {
    let json = [("content-type", JSON)];
    let post = |path: &str, body: &str, expected, field| {
        bad("POST", &path.replace("ID", ID), &json, body, expected, field)
    };
    let retry = |body: &str, expected, field| post("/deliveries/retry", body, expected, field);
    let rotate = |body: &str, expected, field| post("/subscriptions/ID/rotate-secret", body, expected, field);
    let mut all = vec![
        retry(r#"{"status":"exhausted"}"#, INVALID, Some("status")),
        retry(r#"{"status":[]}"#, INVALID, Some("status")),
        retry(r#"{"status":["pending"]}"#, INVALID, Some("status[0]")),
        retry(r#"{"status":["exhausted","retrying"]}"#, INVALID, Some("status[1]")),
        retry(r#"{"status":[1]}"#, INVALID, Some("status[0]")),
        retry(r#"{"subscription_id":"x"}"#, INVALID, Some("subscription_id")),
        retry(&format!(r#"{{"subscription_id":"{ID}"}}"#), MISSING, None),
        retry(r#"{"event_type":"a b"}"#, INVALID, Some("event_type")),
        retry(r#"{"since":"yesterday"}"#, INVALID, Some("since")),
        retry(r#"{"until":1}"#, INVALID, Some("until")),
        retry(r#"{"dry_run":"yes"}"#, INVALID, Some("dry_run")),
        retry(r#"{"dry_run":true,"dry_run":false}"#, INVALID, Some("dry_run")),
        retry(r#"{"tenant":"a"}"#, REFUSED, Some("tenant")),
        retry(r#"{"event_id":null,"dryrun":true}"#, REFUSED, Some("dryrun")),
        post("/deliveries/retry?tenant=*", "{}", PARAMETER, Some("tenant")),
        post("/deliveries/retry?dry_run=true", "{}", PARAMETER, Some("dry_run")),
        post("/purge", "", INVALID, Some("older_than")),
        post("/purge", "{}", INVALID, Some("older_than")),
        post("/purge", r#"{"older_than":null}"#, INVALID, Some("older_than")),
        post("/purge", r#"{"older_than":72}"#, INVALID, Some("older_than")),
        post("/purge", r#"{"older_than":"72"}"#, INVALID, Some("older_than")),
        post("/purge", r#"{"older_than":"-1h"}"#, INVALID, Some("older_than")),
        post("/purge", r#"{"older_than":"99999999d"}"#, INVALID, Some("older_than")),
        post("/purge", r#"{"older_than":"1h","older_than":"0s"}"#, INVALID, Some("older_than")),
        post("/purge", r#"{"older_than":"72h","status":["exhausted"]}"#, REFUSED, Some("status")),
        post("/purge", r#"{"older_than":"72h","tenant":"acme"}"#, REFUSED, Some("tenant")),
        post("/purge", r#"["72h"]"#, INVALID, None),
        post("/purge?older_than=72h", r#"{"older_than":"72h"}"#, PARAMETER, Some("older_than")),
        post("/purge?tenant=*", r#"{"older_than":"72h"}"#, PARAMETER, Some("tenant")),
        bad("POST", "/purge", &[], r#"{"older_than":"72h"}"#, MEDIA, None),
        bad("GET", "/purge", &[], "", METHOD, None),
        rotate(r#"{"overlap":24}"#, INVALID, Some("overlap")),
        rotate(r#"{"overlap":"24"}"#, INVALID, Some("overlap")),
        rotate(r#"{"overlap":"31d"}"#, INVALID, Some("overlap")),
        rotate(r#"{"secret":1}"#, INVALID, Some("secret")),
        rotate(r#"{"secrets":"x"}"#, REFUSED, Some("secrets")),
        post("/events/ID/replay", r#"{"status":["pending"]}"#, INVALID, Some("status[0]")),
        post("/events/ID/replay", r#"{"dry_run":true}"#, REFUSED, Some("dry_run")),
        post("/subscriptions/ID/replay", "{}", MISSING, None),
        post("/deliveries/ID/retry", r#"{"force":true}"#, REFUSED, Some("force")),
        post("/deliveries/ID/retry?force=yes", "", PARAMETER, Some("force")),
        post("/deliveries/ID/retry?force=", "", PARAMETER, Some("force")),
        post("/deliveries/ID/cancel?force=true", "", PARAMETER, Some("force")),
        bad("GET", "/inbox?status=pending", &[], "", PARAMETER, Some("status")),
        bad("GET", "/inbox?since=2026-01-01T00:00:00Z", &[], "", PARAMETER, Some("since")),
        bad("GET", "/inbox?cursor=abc", &[], "", (400, "invalid_cursor"), None),
        bad("GET", "/deliveries/retry", &[], "", METHOD, None),
        bad("GET", &format!("/inbox/{ID}"), &[], "", METHOD, None),
        bad("POST", "/inbox", &json, "{}", METHOD, None),
        bad("DELETE", &format!("/inbox/{ID}"), &[], "", MISSING, None),
        bad("DELETE", "/inbox/x", &[], "", MISSING, None),
        bad("GET", &format!("/replays/{ID}"), &[], "", MISSING, None),
        bad("GET", "/replays/x", &[], "", MISSING, None),
        bad("GET", "/replays", &[], "", MISSING, None),
        bad("GET", &format!("/replays/{ID}?limit=1"), &[], "", PARAMETER, Some("limit")),
        bad("GET", &format!("/replays/{ID}?tenant=*"), &[], "", PARAMETER, Some("tenant")),
    ];
    for path in [
        "/subscriptions/ID/pause",
        "/subscriptions/ID/resume",
        "/subscriptions/ID/rotate-secret",
        "/subscriptions/ID/test",
        "/events/ID/cancel",
        "/events/ID/replay",
        "/deliveries/ID/retry",
        "/deliveries/ID/cancel",
    ] {
        let none = bad("POST", &path.replace("ID", ID), &[], "", MISSING, None);
        all.extend([none, post(&path.replace("ID", "x"), "", MISSING, None)]);
        all.extend([
            post(path, "{}", MISSING, None),
            post(path, "{", MALFORMED, None),
            post(path, "[]", INVALID, None),
            post(path, "null", INVALID, None),
            post(path, r#"{"bogus":1}"#, REFUSED, Some("bogus")),
            post(&format!("{path}?bogus=1"), "", PARAMETER, Some("bogus")),
            post(&format!("{path}?tenant=*"), "", PARAMETER, Some("tenant")),
            post(
                path,
                &format!("{{\"bogus\":\"{}\"}}", "x".repeat(20_000)),
                (413, "payload_too_large"),
                None,
            ),
            bad("POST", &path.replace("ID", ID), &[("content-type", "text/plain")], "{}", MEDIA, None),
            bad("POST", &path.replace("ID", ID), &[], "{}", MEDIA, None),
            bad("GET", &path.replace("ID", ID), &[], "", METHOD, None),
        ]);
    }
    all
}

fn addresses() -> Vec<Bad> {
    let get = |path: &str, expected, field| bad("GET", path, &[], "", expected, field);
    let on = |method: &'static str, path: &str, expected| {
        bad(method, path, &[("content-type", JSON)], "{}", expected, None)
    };
    vec![
        get("/", MISSING, None),
        get("/nothing", MISSING, None),
        get("/subscriptions//", MISSING, None),
        get("/subscriptions/x", MISSING, None),
        get("/subscriptions/%FF", MISSING, None),
        get(&format!("/subscriptions/{ID}"), MISSING, None),
        get(&format!("/subscriptions/{}", ID.replace('-', "")), MISSING, None),
        get(&format!("/subscriptions/{ID}/secret"), MISSING, None),
        get(&format!("/subscriptions/{ID}/attempts"), MISSING, None),
        get(&format!("/subscriptions/{ID}/deliveries"), MISSING, None),
        get(&format!("/subscriptions/{ID}/nothing"), MISSING, None),
        get(&format!("/events/{ID}"), MISSING, None),
        get(&format!("/events/{ID}/payload"), MISSING, None),
        get("/events/1", MISSING, None),
        get(&format!("/deliveries/{ID}"), MISSING, None),
        get("/deliveries/1", MISSING, None),
        on("PUT", &format!("/subscriptions/{ID}"), MISSING),
        on("PATCH", &format!("/subscriptions/{ID}"), MISSING),
        on("DELETE", &format!("/subscriptions/{ID}"), MISSING),
        on("POST", &format!("/ingest/{ID}"), MISSING),
        on("DELETE", "/subscriptions", METHOD),
        on("POST", &format!("/subscriptions/{ID}"), METHOD),
        on("GET", "/events/batch/x", MISSING),
        on("PUT", "/events/batch", METHOD),
        on("GET", &format!("/ingest/{ID}"), METHOD),
        on("POST", "/attempts", METHOD),
        on("OPTIONS", "/deliveries", METHOD),
        get("/stats?window=", PARAMETER, Some("window")),
        get("/stats?window=1", PARAMETER, Some("window")),
        get("/stats?window=1s", PARAMETER, Some("window")),
        get("/stats?window=31d", PARAMETER, Some("window")),
        get("/stats?window=1h&window=2h", PARAMETER, Some("window")),
        get("/stats?since=2026-01-01T00:00:00Z", PARAMETER, Some("since")),
        get(&format!("/subscriptions/{ID}/stats?window=soon"), PARAMETER, Some("window")),
        get("/events?limit=0", PARAMETER, Some("limit")),
        get("/events?limit=251", PARAMETER, Some("limit")),
        get("/events?limit=x", PARAMETER, Some("limit")),
        get("/events?bogus=1", PARAMETER, Some("bogus")),
        get("/events?status=pending", PARAMETER, Some("status")),
        get("/events?limit=1&limit=1", PARAMETER, Some("limit")),
        get("/events?since=yesterday", PARAMETER, Some("since")),
        get("/events?until=2026-01-01", PARAMETER, Some("until")),
        get("/events?event_type=a%20b", PARAMETER, Some("event_type")),
        get("/events?event_type=%FF", PARAMETER, Some("event_type")),
        get("/events?tenant=a/b", PARAMETER, Some("tenant")),
        get("/events?tenant=", PARAMETER, Some("tenant")),
        get("/events?cursor=", (400, "invalid_cursor"), None),
        get("/events?cursor=abc", (400, "invalid_cursor"), None),
        get(&format!("/events?cursor={ID}"), (400, "invalid_cursor"), None),
        get("/subscriptions?status=done", PARAMETER, Some("status")),
        get("/deliveries?status=", PARAMETER, Some("status")),
        get("/deliveries?subscription_id=x", PARAMETER, Some("subscription_id")),
        get("/deliveries?event_id=x", PARAMETER, Some("event_id")),
        get("/attempts?outcome=pending", PARAMETER, Some("outcome")),
        get("/attempts?delivery_id=x", PARAMETER, Some("delivery_id")),
        get(&format!("/events/{ID}?tenant=*"), PARAMETER, Some("tenant")),
        get(&format!("/events/{ID}?limit=1"), PARAMETER, Some("limit")),
        on("POST", "/events?bogus=1", PARAMETER),
        on("POST", "/subscriptions?tenant=*", PARAMETER),
        bad("DELETE", &format!("/subscriptions/{ID}"), &[("if-match", "3")], "", PARAMETER, Some("If-Match")),
    ]
}

/// What no JSON parser, database or log takes well: NUL, depth, size, headers that mean two things.
fn absurd() -> Vec<Bad> {
    let json = [("content-type", JSON)];
    let post = |path: &str, body: &[u8], expected, field| bad("POST", path, &json, body, expected, field);
    let target = r#""target_url":"https://example.com/""#;
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(200), close.repeat(200));
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(300 * 1024));
    let huge = format!("{{\"event_type\":\"a\",\"payload\":\"{}\"}}", "x".repeat(5000));
    let with = |headers: &[(&str, &str)], path: &str, body: &str, expected, field| {
        bad("POST", path, headers, body, expected, field)
    };
    let event = r#"{"event_type":"a","payload":1}"#;
    let too_large = (413, "payload_too_large");
    let mut all = vec![
        post("/subscriptions", b"{\"a\":\0}", MALFORMED, None),
        post("/subscriptions", b"\0", MALFORMED, None),
        post("/subscriptions", b"{\"a\":\"\0\"}", MALFORMED, None),
        post("/events", b"{\"event_type\":\"a\0\",\"payload\":1}", MALFORMED, None),
        post("/events", br#"{"event_type":"a\u0000","payload":1}"#, INVALID, Some("event_type")),
        post("/events", br#"{"event_type":"a","payload":1,"tenant":"\u0000"}"#, INVALID, Some("tenant")),
        post(
            "/events",
            br#"{"event_type":"a","payload":1,"ordering_key":"\u0000"}"#,
            INVALID,
            Some("ordering_key"),
        ),
        post(
            "/subscriptions",
            br#"{"target_url":"https://example.com/","headers":{"X-A":"\u0000"}}"#,
            INVALID,
            Some("headers.X-A"),
        ),
        post(
            "/subscriptions",
            br#"{"target_url":"https://example.com/","event_types":["\u0000"]}"#,
            INVALID,
            Some("event_types[0]"),
        ),
        post(
            "/subscriptions",
            br#"{"target_url":"https://exa\u0000mple.com/"}"#,
            INVALID,
            Some("target_url"),
        ),
        post("/subscriptions", b"\xef\xbb\xbf{}", MALFORMED, None),
        post("/subscriptions", b"{\x00\"\x00a\x00\"\x00", MALFORMED, None),
        post("/subscriptions", b"\xed\xa0\x80", MALFORMED, None),
        post("/subscriptions", br#"{"description":"\ud800"}"#, MALFORMED, None),
        post("/subscriptions", br#"{"max_in_flight":1e999}"#, MALFORMED, None),
        post("/subscriptions", b"{\"a\":NaN}", MALFORMED, None),
        post("/subscriptions", b"{\"a\":Infinity}", MALFORMED, None),
        post("/subscriptions", b"{\"a\":01}", MALFORMED, None),
        post("/subscriptions", b"{\"a\":1}/* comment */", MALFORMED, None),
        post(
            "/subscriptions",
            format!("{{{target},\"filter\":{}}}", deep(r#"{"$not":"#, "}")).as_bytes(),
            MALFORMED,
            None,
        ),
        post(
            "/subscriptions",
            format!("{{{target},\"filter\":{}{{\"a\":1}}{}}}", r#"{"$not":"#.repeat(9), "}".repeat(9))
                .as_bytes(),
            INVALID,
            None,
        ),
        post("/subscriptions", large.as_bytes(), too_large, None),
        post("/events", format!("{{\"a\":\"{}\"}}", "x".repeat(80_000)).as_bytes(), too_large, None),
        post("/events", huge.as_bytes(), too_large, None),
        post("/events/batch", format!("{{\"a\":\"{}\"}}", "x".repeat(40_000)).as_bytes(), too_large, None),
        with(&[("content-type", JSON), ("idempotency-key", "é")], "/events", event, INVALID, None),
        with(&[("content-type", JSON), ("idempotency-key", "a\tb")], "/events", event, INVALID, None),
        with(&[("content-type", JSON), ("content-encoding", "br")], "/events", event, MEDIA, None),
        with(&[("content-type", JSON), ("content-encoding", "x")], "/deliveries/retry", "{}", MEDIA, None),
        with(&[("content-type", "application/json; charset=utf-16")], "/events", event, MEDIA, None),
        with(&[("content-type", "application/json/x")], "/events", event, MEDIA, None),
        with(&[("content-type", "")], "/events", event, MEDIA, None),
        with(&[("content-type", &"x".repeat(8000))], "/events", event, MEDIA, None),
        with(&[("content-type", "multipart/form-data")], "/events/batch", event, MEDIA, None),
        with(&[("content-type", "application/merge-patch+json")], "/subscriptions", "{}", MEDIA, None),
        with(
            &[("content-type", JSON), ("idempotency-key", "a")],
            "/events/batch",
            r#"{"events":[]}"#,
            INVALID,
            Some("idempotency_key"),
        ),
    ];
    let path = format!("/subscriptions/{ID}");
    for tag in ["", "3", "\"3", "3\"", "\"1\" \"2\"", "*, 3", "W/3", "é"] {
        let headers = [("content-type", JSON), ("if-match", tag)];
        if tag != "*, 3" && tag != "\"1\" \"2\"" {
            all.push(bad("PUT", &path, &headers, "{}", PARAMETER, Some("If-Match")));
            all.push(bad("PATCH", &path, &headers, "{}", PARAMETER, Some("If-Match")));
        }
    }
    all
}

/// Cursors that no list gave, and parameters that no list has, on every list.
fn lists() -> Vec<Bad> {
    let get = |path: String, expected, field| bad("GET", &path, &[], "", expected, field);
    // A version, an id and a seal, as long as a real one and made up.
    let forged = "AQGQyPJ9Hnw6mw4vT2qLDB3AAAAAAAAAAA";
    let long = "A".repeat(5000);
    let mut all = Vec::new();
    for list in ["/subscriptions", "/events", "/deliveries", "/attempts", "/inbox"] {
        for cursor in ["", "x", "%00", "%FF", "null", "AAAA", ID, forged, &long, "..%2F..%2Fetc%2Fpasswd"] {
            all.push(get(format!("{list}?cursor={cursor}"), (400, "invalid_cursor"), None));
        }
        for limit in ["", "0", "-1", "251", "1.0", "1e2", "99999999999999999999", "%00", "x"] {
            all.push(get(format!("{list}?limit={limit}"), PARAMETER, Some("limit")));
        }
        for tenant in ["", "%00", "a%20b", "a/b", "%2A%2A", &long] {
            all.push(get(format!("{list}?tenant={tenant}"), PARAMETER, Some("tenant")));
        }
        all.push(get(format!("{list}?offset=1"), PARAMETER, Some("offset")));
        all.push(get(format!("{list}?Limit=1"), PARAMETER, Some("Limit")));
        all.push(get(format!("{list}?tenant=a&tenant=a"), PARAMETER, Some("tenant")));
        all.push(bad("PATCH", list, &[("content-type", JSON)], "{}", METHOD, None));
        all.push(bad("BREW", list, &[], "", METHOD, None));
    }
    for list in ["/events", "/deliveries", "/attempts"] {
        for (name, value) in [
            ("since", ""),
            ("since", "0"),
            ("since", "2026-01-01"),
            ("until", "2026-13-01T00:00:00Z"),
            ("until", "2026-01-01T00:00:00"),
            ("until", "%00"),
        ] {
            all.push(get(format!("{list}?{name}={value}"), PARAMETER, Some(name)));
        }
    }
    all
}
