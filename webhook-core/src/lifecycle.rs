//! The life of a delivery, as one pure function.
//!
//! ```text
//!              ┌──────────── failed, waits left ───────────┐
//!              ▼                                           │
//! publish ─▶ pending ──▶ retrying ──▶ (an attempt ends) ───┤
//!                                                          ├─ 2xx ─────────────────────────▶ succeeded
//!                                                          ├─ no waits left, 410, poison ──▶ exhausted
//!              cancel, deletion, expiry at any time ───────┴───────────────▶ cancelled, exhausted
//!              reopen: exhausted, cancelled, succeeded ──▶ pending, with a fresh schedule
//! ```
//!
//! [`step`] says what a delivery becomes when something happens to it. It reads no clock, draws no number
//! and does no I/O: the retry policy and one random sample are arguments, waits are durations. Stores apply
//! what it says, fenced by the revision that it was given; the engine never changes a state by any other way.
//!
//! What it owes: attempts stay gap-free (promise 7); nothing but a person's request starts anything after
//! the end (promise 5); a wait is never shorter than the policy's (promise 6); a result that comes late, when
//! somebody else has gone on, adds its row and moves nothing, unless it is the success that an unfinished
//! delivery was waiting for.

use std::time::Duration;

use crate::model::{
    AttemptError, DeliveryState, DeliveryStatus, ErrorKind, Outcome, Request, StatusReason, Trigger,
};
use crate::retry::RetryPolicy;

/// The longest wait between unknown attempts.
const UNKNOWN_WAIT_MAX: Duration = Duration::from_secs(60);
/// So many unknown attempts in a row end the delivery as poison.
pub const POISON_AFTER: u32 = 8;
/// `Retry-After` is believed up to the policy's longest wait or this, whichever is longer.
pub const RETRY_AFTER_CAP: Duration = Duration::from_secs(3600);

/// How an attempt ended, as far as the lifecycle cares.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// Succeeded, failed or unknown.
    pub outcome: Outcome,
    /// What made the attempt happen.
    pub trigger: Trigger,
    /// The answer's status code.
    pub status_code: Option<u16>,
    /// What went wrong.
    pub error: Option<AttemptError>,
    /// The wait that a 429 or 503 asked for.
    pub retry_after: Option<Duration>,
    /// The request that the delivery carried when it was loaded for this attempt.
    pub request: Option<Request>,
    /// The subscription has another target by now: a 410 is then a failure like any other.
    pub moved: bool,
}

/// What happens to a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Input<'a> {
    /// An attempt ended.
    Ended {
        /// How.
        ending: &'a Ending,
        /// The chain that it was made in. A result of an earlier chain is late.
        chain: u32,
        /// Its worker no longer holds the lease: somebody else has gone on, or may have.
        late: bool,
        /// The number of the `unknown` row that was written for this very attempt meanwhile.
        replaces: Option<u32>,
    },
    /// A person asks for one attempt now. On an exhausted or cancelled delivery this reopens it.
    Retry {
        /// On a succeeded delivery: make one more attempt that changes no state.
        force: bool,
    },
    /// A person asks for a new chain, whatever the delivery's end was.
    Reopen,
    /// A person cancels it, or its subscription was deleted.
    Cancel(StatusReason),
    /// It was unfinished for too long.
    Expire,
}

/// When the delivery is due next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Never: its job is to be removed.
    Never,
    /// After this wait, counted by the store's clock from the commit.
    After(Duration),
    /// When it was due before this happened.
    AsBefore,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its state, with the revision raised by one.
    pub state: DeliveryState,
    /// When it is due.
    pub next: Next,
    /// The number of the attempt's row, when an attempt ended.
    pub number: Option<u32>,
    /// The subscription's present target said that it is gone: the subscription is to be disabled, unless its
    /// target is changed in the meantime.
    pub gone: bool,
}

/// Why a request cannot be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has finished.
    #[error("the delivery has finished")]
    Finished,
    /// It has not finished.
    #[error("the delivery has not finished")]
    Unfinished,
}

/// What `state` becomes by `input`.
///
/// `sample` is a random number in `[0, 1)` for the policy's jitter.
///
/// # Errors
/// [`Refused`] when a person asks for what the state does not allow. An ended attempt is never refused.
pub fn step(
    state: &DeliveryState,
    input: &Input<'_>,
    policy: &dyn RetryPolicy,
    sample: f64,
) -> Result<Step, Refused> {
    let mut next_state = state.clone();
    next_state.revision += 1;
    let step = |state, next| Step { state, next, number: None, gone: false };
    match input {
        Input::Ended { ending, chain, late, replaces } => {
            let late = *late || *chain != state.chain || replaces.is_some();
            Ok(ended(next_state, ending, late, *replaces, policy, sample))
        }
        Input::Retry { force } => match state.status {
            DeliveryStatus::Pending | DeliveryStatus::Retrying => {
                next_state.request = Some(Request::Retry);
                Ok(step(next_state, Next::AsBefore))
            }
            DeliveryStatus::Exhausted | DeliveryStatus::Cancelled => {
                Ok(step(reopened(next_state), Next::After(Duration::ZERO)))
            }
            DeliveryStatus::Succeeded if *force => {
                next_state.request = Some(Request::Retry);
                Ok(step(next_state, Next::After(Duration::ZERO)))
            }
            DeliveryStatus::Succeeded => Err(Refused::Finished),
        },
        Input::Reopen if state.status.is_finished() => {
            Ok(step(reopened(next_state), Next::After(Duration::ZERO)))
        }
        Input::Reopen => Err(Refused::Unfinished),
        Input::Cancel(reason) => end(next_state, DeliveryStatus::Cancelled, *reason),
        Input::Expire => end(next_state, DeliveryStatus::Exhausted, StatusReason::Expired),
    }
}

fn end(mut state: DeliveryState, status: DeliveryStatus, reason: StatusReason) -> Result<Step, Refused> {
    if state.status.is_finished() {
        return Err(Refused::Finished);
    }
    state.status = status;
    state.reason = Some(reason);
    state.request = None;
    Ok(Step { state, next: Next::Never, number: None, gone: false })
}

fn reopened(mut state: DeliveryState) -> DeliveryState {
    state.status = DeliveryStatus::Pending;
    state.reason = None;
    state.failed = 0;
    state.unknowns = 0;
    state.chain += 1;
    state.request = Some(Request::Reopen);
    state
}

fn ended(
    mut state: DeliveryState,
    ending: &Ending,
    late: bool,
    replaces: Option<u32>,
    policy: &dyn RetryPolicy,
    sample: f64,
) -> Step {
    let number = replaces.unwrap_or(state.attempts + 1);
    state.attempts = state.attempts.max(number);
    // A request that came after the load asks for an attempt of its own and survives this one's result.
    if !late && ending.request == state.request {
        state.request = None;
    }
    // Only the newest row speaks for the delivery.
    if number == state.attempts {
        state.last_status_code = ending.status_code;
        state.last_error.clone_from(&ending.error);
    }
    let step = |state, next| Step { state, next, number: Some(number), gone: false };

    if state.status.is_finished() {
        // Its job, if any, was an attempt asked for by force: with that made there is nothing left to do.
        let next = if state.request.is_none() { Next::Never } else { Next::AsBefore };
        return step(state, next);
    }
    if ending.outcome == Outcome::Succeeded {
        state.status = DeliveryStatus::Succeeded;
        state.reason = None;
        state.request = None;
        state.unknowns = 0;
        return step(state, Next::Never);
    }
    if late {
        return step(state, Next::AsBefore);
    }
    if ending.outcome == Outcome::Unknown {
        return unknown(state, number);
    }
    state.unknowns = 0;
    state.status = DeliveryStatus::Retrying;
    if ending.status_code == Some(410) && !ending.moved {
        let mut step = step(exhausted(state, StatusReason::Gone), Next::Never);
        step.gone = true;
        return step;
    }
    if ending.error.as_ref().is_some_and(|error| error.kind == ErrorKind::Interrupted) {
        return step(state, Next::After(Duration::ZERO));
    }
    if ending.trigger == Trigger::Manual && ending.request == Some(Request::Retry) {
        return step(state, Next::AsBefore);
    }
    state.failed += 1;
    match policy.wait(state.failed, sample) {
        Some(wait) => {
            let asked = ending.retry_after.unwrap_or_default().min(policy.longest().max(RETRY_AFTER_CAP));
            step(state, Next::After(wait.max(asked)))
        }
        None => step(exhausted(state, StatusReason::AttemptsExhausted), Next::Never),
    }
}

fn unknown(mut state: DeliveryState, number: u32) -> Step {
    state.status = DeliveryStatus::Retrying;
    state.unknowns += 1;
    let step = |state, next| Step { state, next, number: Some(number), gone: false };
    if state.unknowns >= POISON_AFTER {
        return step(exhausted(state, StatusReason::Poison), Next::Never);
    }
    let wait = match state.unknowns {
        1 => Duration::ZERO,
        n => UNKNOWN_WAIT_MAX.min(Duration::from_secs(1 << (n - 1))),
    };
    step(state, Next::After(wait))
}

fn exhausted(mut state: DeliveryState, reason: StatusReason) -> DeliveryState {
    state.status = DeliveryStatus::Exhausted;
    state.reason = Some(reason);
    state.request = None;
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Schedule;
    use proptest::prelude::*;

    fn policy() -> Schedule {
        Schedule::new(vec![Duration::from_secs(10), Duration::from_secs(60)], 0.0).unwrap()
    }

    fn failure(status: u16) -> Ending {
        Ending {
            outcome: Outcome::Failed,
            trigger: Trigger::Schedule,
            status_code: Some(status),
            error: Some(AttemptError::new(ErrorKind::Status, status.to_string())),
            retry_after: None,
            request: None,
            moved: false,
        }
    }

    fn success() -> Ending {
        Ending { outcome: Outcome::Succeeded, status_code: Some(204), error: None, ..failure(204) }
    }

    fn lost() -> Ending {
        Ending { outcome: Outcome::Unknown, status_code: None, error: None, ..failure(0) }
    }

    fn fresh(state: &DeliveryState, ending: &Ending) -> Step {
        let input = Input::Ended { ending, chain: state.chain, late: false, replaces: None };
        step(state, &input, &policy(), 0.5).unwrap()
    }

    fn ask(state: &DeliveryState, input: &Input<'_>) -> Result<Step, Refused> {
        step(state, input, &policy(), 0.5)
    }

    #[test]
    fn failures_walk_the_schedule_and_then_exhaust() {
        let one = fresh(&DeliveryState::new(), &failure(500));
        assert_eq!((one.next, one.number), (Next::After(Duration::from_secs(10)), Some(1)));
        let two = fresh(&one.state, &failure(500));
        assert_eq!((two.next, two.number), (Next::After(Duration::from_secs(60)), Some(2)));
        let three = fresh(&two.state, &failure(500));
        assert_eq!(three.next, Next::Never);
        assert_eq!(three.state.status, DeliveryStatus::Exhausted);
        assert_eq!(three.state.reason, Some(StatusReason::AttemptsExhausted));
        assert_eq!(three.state.revision, 3);
    }

    #[test]
    fn a_success_ends_it_and_clears_the_last_error() {
        let failed = fresh(&DeliveryState::new(), &failure(500)).state;
        let done = fresh(&failed, &success());
        assert_eq!((done.state.status, done.next), (DeliveryStatus::Succeeded, Next::Never));
        assert_eq!((done.state.last_error, done.state.last_status_code), (None, Some(204)));
    }

    /// Promise 6.
    #[test]
    fn retry_after_only_lengthens_and_is_capped() {
        let after = |seconds| Ending { retry_after: Some(Duration::from_secs(seconds)), ..failure(503) };
        let wait = |ending: &Ending| fresh(&DeliveryState::new(), ending).next;
        assert_eq!(wait(&after(3)), Next::After(Duration::from_secs(10)));
        assert_eq!(wait(&after(30)), Next::After(Duration::from_secs(30)));
        assert_eq!(wait(&after(86_400)), Next::After(RETRY_AFTER_CAP));
    }

    #[test]
    fn gone_exhausts_at_once_and_disables_the_subscription() {
        let step = fresh(&DeliveryState::new(), &failure(410));
        assert_eq!((step.state.reason, step.gone), (Some(StatusReason::Gone), true));
        assert_eq!(step.next, Next::Never);
    }

    #[test]
    fn gone_from_a_target_that_was_changed_meanwhile_is_a_failure_like_any_other() {
        let moved = fresh(&DeliveryState::new(), &Ending { moved: true, ..failure(410) });
        let failed = fresh(&DeliveryState::new(), &failure(500));
        assert_eq!((moved.state.status, moved.state.reason), (DeliveryStatus::Retrying, None));
        assert_eq!((moved.next, moved.gone, moved.state.failed), (failed.next, false, 1));
    }

    /// Promise 7: the first unknown is retried at once, the n-th waits min(2^(n-1), 60) s, the eighth ends it.
    #[test]
    fn unknown_attempts_back_off_without_moving_the_schedule_and_the_eighth_is_poison() {
        let mut state = DeliveryState::new();
        let mut waits = Vec::new();
        for _ in 0..7 {
            let step = fresh(&state, &lost());
            let Next::After(wait) = step.next else { panic!("ended early") };
            waits.push(wait.as_secs());
            state = step.state;
        }
        assert_eq!(waits, [0, 2, 4, 8, 16, 32, 60]);
        assert_eq!(state.failed, 0);
        let last = fresh(&state, &lost());
        assert_eq!((last.state.reason, last.next), (Some(StatusReason::Poison), Next::Never));
    }

    #[test]
    fn a_known_failure_ends_a_row_of_unknowns() {
        let state = fresh(&DeliveryState::new(), &lost()).state;
        assert_eq!(fresh(&state, &failure(500)).state.unknowns, 0);
    }

    /// Promise 17.
    #[test]
    fn an_interrupted_attempt_is_retried_at_once_without_moving_the_schedule() {
        let error = Some(AttemptError::new(ErrorKind::Interrupted, "the server stopped"));
        let step = fresh(&DeliveryState::new(), &Ending { error, status_code: None, ..failure(0) });
        assert_eq!((step.next, step.state.failed), (Next::After(Duration::ZERO), 0));
        assert_eq!(step.state.status, DeliveryStatus::Retrying);
    }

    #[test]
    fn a_manual_attempt_that_fails_leaves_the_schedule_as_it_was() {
        let waiting = fresh(&DeliveryState::new(), &failure(500)).state;
        let asked = ask(&waiting, &Input::Retry { force: false }).unwrap();
        assert_eq!((asked.state.request, asked.next), (Some(Request::Retry), Next::AsBefore));
        let manual = Ending { trigger: Trigger::Manual, request: Some(Request::Retry), ..failure(500) };
        let step = fresh(&asked.state, &manual);
        assert_eq!((step.next, step.state.failed, step.state.request), (Next::AsBefore, 1, None));
    }

    #[test]
    fn a_request_made_while_an_attempt_is_in_flight_survives_its_failure() {
        let before = DeliveryState::new();
        let asked = ask(&before, &Input::Retry { force: false }).unwrap().state;
        let input = Input::Ended { ending: &failure(500), chain: 0, late: false, replaces: None };
        let step = step(&asked, &input, &policy(), 0.5).unwrap();
        assert_eq!(step.state.request, Some(Request::Retry));
        assert_eq!((step.state.failed, step.next), (1, Next::After(Duration::from_secs(10))));
    }

    #[test]
    fn a_reopened_delivery_has_a_fresh_schedule_and_its_numbers_go_on() {
        let cancelled = ask(&DeliveryState::new(), &Input::Cancel(StatusReason::CancelledByUser)).unwrap();
        let reopened = ask(&cancelled.state, &Input::Retry { force: false }).unwrap();
        assert_eq!(reopened.state.request, Some(Request::Reopen));
        let first = Ending { trigger: Trigger::Manual, request: Some(Request::Reopen), ..failure(500) };
        let step = fresh(&reopened.state, &first);
        assert_eq!((step.next, step.state.failed), (Next::After(Duration::from_secs(10)), 1));
    }

    /// Promise 5: a request on the wire when its delivery ends is recorded and changes nothing else.
    #[test]
    fn a_result_after_the_end_only_adds_its_row() {
        let before = DeliveryState::new();
        let ended = ask(&before, &Input::Cancel(StatusReason::CancelledByUser)).unwrap().state;
        for ending in [success(), failure(500), failure(410)] {
            let input = Input::Ended { ending: &ending, chain: 0, late: false, replaces: None };
            let step = step(&ended, &input, &policy(), 0.5).unwrap();
            assert_eq!((step.state.status, step.number), (DeliveryStatus::Cancelled, Some(1)));
            assert_eq!(step.state.reason, Some(StatusReason::CancelledByUser));
            assert!(!step.gone);
        }
    }

    #[test]
    fn a_failure_of_an_earlier_chain_moves_nothing_in_this_one() {
        let cancelled = ask(&DeliveryState::new(), &Input::Cancel(StatusReason::CancelledByUser)).unwrap();
        let reopened = ask(&cancelled.state, &Input::Reopen).unwrap().state;
        let input = Input::Ended { ending: &failure(500), chain: 0, late: false, replaces: None };
        let step = step(&reopened, &input, &policy(), 0.5).unwrap();
        assert_eq!(
            (step.next, step.state.failed, step.state.request),
            (Next::AsBefore, 0, Some(Request::Reopen))
        );
    }

    #[test]
    fn a_late_failure_moves_nothing_and_a_late_success_ends_it() {
        let moved_on = fresh(&DeliveryState::new(), &lost()).state;
        let late = |ending: &Ending, replaces| {
            let input = Input::Ended { ending, chain: 0, late: true, replaces };
            step(&moved_on, &input, &policy(), 0.5).unwrap()
        };
        let failed = late(&failure(500), Some(1));
        assert_eq!((failed.number, failed.next, failed.state.failed), (Some(1), Next::AsBefore, 0));
        assert_eq!(failed.state.attempts, 1);
        let unclaimed = late(&failure(500), None);
        assert_eq!((unclaimed.number, unclaimed.state.attempts), (Some(2), 2));
        let succeeded = late(&success(), Some(1));
        assert_eq!((succeeded.state.status, succeeded.next), (DeliveryStatus::Succeeded, Next::Never));
    }

    #[test]
    fn a_forced_attempt_on_a_succeeded_delivery_changes_no_state() {
        let done = fresh(&DeliveryState::new(), &success()).state;
        assert_eq!(ask(&done, &Input::Retry { force: false }), Err(Refused::Finished));
        let forced = ask(&done, &Input::Retry { force: true }).unwrap();
        assert_eq!(forced.next, Next::After(Duration::ZERO));
        let manual = Ending { trigger: Trigger::Manual, request: Some(Request::Retry), ..failure(500) };
        let step = fresh(&forced.state, &manual);
        assert_eq!((step.state.status, step.state.request), (DeliveryStatus::Succeeded, None));
        assert_eq!((step.next, step.number), (Next::Never, Some(2)));
        let again = fresh(&forced.state, &Ending { outcome: Outcome::Succeeded, ..manual });
        assert_eq!((again.state.status, again.state.request), (DeliveryStatus::Succeeded, None));
        assert_eq!((again.next, again.number), (Next::Never, Some(2)), "nothing is left to do");
    }

    proptest! {
        /// Promises 5 and 7, over any sequence of results and requests, fresh and late.
        #[test]
        fn attempts_stay_gap_free_and_an_end_is_left_only_by_a_request(
            moves in prop::collection::vec((0u8..9, any::<bool>()), 0..60)
        ) {
            let mut state = DeliveryState::new();
            let mut chain = state.chain;
            let mut rows = 0;
            for (which, reload) in moves {
                if reload {
                    chain = state.chain;
                }
                let ending = match which {
                    0 => Some(success()),
                    1 => Some(failure(500)),
                    2 => Some(lost()),
                    3 => Some(failure(410)),
                    _ => None,
                };
                let input = match (&ending, which) {
                    (Some(ending), _) => Input::Ended { ending, chain, late: !reload, replaces: None },
                    (None, 4) => Input::Retry { force: false },
                    (None, 5) => Input::Retry { force: true },
                    (None, 6) => Input::Reopen,
                    (None, 7) => Input::Cancel(StatusReason::CancelledByUser),
                    (None, _) => Input::Expire,
                };
                let Ok(step) = step(&state, &input, &policy(), 0.5) else { continue };
                prop_assert_eq!(step.state.revision, state.revision + 1);
                if let Some(number) = step.number {
                    rows += 1;
                    prop_assert_eq!(number, rows);
                }
                prop_assert_eq!(step.state.attempts, rows);
                let asked = matches!(input, Input::Retry { .. } | Input::Reopen);
                if state.status.is_finished() && !asked {
                    prop_assert_eq!(step.state.status, state.status);
                    prop_assert!(!matches!(step.next, Next::After(_)));
                }
                if step.state.status.is_finished() && step.state.request.is_none() && step.next != Next::AsBefore {
                    prop_assert_eq!(step.next, Next::Never);
                }
                state = step.state;
            }
        }
    }
}
