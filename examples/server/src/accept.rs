//! Connections: accepts them and speaks HTTP/1.1 on each until it is told to stop.
//!
//! `axum::serve` would do, but for bounds: without them a client that opens a connection and sends nothing, or a byte
//! of a request's head now and then, holds a file of the process for as long as it likes. The head has a time-out and a
//! size here, the body has both in the handlers of `webhook-http-axum`, the answer has a time-out in [`crate::socket`].
//! What it owes the service: after `closed` no connection is accepted, idle ones are closed, and requests that began
//! are answered.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

use crate::socket::{STALL, Socket};
use crate::unread::announce_the_end;

/// How long a connection may take to send the head of its next request, from the end of the one before; so it is
/// also how long an idle connection is kept, and not shorter.
pub(crate) const HEAD: Duration = Duration::from_secs(75);

/// From here on a request's head is too large, give or take what is read at once. Such a head, or one with more than a
/// hundred fields, is answered with 431 (a target of that size with 414) by hyper, without a body, as no request was read.
const LARGEST_HEAD: usize = 64 * 1024;

/// Wait after an error that is the system's and not the connection's, such as no more files.
const BREATHE: Duration = Duration::from_secs(1);

/// Answers connections by `app` until `closed`, and then until the last one has ended. One that takes longer than
/// `head` for the head of a request is closed.
///
/// # Cancel safety
/// If dropped, connections that are open go on by themselves until their clients leave.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    head: Duration,
    closed: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(LARGEST_HEAD);
    let app = app.layer(from_fn(announce_the_end));
    let connections = GracefulShutdown::new();
    let mut closed = std::pin::pin!(closed);
    loop {
        let stream = tokio::select! {
            stream = accept(&listener) => stream,
            () = &mut closed => break,
        };
        // Answers are small and written whole: waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(app.clone());
        let connection =
            connections.watch(http.serve_connection(TokioIo::new(Socket::new(stream, STALL)), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}

/// The next connection. Errors of one that is gone already are its own.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted; trying again in a second");
                tokio::time::sleep(BREATHE).await;
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests;
