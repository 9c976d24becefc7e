//! A receiver that does what a test scripts, on a real socket, byte by byte.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// 200, with a body of two bytes, on a connection that is kept.
pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The first line.
    pub line: String,
    /// Names in the spelling they came in.
    pub headers: Vec<(String, String)>,
    /// The body, by its `content-length`.
    pub body: Vec<u8>,
}

impl Received {
    /// The first header of this name, in this spelling.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What a [`Connection`] speaks over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The receiver's side of one connection. Dropping it closes the connection.
pub struct Connection {
    stream: Box<dyn Stream>,
    requests: mpsc::UnboundedSender<Received>,
    unread: Vec<u8>,
}

impl Connection {
    /// Reads one whole request; none when the sender closed the connection.
    ///
    /// # Panics
    /// When what came is not HTTP.
    pub async fn request(&mut self) -> Option<Received> {
        let head = loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break self.unread.drain(..end + 4).collect::<Vec<u8>>();
            }
            if self.stream.read_buf(&mut self.unread).await.unwrap_or(0) == 0 {
                return None;
            }
        };
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut received = Received { line, headers, body: Vec::new() };
        let length = received.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.unread.len() < length {
            if self.stream.read_buf(&mut self.unread).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        received.body = self.unread.drain(..length).collect();
        let _ = self.requests.send(received.clone());
        Some(received)
    }

    /// Sends these bytes; false when the sender is gone.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Waits until the sender closed the connection.
    pub async fn closed(&mut self) {
        while self.stream.read_buf(&mut self.unread).await.unwrap_or(0) > 0 {
            self.unread.clear();
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("unread", &self.unread.len()).finish_non_exhaustive()
    }
}

/// A receiver on a port of 127.0.0.1 that runs a script for each connection.
#[derive(Debug)]
pub struct Receiver {
    /// Where it listens.
    pub addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: mpsc::UnboundedReceiver<Received>,
}

impl Receiver {
    /// Runs `script` for each connection, as a task of its own.
    pub async fn start<F, R>(script: F) -> Self
    where
        F: Fn(Connection) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::start_with(|stream: TcpStream| async move { Some(stream) }, script).await
    }

    /// `wrap` makes of the accepted connection what the script speaks over, such as TLS.
    ///
    /// # Panics
    /// When no port can be taken.
    pub async fn start_with<W, WR, S, F, R>(wrap: W, script: F) -> Self
    where
        W: Fn(TcpStream) -> WR + Send + 'static,
        WR: Future<Output = Option<S>> + Send,
        S: Stream + 'static,
        F: Fn(Connection) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                if let Some(stream) = wrap(stream).await {
                    tokio::spawn(script(Connection {
                        stream: Box::new(stream),
                        requests: sender.clone(),
                        unread: Vec::new(),
                    }));
                }
            }
        });
        Self { addr, connections, requests }
    }

    /// Answers every request with these bytes and keeps the connection.
    pub async fn answering(answer: impl AsRef<[u8]>) -> Self {
        let answer: Arc<[u8]> = answer.as_ref().into();
        Self::start(move |mut connection| {
            let answer = Arc::clone(&answer);
            async move {
                while connection.request().await.is_some() {
                    connection.send(&answer).await;
                }
            }
        })
        .await
    }

    /// Reads one request, answers it with these bytes and closes.
    pub async fn closing_after(answer: impl AsRef<[u8]>) -> Self {
        let answer: Arc<[u8]> = answer.as_ref().into();
        Self::start(move |mut connection| {
            let answer = Arc::clone(&answer);
            async move {
                connection.request().await;
                connection.send(&answer).await;
            }
        })
        .await
    }

    /// How many connections it accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The requests that it read whole since the last call.
    pub fn requests(&mut self) -> Vec<Received> {
        std::iter::from_fn(|| self.requests.try_recv().ok()).collect()
    }

    /// A URL of it, with a path and a query that no failure may tell.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hooks?token=s3cret", self.addr)
    }
}
