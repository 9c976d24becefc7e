//! The columns of results, as the arrays that `RECORD` takes.

use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use uuid::Uuid;
use webhook_core::lifecycle::Next;
use webhook_core::model::{Attempt, Request, StatusReason};
use webhook_core::store::Record;

use crate::codec::{self, Moment, micros, signed, signed_small};

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// What deliveries become.
#[derive(Default)]
pub(super) struct Changes<'a> {
    id: Vec<Uuid>,
    revision: Vec<i64>,
    new_revision: Vec<i64>,
    status: Vec<&'a str>,
    reason: Vec<Option<&'a str>>,
    attempts: Vec<i32>,
    failed: Vec<i32>,
    unknowns: Vec<i32>,
    chain: Vec<i32>,
    request: Vec<Option<&'a str>>,
    last_status_code: Vec<Option<i32>>,
    error_kind: Vec<Option<&'a str>>,
    error_detail: Vec<Option<&'a str>>,
    next: Vec<i32>,
    wait: Vec<i64>,
    finished: Vec<bool>,
    give_up_after: Vec<Option<i64>>,
}

impl<'q, 'a: 'q> Changes<'a> {
    pub(super) fn of(records: &[&'a Record]) -> Self {
        let mut c = Self::default();
        for record in records {
            let state = &record.state;
            let error = state.last_error.as_ref();
            c.id.push(record.id.as_uuid());
            c.revision.push(signed(record.revision));
            c.new_revision.push(signed(state.revision.max(record.revision + 1)));
            c.status.push(state.status.as_str());
            c.reason.push(state.reason.map(StatusReason::as_str));
            c.attempts.push(signed_small(state.attempts));
            c.failed.push(signed_small(state.failed));
            c.unknowns.push(signed_small(state.unknowns));
            c.chain.push(signed_small(state.chain));
            c.request.push(state.request.map(Request::as_str));
            c.last_status_code.push(state.last_status_code.map(i32::from));
            c.error_kind.push(error.map(|error| error.kind.as_str()));
            c.error_detail.push(error.map(|error| error.detail.as_str()));
            let (next, wait) = match record.next {
                Next::Never => (0, 0),
                Next::AsBefore => (1, 0),
                Next::After(wait) => (2, micros(wait)),
            };
            c.next.push(next);
            c.wait.push(wait);
            c.finished.push(state.status.is_finished());
            c.give_up_after.push(record.new_chain.map(micros));
        }
        c
    }

    pub(super) fn bind(self, statement: Statement<'q>) -> Statement<'q> {
        statement
            .bind(self.id)
            .bind(self.revision)
            .bind(self.new_revision)
            .bind(self.status)
            .bind(self.reason)
            .bind(self.attempts)
            .bind(self.failed)
            .bind(self.unknowns)
            .bind(self.chain)
            .bind(self.request)
            .bind(self.last_status_code)
            .bind(self.error_kind)
            .bind(self.error_detail)
            .bind(self.next)
            .bind(self.wait)
            .bind(self.finished)
            .bind(self.give_up_after)
    }
}

/// Rows of the log.
#[derive(Default)]
pub(super) struct Attempts<'a> {
    id: Vec<Uuid>,
    delivery: Vec<Uuid>,
    number: Vec<i32>,
    subscription: Vec<Uuid>,
    token: Vec<Uuid>,
    trigger: Vec<&'a str>,
    started_at: Vec<Moment>,
    duration: Vec<i64>,
    outcome: Vec<&'a str>,
    status_code: Vec<Option<i32>>,
    error_kind: Vec<Option<&'a str>>,
    error_detail: Vec<Option<&'a str>>,
    target_url: Vec<&'a str>,
    response_headers: Vec<String>,
    response_body: Vec<&'a [u8]>,
}

impl<'q, 'a: 'q> Attempts<'a> {
    pub(super) fn of(attempts: &[&'a Attempt]) -> Self {
        let mut c = Self::default();
        for attempt in attempts {
            let error = attempt.error.as_ref();
            c.id.push(attempt.id.as_uuid());
            c.delivery.push(attempt.delivery_id.as_uuid());
            c.number.push(signed_small(attempt.number));
            c.subscription.push(attempt.subscription_id.as_uuid());
            c.token.push(attempt.token.as_uuid());
            c.trigger.push(attempt.trigger.as_str());
            c.started_at.push(attempt.started_at.into());
            c.duration.push(micros(attempt.duration));
            c.outcome.push(attempt.outcome.as_str());
            c.status_code.push(attempt.status_code.map(i32::from));
            c.error_kind.push(error.map(|error| error.kind.as_str()));
            c.error_detail.push(error.map(|error| error.detail.as_str()));
            c.target_url.push(&attempt.target_url);
            c.response_headers.push(codec::headers(&attempt.response_headers));
            c.response_body.push(&attempt.response_body);
        }
        c
    }

    pub(super) fn bind(self, statement: Statement<'q>) -> Statement<'q> {
        statement
            .bind(self.id)
            .bind(self.delivery)
            .bind(self.number)
            .bind(self.subscription)
            .bind(self.token)
            .bind(self.trigger)
            .bind(self.started_at)
            .bind(self.duration)
            .bind(self.outcome)
            .bind(self.status_code)
            .bind(self.error_kind)
            .bind(self.error_detail)
            .bind(self.target_url)
            .bind(self.response_headers)
            .bind(self.response_body)
    }
}
