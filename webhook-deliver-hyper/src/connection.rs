//! One HTTP/1.1 connection and the exchanges on it, one after the other.
//!
//! hyper gives a connection in two halves: a sender of requests and a future that moves the bytes, made to be spawned
//! as a task. Here the exchange polls that future itself: whoever waits for the answer reads the socket, so an exchange
//! needs no second task and no hop between threads, and a connection that nobody uses is not polled at all. Dropping
//! an exchange drops the future, which closes the connection.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use webhook_core::model::AttemptError;
use webhook_dial::failure;

use crate::classify::classify;
use crate::stream::{Signs, Stream};

/// hyper's buffer for what was read: the most that an answer's head can take.
pub(crate) const READ_BUFFER: usize = 128 * 1024;

/// A request as hyper takes it.
pub(crate) type Outgoing = Request<Full<Bytes>>;

type Moving = http1::Connection<TokioIo<Stream>, Full<Bytes>>;

pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// None once it is closed.
    moving: Option<Box<Moving>>,
    signs: Arc<Signs>,
}

/// Why there is no answer.
pub(crate) enum Unanswered {
    /// The connection was closed before anything was written: the request can go to another one.
    Unsent(Box<Outgoing>, AttemptError),
    /// It may have been read.
    Failed(AttemptError),
}

impl Connection {
    pub(crate) async fn over(stream: Stream) -> Result<Self, AttemptError> {
        let signs = stream.signs();
        let (sender, moving) = http1::Builder::new()
            .max_buf_size(READ_BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| classify(&error, false))?;
        Ok(Self { sender, moving: Some(Box::new(moving)), signs })
    }

    /// Whether another request can be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.moving.is_some() && self.sender.is_ready()
    }

    /// Makes it one that was kept: before the next request is written, it is looked at whether the peer closed it.
    pub(crate) fn renew(&self) {
        self.signs.renew();
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// Cancel safe in that dropping it and the connection sends nothing more.
    pub(crate) async fn send(&mut self, request: Outgoing) -> Result<Response<Incoming>, Unanswered> {
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        let (moving, signs) = (&mut self.moving, &self.signs);
        let answered = poll_fn(|cx| {
            advance(moving, signs, cx);
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        });
        answered.await.map_err(|mut error| match error.take_message() {
            Some(request) => Unanswered::Unsent(Box::new(request), unsent(signs)),
            None => Unanswered::Failed(classify(error.error(), signs.has_read())),
        })
    }

    /// The next bytes of a body. None at its end, and where it breaks off.
    pub(crate) async fn chunk(&mut self, body: &mut Incoming) -> Option<Bytes> {
        let (moving, signs) = (&mut self.moving, &self.signs);
        poll_fn(|cx| {
            // Mostly it came with the head.
            let mut polled = next_chunk(body);
            if polled.is_pending() {
                advance(moving, signs, cx);
                polled = next_chunk(body);
            }
            polled
        })
        .await
    }
}

/// Moves bytes. The sender's and the body's ends change only in here, so whoever waits for them needs no waker of their
/// own; once it is closed and dropped they hear of it.
fn advance(moving: &mut Option<Box<Moving>>, signs: &Signs, cx: &mut Context<'_>) {
    signs.begin_turn();
    if let Some(open) = moving
        && Pin::new(open).poll(cx).is_ready()
    {
        *moving = None;
    }
}

fn next_chunk(body: &mut Incoming) -> Poll<Option<Bytes>> {
    loop {
        if body.is_end_stream() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut *body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => {
                // Trailers are not kept.
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(data));
                }
            }
            Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        }
    }
}

fn unsent(signs: &Signs) -> AttemptError {
    if signs.has_read() { crate::classify::unasked() } else { failure::reset() }
}
