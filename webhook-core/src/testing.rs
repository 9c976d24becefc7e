//! For tests of applications and backends: clocks that a test moves, and a transport that records.
//!
//! Behind the feature `testing`. With [`MemoryStore`](crate::memory::MemoryStore),
//! [`MemoryQueue`](crate::memory::MemoryQueue) and [`RecordingDeliverer`] an application tests what it
//! publishes without a server, a socket or a sleep.
//!
//! Which clock: [`TokioClock`] when the code under test waits by tokio's time (an engine, a queue's `wait`),
//! so that `tokio::time::pause` and `advance` move everything together; [`ManualClock`] for backends whose
//! methods only look at it, and for clocks that jump or go backwards.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::deliver::{Answer, Deliverer, Exchange, Request};
use crate::model::{AttemptError, ErrorKind};
use crate::time::{Clock, Timestamp};

/// Where clocks of tests begin unless told otherwise: 2026-01-01T00:00:00Z.
pub const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// A clock that stands still until it is moved. Clones show the same time.
///
/// ```
/// use std::time::Duration;
/// use webhook_core::testing::{ManualClock, START};
/// use webhook_core::time::Clock as _;
///
/// let clock = ManualClock::new();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().since(START), Duration::from_secs(60));
/// clock.set(START);
/// assert_eq!(clock.now(), START);
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows [`START`].
    #[must_use]
    pub fn new() -> Self {
        Self::at(START)
    }

    /// A clock that shows this moment.
    #[must_use]
    pub fn at(moment: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(moment.as_micros())))
    }

    /// Moves it forward, by whole microseconds.
    pub fn advance(&self, span: Duration) {
        // Lost updates would need two threads that move one test's clock at once.
        self.set(self.now().after(span));
    }

    /// Sets it, back too.
    pub fn set(&self, moment: Timestamp) {
        self.0.store(moment.as_micros(), Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// A clock that goes with tokio's time from a given start, so that paused time stops it and
/// [`tokio::time::advance`] moves it.
///
/// ```
/// use std::time::Duration;
/// use webhook_core::testing::{START, TokioClock};
/// use webhook_core::time::Clock as _;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let clock = TokioClock::new();
/// tokio::time::sleep(Duration::from_secs(3600)).await;
/// assert_eq!(clock.now().since(START), Duration::from_secs(3600));
/// # });
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    start: Timestamp,
    origin: Instant,
}

impl TokioClock {
    /// A clock that shows [`START`] now.
    #[must_use]
    pub fn new() -> Self {
        Self::at(START)
    }

    /// A clock that shows this moment now.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "tokio's time is what this clock is about")]
    pub fn at(moment: Timestamp) -> Self {
        Self { start: moment, origin: Instant::now() }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    #[allow(clippy::disallowed_methods, reason = "tokio's time is what this clock is about")]
    fn now(&self) -> Timestamp {
        self.start.after(Instant::now().duration_since(self.origin))
    }
}

/// What a [`RecordingDeliverer`] answers to one request.
///
/// ```
/// use std::time::Duration;
/// use webhook_core::model::ErrorKind;
/// use webhook_core::testing::Scripted;
///
/// let busy = Scripted::status(503).header("retry-after", "30");
/// let slow = Scripted::status(200).after(Duration::from_secs(5));
/// let refused = Scripted::error(ErrorKind::Connect);
/// let hangs = Scripted::hang();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scripted {
    delay: Duration,
    result: Result<Answer, AttemptError>,
}

impl Scripted {
    /// An answer with this status, no headers and no body, at once.
    #[must_use]
    pub const fn status(status: u16) -> Self {
        let answer = Answer { status, headers: Vec::new(), body: Bytes::new() };
        Self { delay: Duration::ZERO, result: Ok(answer) }
    }

    /// A failure of this kind, at once.
    #[must_use]
    pub fn error(kind: ErrorKind) -> Self {
        Self { delay: Duration::ZERO, result: Err(AttemptError::new(kind, "scripted")) }
    }

    /// No answer before the request's deadline: a time-out.
    #[must_use]
    pub fn hang() -> Self {
        Self::status(200).after(Duration::MAX)
    }

    /// Takes this long, by tokio's time. Past the request's deadline it is a time-out.
    #[must_use]
    pub const fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// With this header too. Nothing when it is a failure.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Ok(answer) = &mut self.result {
            answer.headers.push((name.into(), value.into()));
        }
        self
    }

    /// With this body. Nothing when it is a failure.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        if let Ok(answer) = &mut self.result {
            answer.body = body.into();
        }
        self
    }
}

/// A request that was delivered, and when it came, by tokio's time.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The request.
    pub request: Request,
    /// When it came.
    pub at: Instant,
}

impl Recorded {
    /// The first header of this name, in lower case.
    ///
    /// ```
    /// # use webhook_core::testing::Recorded;
    /// fn attempt(recorded: &Recorded) -> Option<&str> {
    ///     recorded.header("webhook-attempt")
    /// }
    /// ```
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = self.request.headers.iter().find(|(header, _)| header == name);
        named.map(|(_, value)| value.as_str())
    }
}

type Script = dyn Fn(&Request) -> Scripted + Send + Sync;

/// A transport without a network: records every request and answers from a script.
///
/// An answer is the first that was queued for the request's URL, else what the script says, which is 200 at
/// once unless [`scripted`](Self::scripted) gave another. Clones share everything.
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use webhook_core::deliver::{Deliverer as _, Request};
/// use webhook_core::testing::{RecordingDeliverer, Scripted};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let target = RecordingDeliverer::new();
/// target.answer("https://example.com/hook", Scripted::status(500));
///
/// let request = Request {
///     url: "https://example.com/hook".parse()?,
///     headers: vec![("webhook-attempt".into(), "1".into())],
///     body: Bytes::from_static(b"{}"),
///     deadline: Duration::from_secs(15),
/// };
/// assert_eq!(target.deliver(request.clone()).await.result.map(|answer| answer.status), Ok(500));
/// assert_eq!(target.deliver(request).await.result.map(|answer| answer.status), Ok(200));
///
/// assert_eq!(target.requests().len(), 2);
/// assert_eq!(target.requests()[0].header("webhook-attempt"), Some("1"));
/// # Ok::<(), url::ParseError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct RecordingDeliverer(Arc<Recording>);

struct Recording {
    script: Box<Script>,
    log: Mutex<Log>,
    came: Notify,
}

#[derive(Default)]
struct Log {
    queued: HashMap<String, VecDeque<Scripted>>,
    requests: Vec<Recorded>,
}

impl RecordingDeliverer {
    /// Answers 200 at once, unless answers are queued.
    #[must_use]
    pub fn new() -> Self {
        Self::scripted(|_| Scripted::status(200))
    }

    /// Answers what `script` says, unless answers are queued.
    #[must_use]
    pub fn scripted(script: impl Fn(&Request) -> Scripted + Send + Sync + 'static) -> Self {
        let script = Box::new(script);
        Self(Arc::new(Recording { script, log: Mutex::default(), came: Notify::new() }))
    }

    /// Queues an answer for the next request to exactly this URL that has none queued before it.
    pub fn answer(&self, url: impl Into<String>, answer: Scripted) {
        self.log().queued.entry(url.into()).or_default().push_back(answer);
    }

    /// Every request so far, in the order in which they came.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.log().requests.clone()
    }

    /// Every request to this URL so far.
    #[must_use]
    pub fn requests_to(&self, url: &str) -> Vec<Recorded> {
        let mut requests = self.requests();
        requests.retain(|recorded| recorded.request.url.as_str() == url);
        requests
    }

    /// Returns when at least `count` requests have come in all, with those that have. Put a time limit of
    /// the test's own around it.
    ///
    /// # Cancel safety
    /// Only looks.
    pub async fn wait_for(&self, count: usize) -> Vec<Recorded> {
        loop {
            let came = self.0.came.notified();
            let requests = self.requests();
            if requests.len() >= count {
                return requests;
            }
            came.await;
        }
    }

    /// Forgets the requests so far; queued answers stay.
    pub fn clear(&self) {
        self.log().requests.clear();
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for RecordingDeliverer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RecordingDeliverer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordingDeliverer").field("requests", &self.log().requests.len()).finish()
    }
}

#[async_trait]
impl Deliverer for RecordingDeliverer {
    #[allow(clippy::disallowed_methods, reason = "tokio's time is what a recorded request is stamped with")]
    async fn deliver(&self, request: Request) -> Exchange {
        let began = Instant::now();
        let queued = {
            let mut log = self.log();
            log.requests.push(Recorded { request: request.clone(), at: began });
            log.queued.get_mut(request.url.as_str()).and_then(VecDeque::pop_front)
        };
        self.0.came.notify_waiters();
        let Scripted { delay, result } = queued.unwrap_or_else(|| (self.0.script)(&request));
        tokio::time::sleep(delay.min(request.deadline)).await;
        let result = if delay < request.deadline {
            result
        } else {
            Err(AttemptError::new(ErrorKind::Timeout, "no answer within the deadline"))
        };
        Exchange { duration: began.elapsed(), result }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str) -> Request {
        Request {
            url: url.parse().unwrap(),
            headers: Vec::new(),
            body: Bytes::from_static(b"{}"),
            deadline: Duration::from_secs(15),
        }
    }

    #[test]
    fn a_manual_clock_moves_only_when_it_is_told_to() {
        let clock = ManualClock::new();
        let same = clock.clone();
        assert_eq!(clock.now(), START);
        clock.advance(Duration::from_micros(1_500_000));
        assert_eq!(same.now().since(START), Duration::from_millis(1500));
        clock.set(Timestamp::EPOCH);
        assert_eq!(same.now(), Timestamp::EPOCH);
        assert_eq!(START.to_string(), "2026-01-01T00:00:00Z");
    }

    #[tokio::test(start_paused = true)]
    async fn paused_time_moves_a_tokio_clock() {
        let clock = TokioClock::at(Timestamp::EPOCH);
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert_eq!(clock.now().to_string(), "1970-01-02T00:00:00Z");
    }

    #[tokio::test(start_paused = true)]
    async fn queued_answers_are_per_url_and_come_before_the_script() {
        let target = RecordingDeliverer::scripted(|request| match request.url.path() {
            "/gone" => Scripted::status(410),
            _ => Scripted::error(ErrorKind::Dns),
        });
        target.answer("https://a.example/", Scripted::status(201).header("x", "y").body("yes"));
        let status = |exchange: Exchange| exchange.result.map(|answer| answer.status).map_err(|e| e.kind);
        assert_eq!(status(target.deliver(request("https://b.example/")).await), Err(ErrorKind::Dns));
        assert_eq!(status(target.deliver(request("https://b.example/gone")).await), Ok(410));
        assert_eq!(status(target.deliver(request("https://a.example/")).await), Ok(201));
        assert_eq!(status(target.deliver(request("https://a.example/")).await), Err(ErrorKind::Dns));
        assert_eq!(target.requests().len(), 4);
        assert_eq!(target.requests_to("https://a.example/").len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_past_the_deadline_is_a_time_out_at_the_deadline() {
        let target = RecordingDeliverer::new();
        target.answer("https://a.example/", Scripted::hang());
        let exchange = target.deliver(request("https://a.example/")).await;
        assert_eq!(exchange.duration, Duration::from_secs(15));
        assert_eq!(exchange.result.unwrap_err().kind, ErrorKind::Timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_recorded_when_it_comes_not_when_it_is_answered() {
        let target = RecordingDeliverer::scripted(|_| Scripted::hang());
        let sender = target.clone();
        let sending = tokio::spawn(async move { sender.deliver(request("https://a.example/")).await });
        assert_eq!(target.wait_for(1).await.len(), 1);
        assert!(!sending.is_finished());
        target.clear();
        assert!(target.requests().is_empty());
        sending.abort();
    }
}
