//! HTTP/1.1 messages with a `Content-Length` on a blocking socket: all that these checks need of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// No answer takes this long; a hang must become a failure.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A request or a response.
#[derive(Debug)]
pub(crate) struct Message {
    /// Of a response; 0 of a request.
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// For a client, which must not wait for ever.
    pub(crate) fn impatient(self) -> std::io::Result<Self> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        Ok(self)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next message; none when the peer closed before its first byte.
    pub(crate) fn read(&mut self, kind: Kind) -> std::io::Result<Option<Message>> {
        let mut chunk = [0_u8; 64 << 10];
        loop {
            if let Some((message, size)) = parse(kind, &self.unread).map_err(std::io::Error::other)? {
                self.unread.drain(..size);
                return Ok(Some(message));
            }
            match self.stream.read(&mut chunk)? {
                0 if self.unread.is_empty() => return Ok(None),
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                read => self.unread.extend_from_slice(&chunk[..read]),
            }
        }
    }
}

/// A whole message at the front of the bytes, and how many of them it is.
fn parse(kind: Kind, bytes: &[u8]) -> Result<Option<(Message, usize)>, String> {
    let mut parsed = [httparse::EMPTY_HEADER; 100];
    let (size, status) = match kind {
        Kind::Request => {
            let mut request = httparse::Request::new(&mut parsed);
            (request.parse(bytes).map_err(|error| error.to_string())?, 0)
        }
        Kind::Response => {
            let mut response = httparse::Response::new(&mut parsed);
            let size = response.parse(bytes).map_err(|error| error.to_string())?;
            (size, response.code.unwrap_or(0))
        }
    };
    let httparse::Status::Complete(size) = size else { return Ok(None) };
    let mut headers = HeaderMap::new();
    for header in parsed.iter().take_while(|header| !header.name.is_empty()) {
        let name = HeaderName::try_from(header.name).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_bytes(header.value).map_err(|error| error.to_string())?;
        headers.append(name, value);
    }
    if headers.contains_key("transfer-encoding") {
        return Err("a body without a Content-Length".to_owned());
    }
    let length = match headers.get("content-length").map(HeaderValue::to_str) {
        None => 0,
        Some(text) => {
            text.ok().and_then(|text| text.parse().ok()).ok_or("a Content-Length that is no number")?
        }
    };
    let body = bytes.get(size..size.saturating_add(length)).map(<[u8]>::to_vec);
    Ok(body.map(|body| (Message { status, headers, body }, size + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_once_its_body_is_whole() {
        let bytes = b"POST /x HTTP/1.1\r\nContent-Length: 3\r\nA: b\r\n\r\nabcrest";
        assert!(parse(Kind::Request, &bytes[..46]).is_ok_and(|message| message.is_none()));
        let (message, size) = parse(Kind::Request, bytes).ok().flatten().expect("it is whole");
        assert_eq!((message.body.as_slice(), &bytes[size..]), (&b"abc"[..], &b"rest"[..]));
        assert_eq!(message.headers["a"], "b");
    }
}
