//! `webhook-server healthcheck`: asks a running server whether it is there, for images that have no shell and no `curl`.
//!
//! One request on a plain socket, and only the status of the answer is read. It needs no database, no keys and no
//! runtime, and ends within the time it was given whatever the server does.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::config::HealthcheckConfig;
use crate::report::Failure;
use crate::terminal::Screen;

/// A status line is shorter.
const LONGEST_LINE: usize = 1024;

/// Asks, and says what was answered.
///
/// # Errors
/// When there is no answer in time, or another one than 200.
pub(crate) fn run(config: HealthcheckConfig) -> Result<(), Failure> {
    let started = Instant::now();
    let address = asked(config.listen);
    let path = if config.ready { "/ready" } else { "/health" };
    let url = format!("http://{address}{path}");
    let status = ask(address, path, started + config.within)
        .map_err(|error| Failure::Start(format!("{url}: {}", explained(&error, config.within))))?;
    if status != 200 {
        return Err(Failure::Start(format!("{url} answered {status}")));
    }
    // It is so whether or not somebody reads it.
    let _ =
        Screen::stdout().line(format_args!("{url} answered 200 after {} ms", started.elapsed().as_millis()));
    Ok(())
}

/// An address that reaches a server which listens on this one.
fn asked(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The status of the answer to one request.
fn ask(address: SocketAddr, path: &str, end: Instant) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, left(end)?)?;
    stream.set_write_timeout(Some(left(end)?))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut line = Vec::new();
    let mut part = [0; 256];
    while !line.contains(&b'\n') && line.len() < LONGEST_LINE {
        stream.set_read_timeout(Some(left(end)?))?;
        let read = stream.read(&mut part)?;
        if read == 0 {
            break;
        }
        line.extend_from_slice(&part[..read]);
    }
    status(&line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

/// The status of `HTTP/1.1 200 OK`: <https://www.rfc-editor.org/rfc/rfc9112#section-4>.
fn status(line: &[u8]) -> Option<u16> {
    let end = line.iter().position(|byte| *byte == b'\n')?;
    let mut words = line[..end].split(|byte| *byte == b' ');
    words.next().filter(|version| version.starts_with(b"HTTP/1."))?;
    let code = std::str::from_utf8(words.next()?.trim_ascii()).ok()?;
    code.parse().ok().filter(|_| code.len() == 3)
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn explained(error: &io::Error, within: Duration) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        // A socket's time-out has two names, by system.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("no answer within {}", webhook_core::units::format_duration(within))
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_every_address_is_asked_on_loopback() {
        for (listen, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("10.0.0.7:80", "10.0.0.7:80"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
        ] {
            assert_eq!(asked(listen.parse().unwrap()), expected.parse().unwrap());
        }
    }

    #[test]
    fn a_status_is_read_from_a_whole_line_of_http() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\ncontent-type: x"), Some(200));
        assert_eq!(status(b"HTTP/1.1 503\r\n"), Some(503));
        for none in ["", "HTTP/1.1 200 OK", "SSH-2.0-OpenSSH_9\r\n", "HTTP/1.1 2000 OK\r\n", "HTTP/1.1\r\n"] {
            assert_eq!(status(none.as_bytes()), None, "{none:?}");
        }
    }
}
