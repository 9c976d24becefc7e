//! When a claim is worth while: what the last claim saw, and what was heard since.
//!
//! A bell is rung by the scripts, at most once a call, when a lane can be served earlier than before. The last
//! claim that was not filled tells when the next moment comes by time alone. Together they end a wait; while
//! nothing can be heard, a wait ends soon by itself. Waits end for nothing at times, but none is missed: what is
//! heard while a claim is under way counts as heard after it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::client::Heard;

/// Lanes that were passed over may be another worker's, or this one's when slots come free; nobody is to spin.
const PASSED_OVER: Duration = Duration::from_millis(20);
/// How long a wait lasts while nothing can be heard.
const DEAF: Duration = Duration::from_millis(250);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Bell {
    state: watch::Sender<State>,
    /// The rings that the last claim took into account.
    seen: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// Counts what may be served at once.
    rings: u64,
    /// Counts everything heard.
    heard: u64,
    /// When something can be served by time alone.
    next: Option<Instant>,
    listening: bool,
}

/// What was heard when a claim began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    rings: u64,
    heard: u64,
}

impl Bell {
    pub(crate) fn new() -> Self {
        // Nothing is known before the first claim.
        let state = State { rings: 1, heard: 1, next: None, listening: false };
        Self { state: watch::Sender::new(state), seen: AtomicU64::new(0) }
    }

    pub(crate) fn hear(&self, heard: Heard) {
        self.state.send_modify(|state| {
            state.heard += 1;
            match heard {
                Heard::Bell(Duration::ZERO) => state.rings += 1,
                Heard::Bell(wait) => {
                    let at = Instant::now() + wait;
                    state.next = Some(state.next.map_or(at, |next| next.min(at)));
                }
                Heard::Listening => {
                    state.listening = true;
                    state.rings += 1;
                }
                Heard::Deaf => state.listening = false,
            }
        });
    }

    /// A claim begins.
    pub(crate) fn mark(&self) -> Mark {
        let State { rings, heard, .. } = *self.state.borrow();
        Mark { rings, heard }
    }

    /// A claim that began at `mark` has ended; `wait` is what its answer says of the next moment. A claim that
    /// took all that it asked for saw nothing of it.
    pub(crate) fn claimed(&self, mark: Mark, wait: Option<Duration>) {
        self.seen.fetch_max(mark.rings, Ordering::AcqRel);
        let at = wait.map(|wait| Instant::now() + if wait.is_zero() { PASSED_OVER } else { wait });
        self.state.send_if_modified(|state| {
            state.next = if state.heard == mark.heard {
                at
            } else {
                // What was heard meanwhile may be newer than what the claim saw.
                state.next.into_iter().chain(at).min()
            };
            false
        });
    }

    /// Returns when a claim is worth while, at the latest after `timeout`.
    pub(crate) async fn wait(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout.min(Duration::from_secs(86_400));
        let mut changes = self.state.subscribe();
        loop {
            let state = *changes.borrow_and_update();
            if state.rings != self.seen.load(Ordering::Acquire) {
                return;
            }
            let mut until = state.next.map_or(deadline, |next| next.min(deadline));
            if !state.listening {
                until = until.min(Instant::now() + DEAF);
            }
            tokio::select! {
                () = sleep_until(until) => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn waited(bell: &Bell) -> Duration {
        let began = Instant::now();
        bell.wait(HOUR).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn before_the_first_claim_a_wait_ends_at_once() {
        assert_eq!(waited(&Bell::new()).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_heard_during_a_claim_ends_the_wait_after_it() {
        let bell = Bell::new();
        bell.hear(Heard::Listening);
        let mark = bell.mark();
        bell.hear(Heard::Bell(Duration::ZERO));
        bell.claimed(mark, None);
        assert_eq!(waited(&bell).await, Duration::ZERO);
        bell.claimed(bell.mark(), None);
        assert_eq!(waited(&bell).await, HOUR, "the next claim has seen it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_that_was_heard_during_a_claim_is_kept() {
        let bell = Bell::new();
        bell.hear(Heard::Listening);
        let mark = bell.mark();
        bell.hear(Heard::Bell(Duration::from_secs(1)));
        bell.claimed(mark, Some(Duration::from_secs(5)));
        assert_eq!(waited(&bell).await, Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_can_hear_nothing_ends_soon() {
        let bell = Bell::new();
        bell.claimed(bell.mark(), None);
        assert_eq!(waited(&bell).await, DEAF);
    }
}
