//! `webhook-server listen`: a receiver for trying webhooks out. It verifies signatures by Standard Webhooks, prints
//! what it gets, and misbehaves on request.
//!
//! Every request counts for `--fail-first`, whatever its path, event or signature. A request whose signature is
//! wrong is answered 401 and nothing else, so that a wrong secret is never hidden by another failure.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use webhook_core::secret::Secret;
use webhook_core::signature::{VerifyScheme, WEBHOOK_ID, verify};
use webhook_core::time::{Clock as _, SystemClock};

use crate::config::ListenConfig;
use crate::http::cannot_listen;
use crate::report::Failure;
use crate::service::block_on;
use crate::signals::{Signals, stop_requested};
use crate::terminal::{Colour, Screen, escaped, indented, time_of_day};

/// Larger bodies are answered 413.
const LARGEST: usize = 256 * 1024 * 1024;

/// So much of a body is printed.
const PRINTED: usize = 16 * 1024;

#[derive(Debug)]
struct Receiver {
    config: ListenConfig,
    screen: Screen,
    requests: AtomicU64,
    /// Nobody reads what is printed any more.
    unread: Notify,
}

/// Receives until SIGINT or SIGTERM, or until nobody reads its output.
///
/// # Errors
/// When the port cannot be taken.
pub(crate) fn run(config: ListenConfig) -> Result<(), Failure> {
    block_on(async {
        let mut signals = Signals::new().map_err(Failure::start)?;
        let asked = (Ipv4Addr::LOCALHOST, config.port).into();
        let listener = TcpListener::bind(asked)
            .await
            .map_err(|error| Failure::Start(cannot_listen(asked, &error).replace("--listen", "--port")))?;
        let address = listener.local_addr().map_err(Failure::start)?;
        let receiver = Arc::new(Receiver {
            config,
            screen: Screen::stdout(),
            requests: AtomicU64::new(0),
            unread: Notify::new(),
        });
        let checks = match receiver.config.secret {
            Some(_) => "signatures are verified",
            None => "signatures are not verified: give --secret to do so",
        };
        let started =
            receiver.screen.line(format_args!("listening on http://{address} ({checks}); Ctrl-C stops"));
        if started.is_err() {
            return Ok(());
        }
        let app = Router::new().fallback(receive).with_state(Arc::clone(&receiver));
        let served = async { axum::serve(listener, app).await };
        tokio::select! {
            result = served => result.map_err(Failure::start),
            () = stop_requested(&mut signals) => Ok(()),
            () = receiver.unread.notified() => Ok(()),
        }
    })
}

async fn receive(State(receiver): State<Arc<Receiver>>, request: Request) -> StatusCode {
    let number = receiver.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST).await else {
        return StatusCode::PAYLOAD_TOO_LARGE;
    };
    let (status, verdict) = receiver.judge(number, &head.headers, &body);
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let line =
        receiver.describe(&format!("{} {target}", head.method), &head.headers, &body, status, &verdict);
    if receiver.screen.line(line).is_err() {
        receiver.unread.notify_one();
    }
    tokio::time::sleep(receiver.config.delay).await;
    status
}

impl Receiver {
    /// The status of the answer, and what is to be said of the signature.
    fn judge(&self, number: u64, headers: &HeaderMap, body: &Bytes) -> (StatusCode, String) {
        let verdict = match &self.config.secret {
            None => "signature not checked".to_owned(),
            Some(secret) => match check(secret, headers, body) {
                Ok(()) => "signature ok".to_owned(),
                Err(error) => return (StatusCode::UNAUTHORIZED, format!("REFUSED: {error}")),
            },
        };
        if number <= self.config.fail_first {
            return (StatusCode::INTERNAL_SERVER_ERROR, verdict);
        }
        (StatusCode::from_u16(self.config.status).unwrap_or(StatusCode::OK), verdict)
    }

    fn describe(
        &self,
        target: &str,
        headers: &HeaderMap,
        body: &[u8],
        status: StatusCode,
        verdict: &str,
    ) -> String {
        let field = |name: &str| {
            let value =
                headers.get(name).map_or("-".into(), |value| String::from_utf8_lossy(value.as_bytes()));
            escaped(&value).into_owned()
        };
        let colour = if status.is_success() { Colour::Green } else { Colour::Red };
        let line = format!(
            "{} {} {} {} id={} attempt={} {} bytes, {}\n",
            self.screen.paint(Colour::Dim, time_of_day()),
            self.screen.paint(colour, status.as_u16()),
            escaped(target),
            self.screen.paint(Colour::Bold, field("webhook-event-type")),
            field(WEBHOOK_ID),
            field("webhook-attempt"),
            body.len(),
            escaped(verdict),
        );
        let shown = String::from_utf8_lossy(&body[..body.len().min(PRINTED)]);
        let mut text = line + &indented(&shown);
        if body.len() > PRINTED {
            text.push_str(&format!("    … and {} bytes more\n", body.len() - PRINTED));
        }
        text.truncate(text.trim_end_matches('\n').len());
        text
    }
}

/// Verifies a request by Standard Webhooks.
///
/// # Errors
/// What is wrong with it, without the secret or a signature.
pub(crate) fn check(
    secret: &Secret,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), webhook_core::signature::VerifyError> {
    let header = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let secrets = std::slice::from_ref(secret);
    verify(VerifyScheme::Standard, secrets, None, header, SystemClock.now().as_seconds(), body).map(drop)
}
