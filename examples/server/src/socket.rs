//! A client's connection as the server holds it, for the two things that a plain socket gets wrong.
//!
//! A client that stops reading would keep its connection, and the answer that it was asked for, for as long as it
//! likes: HTTP has no time-out for that and neither has TCP. So a write that moves no byte for [`STALL`] fails.
//!
//! A request may be answered before it was read to its end, because it is too large, say. Closing such a connection at
//! once makes the system send a reset, which can destroy the answer on its way and fails the client's next write: the
//! client never learns why. So the socket lingers (RFC 9112, section 9.6): it says that nothing more will come, and
//! throws away what still arrives until the client has closed too, within bounds of time and bytes.
//!
//! It owes the service: no connection is held without end by a client, and no task outlives [`LINGER`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep, timeout};

/// How long a client may take no byte of an answer that waits for it.
pub(crate) const STALL: Duration = Duration::from_secs(30);

/// How long a connection that was closed on this side may still send.
const LINGER: Duration = Duration::from_secs(5);
/// How much it may send in that time: several times the largest body that a client would have had accepted.
const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// An accepted connection. Dropped, it lingers if the client has not closed its side.
#[derive(Debug)]
pub(crate) struct Socket {
    /// There until it is dropped.
    stream: Option<TcpStream>,
    stall: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    /// The client has closed its side, or the connection is broken.
    over: bool,
}

impl Socket {
    /// Gives up a client that takes no byte for `stall`.
    pub(crate) fn new(stream: TcpStream, stall: Duration) -> Self {
        Self { stream: Some(stream), stall, stalled: None, over: false }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Fails a write that has waited for too long.
    fn watched<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall = self.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall)));
        ready!(stalled.as_mut().poll(cx));
        self.over = true;
        // What the system still holds for it goes too.
        if let Some(stream) = &self.stream {
            let _ = stream.set_zero_linger();
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no byte of its answer")))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(self.stream()?.poll_read(cx, buffer));
        if read.is_err() || (buffer.filled().len() == before && buffer.remaining() > 0) {
            self.over = true;
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write(cx, bytes);
        self.watched(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write_vectored(cx, slices);
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // Without a runtime the process is ending, and its sockets with it.
        if let (Some(stream), Ok(runtime)) = (self.stream.take(), Handle::try_current()) {
            runtime.spawn(timeout(LINGER, linger(stream)));
        }
    }
}

/// Closes this side and reads on until the other is closed.
async fn linger(mut stream: TcpStream) {
    // One that is broken has nothing more to tell.
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut thrown_away = vec![0; 16 * 1024];
    let mut left = LINGER_BYTES;
    while left > 0 {
        match stream.read(&mut thrown_away).await {
            Ok(0) | Err(_) => return,
            Ok(read) => left = left.saturating_sub(read),
        }
    }
}
