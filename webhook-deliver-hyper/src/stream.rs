//! The stream under a connection: plain or TLS, with what hyper does not tell or bound.
//!
//! - **Did anything come?** A connection that is closed before any byte of an answer is a `reset`, one closed in the
//!   middle of a head is no valid HTTP. hyper calls both incomplete; here the bytes are seen.
//! - **Is it still open?** The runtime learns that a peer closed a kept connection at its next turn of polling, which a
//!   busy thread may be late with. So the first read of each exchange, which hyper makes before it writes, asks the
//!   system itself. What is closed, or has something unasked to read, then fails before a byte of the request left.
//! - **A turn ends.** hyper reads informational answers for as long as there are any, within one poll. Whoever sends
//!   them fast would keep a thread from everything else, our own deadline too.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What the exchange and its stream tell each other. Both are used by one task at a time, so no ordering is needed.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    /// The next read asks the system.
    ask: AtomicBool,
    /// Something was read.
    read: AtomicBool,
    /// How often something was read in this turn.
    reads: AtomicU8,
}

/// So often a buffer is filled before others have their turn.
const READS_A_TURN: u8 = 4;

impl Signs {
    /// Before a request on a connection that was kept: nothing was read for it, and the system is asked first.
    pub(crate) fn renew(&self) {
        self.ask.store(true, Ordering::Relaxed);
        self.read.store(false, Ordering::Relaxed);
    }

    /// Before the connection is polled.
    pub(crate) fn begin_turn(&self) {
        self.reads.store(0, Ordering::Relaxed);
    }

    pub(crate) fn has_read(&self) -> bool {
        self.read.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(crate) struct Stream {
    inner: Inner,
    signs: Arc<Signs>,
}

#[derive(Debug)]
enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(crate) fn plain(tcp: TcpStream) -> Self {
        Self { inner: Inner::Plain(tcp), signs: Arc::default() }
    }

    pub(crate) fn tls(tls: TlsStream<TcpStream>) -> Self {
        Self { inner: Inner::Tls(Box::new(tls)), signs: Arc::default() }
    }

    pub(crate) fn signs(&self) -> Arc<Signs> {
        Arc::clone(&self.signs)
    }

    /// What the system knows now: nothing to read yet, or closed, or an error, or bytes that nobody asked for.
    fn ask(&self) -> io::Result<()> {
        let tcp = match &self.inner {
            Inner::Plain(tcp) => tcp,
            Inner::Tls(tls) => tls.get_ref().0,
        };
        match SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.signs.ask.load(Ordering::Relaxed) {
            self.signs.ask.store(false, Ordering::Relaxed);
            self.ask()?;
        }
        let reads = self.signs.reads.load(Ordering::Relaxed);
        if reads >= READS_A_TURN {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Inner::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        };
        if buffer.filled().len() > before {
            self.signs.read.store(true, Ordering::Relaxed);
            self.signs.reads.store(reads + 1, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Inner::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Inner::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.inner {
            Inner::Plain(tcp) => tcp.is_write_vectored(),
            Inner::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Inner::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Inner::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
