//! Layers around all routes: a server on loopback without keys is not driven by web pages, and a panic is an
//! answer.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use url::Url;

use crate::problem::{Problem, ProblemCode};

/// Refuses what a browser sends on behalf of another site: a `Host` that is not loopback (a name that was
/// rebound to 127.0.0.1 in DNS), or the `Origin` of a page that this server did not serve.
pub(crate) async fn loopback_only(request: Request, next: Next) -> Response {
    match check(&request) {
        Ok(()) => next.run(request).await,
        Err(detail) => Problem::new(ProblemCode::Forbidden, detail).into_response(),
    }
}

fn check(request: &Request) -> Result<(), &'static str> {
    const HOSTS: &str = "without API keys this server answers only for loopback hosts, such as localhost";
    const ORIGINS: &str = "without API keys this server does not answer to pages of other origins";

    // Browsers always send a host. HTTP/2 has it in the URI.
    let host = match request.headers().get(HOST) {
        Some(host) => Some(Authority::try_from(host.as_bytes()).map_err(|_| HOSTS)?),
        None => request.uri().authority().cloned(),
    };
    if host.as_ref().is_some_and(|host| !is_loopback(host.host())) {
        return Err(HOSTS);
    }
    let Some(origin) = request.headers().get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|text| Url::parse(text).ok()).ok_or(ORIGINS)?;
    // Another port is another program's page.
    let port = host.and_then(|host| host.port_u16()).unwrap_or(80);
    let own = origin.host_str().is_some_and(is_loopback) && origin.port_or_known_default() == Some(port);
    if own { Ok(()) } else { Err(ORIGINS) }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// Answers a panic of a handler with 500 rather than with a closed connection.
pub(crate) async fn catch_panics(request: Request, next: Next) -> Response {
    let route = request.uri().path().to_owned();
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(%route, "a handler panicked");
            Problem::internal().into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(host: Option<&str>, origin: Option<&str>) -> Request {
        let mut request = Request::builder().uri("/subscriptions");
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn only_loopback_hosts_and_the_servers_own_origin_pass() {
        for (host, origin) in [
            (Some("127.0.0.1:8080"), None),
            (Some("localhost:8080"), None),
            (Some("LOCALHOST."), None),
            (Some("[::1]:8080"), None),
            (Some("127.9.9.9"), None),
            (None, None),
            (Some("127.0.0.1:8080"), Some("http://127.0.0.1:8080")),
            (Some("127.0.0.1:8080"), Some("http://localhost:8080")),
            (Some("localhost"), Some("http://localhost")),
        ] {
            assert_eq!(check(&request(host, origin)), Ok(()), "{host:?} {origin:?}");
        }
        for (host, origin) in [
            (Some("example.com"), None),
            (Some("rebound.example:8080"), None),
            (Some("127.0.0.1.example.com"), None),
            (Some("notlocalhost"), None),
            (Some("10.0.0.1:8080"), None),
            (Some("0.0.0.0:8080"), None),
            (Some(""), None),
            (Some("127.0.0.1:8080"), Some("https://example.com")),
            (Some("127.0.0.1:8080"), Some("http://localhost:3000")),
            (Some("127.0.0.1:8080"), Some("null")),
            (Some("127.0.0.1:8080"), Some("file://")),
            (Some("127.0.0.1:8080"), Some("http://127.0.0.1:8080.example.com")),
        ] {
            assert!(check(&request(host, origin)).is_err(), "{host:?} {origin:?}");
        }
    }
}
