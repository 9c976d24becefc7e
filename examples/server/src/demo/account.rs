//! The account on the terminal: one line for every attempt, now and then a summary, totals at the end.
//!
//! It reads the history that the API shows and nothing else, so what it tells was recorded.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::{Duration, Instant};

use webhook_core::engine::{PublishError, Published};
use webhook_core::error::BackendError;
use webhook_core::id::{AttemptId, SubscriptionId};
use webhook_core::model::{Attempt, Delivery, DeliveryStatus, Outcome};
use webhook_core::store::{AttemptFilter, History, PageRequest};

use super::receivers::Receiver;
use crate::terminal::{Colour, Screen, escaped, time_of_day};

/// Attempts read at once: many times what happens between two looks.
const PAGE: u32 = 200;

/// What has been told so far.
#[derive(Debug)]
pub(super) struct Account {
    screen: Screen,
    started: Instant,
    names: HashMap<SubscriptionId, &'static str>,
    /// Those of the last look; earlier ones do not come up again.
    told: HashSet<AttemptId>,
    events: u64,
    refused: u64,
    deliveries: u64,
    attempts: u64,
    failed: u64,
    delivered: u64,
    delivered_on_retry: u64,
    exhausted: u64,
}

impl Account {
    pub(super) fn new(screen: Screen) -> Self {
        Self {
            screen,
            started: Instant::now(),
            names: HashMap::new(),
            told: HashSet::new(),
            events: 0,
            refused: 0,
            deliveries: 0,
            attempts: 0,
            failed: 0,
            delivered: 0,
            delivered_on_retry: 0,
            exhausted: 0,
        }
    }

    /// The receiver behind a subscription.
    pub(super) fn knows(&mut self, id: SubscriptionId, name: &'static str) {
        self.names.insert(id, name);
    }

    /// Counts what was published.
    pub(super) fn published(&mut self, published: Result<Published, PublishError>) {
        match published {
            Ok(published) => {
                self.events += 1;
                self.deliveries += published.delivery_count;
            }
            Err(error) => {
                self.refused += 1;
                tracing::warn!(%error, "an event was not published");
            }
        }
    }

    /// Tells of every attempt that was recorded since the last look, oldest first.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub(super) async fn look(&mut self, history: &dyn History) -> io::Result<()> {
        let news = match self.news(history).await {
            Ok(news) => news,
            Err(error) => {
                tracing::warn!(%error, "the history does not answer");
                return Ok(());
            }
        };
        for (attempt, delivery) in news {
            self.screen.line(self.tell(&attempt, &delivery))?;
            self.count(&attempt, &delivery);
        }
        Ok(())
    }

    async fn news(&mut self, history: &dyn History) -> Result<Vec<(Attempt, Delivery)>, BackendError> {
        let page = PageRequest { before: None, limit: PAGE };
        let recent = history.attempts(&AttemptFilter::default(), page).await?;
        let ids = recent.items.iter().map(|attempt| attempt.id).collect();
        let told = std::mem::replace(&mut self.told, ids);
        let mut news = Vec::new();
        for attempt in recent.items.into_iter().rev().filter(|attempt| !told.contains(&attempt.id)) {
            if let Some(delivery) = history.delivery(None, attempt.delivery_id).await? {
                news.push((attempt, delivery));
            }
        }
        Ok(news)
    }

    fn count(&mut self, attempt: &Attempt, delivery: &Delivery) {
        self.attempts += 1;
        match attempt.outcome {
            Outcome::Succeeded => {
                self.delivered += 1;
                self.delivered_on_retry += u64::from(attempt.number > 1);
            }
            Outcome::Failed | Outcome::Unknown => self.failed += 1,
        }
        let last = attempt.number == delivery.state.attempts;
        self.exhausted += u64::from(last && delivery.state.status == DeliveryStatus::Exhausted);
    }

    fn tell(&self, attempt: &Attempt, delivery: &Delivery) -> String {
        let answer = match (attempt.status_code, &attempt.error) {
            (Some(status), _) => status.to_string(),
            (None, Some(error)) => error.kind.to_string(),
            (None, None) => "-".to_owned(),
        };
        let (colour, mark, what) = match attempt.outcome {
            Outcome::Succeeded if attempt.number > 1 => (Colour::Green, '✓', "delivered on retry".to_owned()),
            Outcome::Succeeded => (Colour::Green, '✓', "delivered".to_owned()),
            Outcome::Failed | Outcome::Unknown => match after(attempt, delivery) {
                Some(wait) => (Colour::Yellow, '✗', format!("failed, retry in {:.1} s", wait.as_secs_f64())),
                None if delivery.state.status == DeliveryStatus::Exhausted => {
                    (Colour::Red, '✗', "failed, exhausted: a dead letter now".to_owned())
                }
                None => (Colour::Yellow, '✗', "failed".to_owned()),
            },
        };
        let screen = self.screen;
        let name = self.names.get(&attempt.subscription_id).copied().unwrap_or("another subscription");
        format!(
            "{} {} {:<17} → {name:<9} attempt {} {:>8} {:>5} ms  {}",
            screen.paint(Colour::Dim, time_of_day()),
            screen.paint(colour, mark),
            escaped(delivery.event_type.as_str()),
            attempt.number,
            screen.paint(colour, answer),
            attempt.duration.as_millis(),
            screen.paint(colour, what),
        )
    }

    /// One line on everything so far.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub(super) fn summary(&self, receivers: &[Receiver]) -> io::Result<()> {
        let text = format!("── after {} s: {}", self.started.elapsed().as_secs(), self.counts(receivers));
        self.screen.line(self.screen.paint(Colour::Bold, text))
    }

    /// The last lines.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub(super) fn totals(&self, receivers: &[Receiver]) -> io::Result<()> {
        let text =
            format!("\ntotals after {} s: {}", self.started.elapsed().as_secs(), self.counts(receivers));
        self.screen.line(self.screen.paint(Colour::Bold, text))
    }

    fn counts(&self, receivers: &[Receiver]) -> String {
        let verified: u64 = receivers.iter().map(Receiver::verified).sum();
        let wrong: u64 = receivers.iter().map(Receiver::refused).sum();
        let open = self.deliveries.saturating_sub(self.delivered + self.exhausted);
        let aside = |count: u64, what: &str| match count {
            0 => String::new(),
            count => format!(", {count} {what}"),
        };
        format!(
            "{} events{}, {} deliveries: {} delivered ({} on retry), {open} to do, {} exhausted │ {} attempts, \
             {} failed │ {verified} signatures verified{}",
            self.events,
            aside(self.refused, "not taken"),
            self.deliveries,
            self.delivered,
            self.delivered_on_retry,
            self.exhausted,
            self.attempts,
            self.failed,
            aside(wrong, "wrong"),
        )
    }
}

/// How long after this attempt the next one comes, if it is the last one so far and there is a next.
fn after(attempt: &Attempt, delivery: &Delivery) -> Option<Duration> {
    if attempt.number != delivery.state.attempts {
        return None;
    }
    let next = delivery.next_attempt_at?;
    Some(next.since(attempt.started_at.after(attempt.duration)))
}
