//! As little HTTP/1.1 as client and receiver need: kept-alive connections, bodies with a `Content-Length`.
//!
//! Anything else (chunked bodies, upgrades, pipelining) is an error that names itself, never a guess.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::ops::Range;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const MOST_HEADERS: usize = 64;
/// Nobody here sends more; what does is broken.
const MOST_BYTES: usize = 16 << 20;

/// One end of a connection with what has been read from it and not yet used.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

/// Where a message's parts lie in the connection's buffer.
#[derive(Debug)]
struct Head {
    size: usize,
    content_length: usize,
    /// Of a response; 0 in a request.
    status: u16,
    /// Of a request; empty in a response.
    path: Range<usize>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 8 << 10], filled: 0 })
    }

    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        Self::new(TcpStream::connect(address).await?)
    }

    /// Sends a whole request and reads its response: status and body.
    pub(crate) async fn request(&mut self, request: &[u8]) -> Result<(u16, &[u8])> {
        self.filled = 0;
        self.stream.write_all(request).await?;
        let Some(head) = self.message(response_head).await? else {
            return Err(Error::new(ErrorKind::UnexpectedEof, "closed without a response"));
        };
        if (100..200).contains(&head.status) {
            return Err(invalid("an informational response, which nobody asked for"));
        }
        Ok((head.status, &self.buffer[head.size..head.size + head.content_length]))
    }

    /// Reads the next request whole; false when the peer closed between requests. `take` sees path and body.
    pub(crate) async fn next_request<T>(&mut self, take: impl FnOnce(&str, &[u8]) -> T) -> Result<Option<T>> {
        let Some(head) = self.message(request_head).await? else { return Ok(None) };
        let end = head.size + head.content_length;
        let path = std::str::from_utf8(&self.buffer[head.path]).map_err(|_| invalid("a path"))?;
        let taken = take(path, &self.buffer[head.size..end]);
        self.buffer.copy_within(end..self.filled, 0);
        self.filled -= end;
        Ok(Some(taken))
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads until a whole message is in the buffer; none when the peer closed before its first byte.
    async fn message(&mut self, parse: fn(&[u8]) -> Result<Option<Head>>) -> Result<Option<Head>> {
        loop {
            if let Some(head) = parse(&self.buffer[..self.filled])? {
                let end = head.size.saturating_add(head.content_length);
                if end > MOST_BYTES {
                    return Err(invalid("a message of more than 16 MiB"));
                }
                if self.filled >= end {
                    return Ok(Some(head));
                }
                if self.buffer.len() < end {
                    self.buffer.resize(end, 0);
                }
            } else if self.filled == self.buffer.len() {
                if self.filled >= 64 << 10 {
                    return Err(invalid("a head of more than 64 KiB"));
                }
                self.buffer.resize(self.filled * 2, 0);
            }
            let read = self.stream.read(&mut self.buffer[self.filled..]).await?;
            if read == 0 {
                let between = self.filled == 0;
                let torn = || Error::new(ErrorKind::UnexpectedEof, "closed within a message");
                return if between { Ok(None) } else { Err(torn()) };
            }
            self.filled += read;
        }
    }
}

fn response_head(bytes: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes).map_err(|error| invalid(&error.to_string()))? {
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(size) => {
            let content_length = content_length(response.headers)?;
            let status = response.code.unwrap_or(0);
            Ok(Some(Head { size, content_length, status, path: 0..0 }))
        }
    }
}

fn request_head(bytes: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes).map_err(|error| invalid(&error.to_string()))? {
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(size) => {
            let content_length = content_length(request.headers)?;
            let from = request.method.map_or(0, str::len) + 1;
            let path = from..from + request.path.map_or(0, str::len);
            Ok(Some(Head { size, content_length, status: 0, path }))
        }
    }
}

fn content_length(headers: &[httparse::Header<'_>]) -> Result<usize> {
    let mut length = 0;
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(invalid("a body without a Content-Length"));
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let value = std::str::from_utf8(header.value).ok().and_then(|text| text.parse().ok());
            length = value.ok_or_else(|| invalid("a Content-Length that is no number"))?;
        }
    }
    Ok(length)
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("cannot read {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_once_they_are_whole() {
        let bytes = b"POST /h/3 HTTP/1.1\r\nHost: x\r\ncontent-length: 12\r\n\r\n";
        assert!(request_head(&bytes[..30]).is_ok_and(|head| head.is_none()));
        let head = request_head(bytes).ok().flatten().expect("a whole head");
        assert_eq!((head.size, head.content_length), (bytes.len(), 12));
        assert_eq!(&bytes[head.path], b"/h/3");
        let response = response_head(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}");
        assert_eq!(response.ok().flatten().map(|head| head.status), Some(202));
    }

    #[test]
    fn a_chunked_body_is_an_error_and_not_an_empty_body() {
        assert!(response_head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
