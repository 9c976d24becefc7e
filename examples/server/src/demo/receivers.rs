//! Receivers with bad habits. All verify signatures; they differ in what they do then.
//!
//! A habit depends on how many requests came before and on nothing random, so that everything shows within the
//! first seconds of every run.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use webhook_core::secret::Secret;

use crate::listen::check;
use crate::report::Failure;
use crate::terminal::{Colour, Screen, time_of_day};

/// Longer than the demo's deadline of an attempt.
const TOO_SLOW: Duration = Duration::from_secs(6);
/// How long the one that disappears is there, and away.
const THERE: Duration = Duration::from_secs(9);
const AWAY: Duration = Duration::from_secs(4);

const LARGEST_BODY: usize = 1024 * 1024;

/// What a receiver does with a request that is signed as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Takes it at once.
    Steady,
    /// Answers 500 or 503 to some.
    Flaky,
    /// Takes longer than the deadline for some.
    Slow,
    /// Takes it at once, when it is there at all.
    Disappearing,
    /// Never takes any.
    Broken,
}

const CAST: [(&str, &str, Habit, &str); 5] = [
    ("warehouse", "order.*", Habit::Steady, "is always there"),
    ("billing", "invoice.*", Habit::Flaky, "answers 500 or 503 now and then"),
    ("crm", "user.*", Habit::Slow, "sometimes takes longer than the deadline of 2 s"),
    ("search", "order.*", Habit::Disappearing, "goes away for 4 s now and then"),
    ("archive", "report.*", Habit::Broken, "always answers 500"),
];

/// One receiver.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) name: &'static str,
    /// The event types it subscribes to.
    pub(super) takes: &'static str,
    /// Its habit in words.
    pub(super) habit: &'static str,
    pub(super) url: String,
    pub(super) secret: Secret,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    first_attempts: AtomicU64,
    second_attempts: AtomicU64,
    verified: AtomicU64,
    refused: AtomicU64,
}

impl Receiver {
    /// How many requests were signed as they should be.
    pub(super) fn verified(&self) -> u64 {
        self.counts.verified.load(Ordering::Relaxed)
    }

    /// How many were not.
    pub(super) fn refused(&self) -> u64 {
        self.counts.refused.load(Ordering::Relaxed)
    }
}

/// What one receiver's requests share.
#[derive(Debug, Clone)]
struct Desk {
    habit: Habit,
    secret: Secret,
    counts: Arc<Counts>,
}

/// Starts all of them on free ports of 127.0.0.1.
///
/// # Errors
/// When there is no port to be had.
pub(super) async fn start(tasks: &mut JoinSet<()>, screen: Screen) -> Result<Vec<Receiver>, Failure> {
    let mut receivers = Vec::with_capacity(CAST.len());
    for (name, takes, habit, words) in CAST {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener =
            bound.map_err(|error| Failure::Start(format!("cannot listen on 127.0.0.1: {error}")))?;
        let address = listener.local_addr().map_err(Failure::start)?;
        let secret = Secret::generate();
        let counts = Arc::new(Counts::default());
        let desk = Desk { habit, secret: secret.clone(), counts: Arc::clone(&counts) };
        let app = Router::new().fallback(receive).with_state(desk);
        if habit == Habit::Disappearing {
            tasks.spawn(come_and_go(name, listener, address, app, screen));
        } else {
            tasks.spawn(async move { drop(axum::serve(listener, app).await) });
        }
        let url = format!("http://{address}/{name}");
        receivers.push(Receiver { name, takes, habit: words, url, secret, counts });
    }
    Ok(receivers)
}

/// Serves for a while, closes port and connections for a while, and so on.
async fn come_and_go(name: &str, listener: TcpListener, address: SocketAddr, app: Router, screen: Screen) {
    let mut listener = Some(listener);
    let tell = |what: &str| {
        // Whoever prints the account notices that nobody reads.
        let _ = screen.line(screen.paint(Colour::Dim, format!("{}   {name} {what}", time_of_day())));
    };
    loop {
        let here = match listener.take() {
            Some(listener) => Ok(listener),
            None => TcpListener::bind(address).await,
        };
        if let Ok(here) = here {
            let _ = axum::serve(here, app.clone()).with_graceful_shutdown(sleep(THERE)).await;
            tell("goes away: connections to it are refused");
            sleep(AWAY).await;
            tell("is back");
        } else {
            // Somebody else took the port meanwhile: it stays away a little longer.
            sleep(AWAY).await;
        }
    }
}

async fn receive(State(desk): State<Desk>, request: Request) -> StatusCode {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE;
    };
    if check(&desk.secret, &head.headers, &body).is_err() {
        desk.counts.refused.fetch_add(1, Ordering::Relaxed);
        return StatusCode::UNAUTHORIZED;
    }
    desk.counts.verified.fetch_add(1, Ordering::Relaxed);
    let attempt = head.headers.get("webhook-attempt").and_then(|number| number.to_str().ok()?.parse().ok());
    match (desk.habit, attempt.unwrap_or(1_u32)) {
        (Habit::Steady | Habit::Disappearing, _) => StatusCode::NO_CONTENT,
        (Habit::Broken, _) => StatusCode::INTERNAL_SERVER_ERROR,
        (Habit::Flaky, 1) if every_third(&desk.counts.first_attempts) => StatusCode::INTERNAL_SERVER_ERROR,
        (Habit::Flaky, 2) if every_third(&desk.counts.second_attempts) => StatusCode::SERVICE_UNAVAILABLE,
        (Habit::Slow, 1) if every_third(&desk.counts.first_attempts) => {
            sleep(TOO_SLOW).await;
            StatusCode::OK
        }
        (Habit::Slow, _) => {
            sleep(Duration::from_millis(350)).await;
            StatusCode::OK
        }
        (Habit::Flaky, _) => StatusCode::OK,
    }
}

/// True for the first, the fourth, the seventh …
fn every_third(count: &AtomicU64) -> bool {
    count.fetch_add(1, Ordering::Relaxed).is_multiple_of(3)
}
