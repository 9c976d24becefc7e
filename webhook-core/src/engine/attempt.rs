//! One attempt: build and sign the request, make the exchange, and say how it ended.
//!
//! Whatever panics on the way is this attempt's failure and nobody else's (promise 14).

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::handle::Inner;
use super::recorder::Finished;
use super::spans;
use super::worker::{Phase, Ready, Worker};
use crate::deliver::{Exchange, Request};
use crate::id::AttemptId;
use crate::lane::Effect;
use crate::lifecycle::{Ending, RETRY_AFTER_CAP};
use crate::model::{Attempt, AttemptError, ErrorKind, Outcome, TraceParent, Trigger};
use crate::queue::Lease;
use crate::signature::{SignatureScheme, WEBHOOK_ID, WEBHOOK_TIMESTAMP};
use crate::time::Timestamp;

/// A deliverer that does not keep its deadline is cut off so much after it.
const OVERTIME: Duration = Duration::from_secs(1);

/// W3C Trace Context, section 3.2. `tracestate` is not kept: it may be left out, never sent without this.
const TRACEPARENT: &str = "traceparent";

/// Makes the attempt and hands its result to the recorder, which frees its slot.
pub(super) async fn run(inner: Arc<Inner>, worker: Arc<Worker>, lease: Lease, ready: Ready) {
    let started_at = inner.clock.now();
    // This attempt is a step of its own in the event's trace.
    let step = ready.event.traceparent.map(|given| given.child());
    let span = spans::attempt(&lease, &ready, step);
    let exchange = exchange(&inner, &worker, &ready, started_at, step).instrument(span.clone()).await;
    spans::answered(&span, &exchange);
    drop(span);
    let finished = finished(&lease, ready, started_at, exchange, inner.clock.now());
    // The recorder ends after everything else; should it be gone, the lease runs out and tells.
    let Attempt { outcome, error, duration, .. } = &finished.attempt;
    inner.meters.attempt(*outcome, error.as_ref().map(|error| error.kind), *duration);
    let _ = worker.results.send(finished);
}

async fn exchange(
    inner: &Inner,
    worker: &Worker,
    ready: &Ready,
    started_at: Timestamp,
    step: Option<TraceParent>,
) -> Exchange {
    let started = Instant::now();
    let failed = |kind, detail: &str| Exchange {
        duration: started.elapsed(),
        result: Err(AttemptError::new(kind, detail)),
    };
    let request = match request(ready, step, started_at, &inner.settings.user_agent) {
        Ok(request) => request,
        Err(error) => return Exchange { duration: Duration::ZERO, result: Err(error) },
    };
    let deadline = request.deadline + OVERTIME;
    let delivery = AssertUnwindSafe(async { inner.deliverer.deliver(request).await }).catch_unwind();
    tokio::select! {
        biased;
        done = tokio::time::timeout(deadline, delivery) => match done {
            Ok(Ok(exchange)) => exchange,
            Ok(Err(_panic)) => failed(ErrorKind::Internal, "the deliverer panicked"),
            Err(_late) => failed(ErrorKind::Timeout, "the deliverer did not keep the deadline"),
        },
        () = worker.reached(Phase::Aborting) => failed(ErrorKind::Interrupted, "our process stopped before the answer came"),
    }
}

/// What a receiver gets.
fn request(
    ready: &Ready,
    step: Option<TraceParent>,
    now: Timestamp,
    user_agent: &str,
) -> Result<Request, AttemptError> {
    let Ready { state, event, endpoint } = ready;
    let subscription = &endpoint.subscription;
    let is_own = |header: &str| subscription.headers.keys().any(|name| name.eq_ignore_ascii_case(header));
    let id = event.id.to_string();
    let seconds = now.as_seconds();
    let mut headers: Vec<(Cow<'static, str>, String)> = Vec::with_capacity(9 + subscription.headers.len());
    headers.push((Cow::Borrowed("content-type"), event.content_type.as_ref().to_owned()));
    if !is_own("user-agent") {
        headers.push((Cow::Borrowed("user-agent"), user_agent.to_owned()));
    }
    let signature = endpoint.signer(now).sign(&id, seconds, &event.payload);
    headers.push((Cow::Borrowed(WEBHOOK_ID), id));
    headers.push((Cow::Borrowed(WEBHOOK_TIMESTAMP), seconds.to_string()));
    match signature {
        Some(signature) => headers.push((Cow::Borrowed(signature.name), signature.value)),
        None if subscription.signature == SignatureScheme::None => {}
        None => {
            return Err(AttemptError::new(
                ErrorKind::Internal,
                "the subscription has no secret to sign with",
            ));
        }
    }
    headers.push((Cow::Borrowed("webhook-event-type"), event.event_type.to_string()));
    headers.push((Cow::Borrowed("webhook-attempt"), (state.attempts + 1).to_string()));
    if let Some(step) = step.filter(|_| !is_own(TRACEPARENT)) {
        headers.push((Cow::Borrowed(TRACEPARENT), step.to_string()));
    }
    for (name, value) in &subscription.headers {
        headers.push((Cow::Owned(name.to_ascii_lowercase()), value.clone()));
    }
    Ok(Request {
        url: subscription.target_url.clone(),
        headers,
        body: event.payload.clone(),
        deadline: endpoint.timeout,
    })
}

fn finished(
    lease: &Lease,
    ready: Ready,
    started_at: Timestamp,
    exchange: Exchange,
    now: Timestamp,
) -> Finished {
    let Ready { state, event, endpoint } = ready;
    let interrupted = matches!(&exchange.result, Err(error) if error.kind == ErrorKind::Interrupted);
    let mut asked = None;
    let (outcome, status_code, error, answer) = match exchange.result {
        Ok(answer) => {
            if matches!(answer.status, 429 | 503) {
                let longest = endpoint.policy.longest().max(RETRY_AFTER_CAP);
                asked = retry_after(&answer.headers, now).map(|wait| wait.min(longest));
            }
            let succeeded = (200..300).contains(&answer.status);
            let error = (!succeeded).then(|| {
                AttemptError::new(ErrorKind::Status, format!("the target answered {}", answer.status))
            });
            let outcome = if succeeded { Outcome::Succeeded } else { Outcome::Failed };
            (outcome, Some(answer.status), error, Some(answer))
        }
        Err(error) => (Outcome::Failed, None, Some(error), None),
    };
    let effect = match (interrupted, &answer) {
        (true, _) => Effect::Neutral,
        (false, answer) => Effect::of(answer.is_some(), exchange.duration, asked),
    };
    let expected = (state.chain == 0).then(|| lease.id.made_at()).flatten();
    let expected = expected.map(|made| event.deliver_at.map_or(made, |at| at.max(made)));
    let request = state.request;
    let trigger = if request.is_some() { Trigger::Manual } else { Trigger::Schedule };
    let (response_headers, response_body) =
        answer.map(|answer| (answer.headers, answer.body)).unwrap_or_default();
    let attempt = Attempt {
        id: AttemptId::new(),
        tenant: event.tenant.clone(),
        delivery_id: lease.id,
        event_id: event.id,
        subscription_id: lease.lane,
        number: state.attempts + 1,
        token: lease.token,
        trigger,
        started_at,
        duration: exchange.duration,
        outcome,
        status_code,
        error: error.clone(),
        response_headers,
        response_body,
        target_url: endpoint.subscription.target_url.to_string(),
    };
    let ending = Ending { outcome, trigger, status_code, error, retry_after: asked, request, moved: false };
    Finished { attempt, ending, effect, state, endpoint, expected }
}

/// RFC 9110, section 10.2.3: seconds or a date.
fn retry_after(headers: &[(String, String)], now: Timestamp) -> Option<Duration> {
    let (_, value) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))?;
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds ask for longer than is ever granted.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::EPOCH.after(since_epoch).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_a_date() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().expect("valid");
        let read = |value: &str| retry_after(&[("Retry-After".to_owned(), value.to_owned())], now);
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read(" 0 "), Some(Duration::ZERO));
        assert_eq!(read("Sat, 21 Nov 2026 10:02:00 GMT"), Some(Duration::from_secs(120)));
        assert_eq!(read("Sat, 21 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("99999999999999999999999"), Some(Duration::from_secs(u64::from(u32::MAX))));
        for bad in ["", "soon", "-5", "1.5"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
