//! Publishing events, one or many.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use webhook_core::Published;
use webhook_core::model::NewEvent;

use super::{idempotency_key, traced, traceparent};
use crate::access::Caller;
use crate::body::{self, RawObject, TWICE};
use crate::json::{EventDraft, PublishedJson, json};
use crate::params::Params;
use crate::problem::{Problem, ProblemBody, ProblemCode};
use crate::state::Shared;

/// The most events in a batch.
const MAX_BATCH: usize = 1000;

pub(super) async fn one(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.only(&[])?;
    body::expect_type(&headers, &[body::JSON])?;
    let key = idempotency_key(&headers)?;
    let body = body::read(&headers, body, app.event_limit()).await?;
    let draft = EventDraft::single(RawObject::parse(body::text(&body)?)?)?;
    let event = traced(event(&caller, &params, draft, key)?, traceparent(&headers));
    drop(body);
    let published = app.webhooks.publish(event).await?;
    Ok(json(StatusCode::ACCEPTED, &PublishedJson::of(&published)))
}

fn event(
    caller: &Caller,
    params: &Params,
    mut draft: EventDraft,
    key: Option<String>,
) -> Result<NewEvent, Problem> {
    let tenant = caller.tenant_with_body(params, draft.tenant.take())?;
    Ok(draft.into_event(tenant, key))
}

#[derive(Serialize)]
struct BatchBody<'a> {
    data: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Item<'a> {
    Published {
        status: u16,
        #[serde(flatten)]
        published: PublishedJson,
    },
    Refused {
        status: u16,
        problem: ProblemBody<'a>,
    },
}

pub(super) async fn batch(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.only(&[])?;
    caller.tenant(&params)?;
    body::expect_type(&headers, &[body::JSON])?;
    if idempotency_key(&headers)?.is_some() {
        return Err(Problem::field(
            "idempotency_key",
            "a batch takes no `Idempotency-Key`; give each event its own `idempotency_key`",
        ));
    }
    let body = body::read(&headers, body, app.batch_limit()).await?;
    let trace = traceparent(&headers);
    let read: Vec<_> = items(RawObject::parse(body::text(&body)?)?)?
        .into_iter()
        .map(|raw| event(&caller, &params, EventDraft::item(RawObject::parse(raw.get())?)?, None))
        .map(|read| read.map(|event| traced(event, trace)))
        .collect();
    drop(body);

    let results = publish(&app, read).await;
    let acknowledged = results.iter().any(Result::is_ok);
    let away = results.iter().find_map(|result| match result {
        Err(problem) if problem.code() == ProblemCode::Unavailable => Some(problem),
        _ => None,
    });
    match away {
        // Nothing was acknowledged and a part may be repeated: the caller's own retry takes the whole.
        Some(away) if !acknowledged => Err(away.clone()),
        _ => Ok(json(StatusCode::ACCEPTED, &BatchBody { data: results.iter().map(item).collect() })),
    }
}

/// Publishes those that could be read; answers in the order of the input.
async fn publish(app: &Shared, read: Vec<Result<NewEvent, Problem>>) -> Vec<Result<Published, Problem>> {
    let mut events = Vec::with_capacity(read.len());
    let mut results = Vec::with_capacity(read.len());
    for event in read {
        match event {
            Ok(event) => {
                events.push(event);
                results.push(None);
            }
            Err(problem) => results.push(Some(Err(problem))),
        }
    }
    let mut published = app.webhooks.publish_all(events).await.into_iter();
    results
        .into_iter()
        .map(|refused| match refused {
            Some(refused) => refused,
            None => published.next().map_or_else(|| Err(Problem::internal()), |answer| Ok(answer?)),
        })
        .collect()
}

fn item(result: &Result<Published, Problem>) -> Item<'_> {
    match result {
        Ok(published) => {
            Item::Published { status: StatusCode::ACCEPTED.as_u16(), published: PublishedJson::of(published) }
        }
        Err(problem) => Item::Refused { status: problem.code().status().as_u16(), problem: problem.body() },
    }
}

/// The events of a batch, each still as text: what is wrong with one is that one's problem.
fn items(body: RawObject<'_>) -> Result<Vec<&RawValue>, Problem> {
    let mut events = None;
    let mut unknown = Vec::new();
    for (name, raw) in body.0 {
        if name != "events" {
            unknown.push(name);
        } else if events.replace(raw).is_some() {
            return Err(Problem::field("events", TWICE));
        }
    }
    if !unknown.is_empty() {
        return Err(Problem::unknown_fields(unknown));
    }
    let events = events.ok_or_else(|| Problem::field("events", "the field is missing"))?;
    let read = serde_json::Deserializer::from_str(events.get()).deserialize_seq(Items);
    let items = read.map_err(|_| Problem::field("events", "expected an array"))?;
    match items.len() {
        1..=MAX_BATCH => Ok(items),
        _ => Err(Problem::field("events", format!("expected 1 to {MAX_BATCH} events"))),
    }
}

/// Stops keeping items behind the first that is too many: they are short and a body is long.
struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() <= MAX_BATCH
            && let Some(item) = seq.next_element()?
        {
            items.push(item);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(items)
    }
}
