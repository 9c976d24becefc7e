//! The load: so many requests at once over kept-alive connections, at full speed or at a pace.
//!
//! Each connection has one request under way at a time. An answer that is not the expected status fails the run: the
//! load never repeats a request, since a repeat could hide a loss.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::http1::Connection;
use crate::{Failure, payload};

/// What one request looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The payload itself, straight to the receiver.
    Raw,
    /// One event: `POST /api/v1/events`.
    One,
    /// This many events: `POST /api/v1/events/batch`.
    Batch(usize),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) to: SocketAddr,
    pub(crate) shape: Shape,
    /// Event numbers: from, and how many.
    pub(crate) first: usize,
    pub(crate) events: usize,
    pub(crate) concurrency: usize,
    /// Requests a second over all connections; none: as fast as they are answered.
    pub(crate) pace: Option<u32>,
    pub(crate) event_type: &'static str,
    /// None: the server's default one.
    pub(crate) tenant: Option<&'static str>,
}

impl Shape {
    fn events(self) -> usize {
        match self {
            Self::Raw | Self::One => 1,
            Self::Batch(events) => events,
        }
    }
}

impl Load {
    /// Sends it all and returns how long each acknowledgement took, in nanoseconds.
    pub(crate) async fn run(self) -> Result<Vec<u64>, Failure> {
        let next = Arc::new(AtomicUsize::new(0));
        let requests = self.events.div_ceil(self.shape.events());
        let mut opened = Vec::new();
        for _ in 0..self.concurrency.min(requests) {
            let connection = Connection::open(self.to).await;
            opened.push(connection.map_err(|error| format!("cannot connect to {}: {error}", self.to))?);
        }
        let start = tokio::time::Instant::now();
        let mut running = JoinSet::new();
        for connection in opened {
            running.spawn(self.one_connection(connection, Arc::clone(&next), start));
        }
        let mut acknowledged = Vec::with_capacity(requests);
        while let Some(ended) = running.join_next().await {
            acknowledged.extend(ended.map_err(|error| format!("the load broke: {error}"))??);
        }
        Ok(acknowledged)
    }

    async fn one_connection(
        self,
        mut connection: Connection,
        next: Arc<AtomicUsize>,
        start: tokio::time::Instant,
    ) -> Result<Vec<u64>, Failure> {
        let mut took = Vec::new();
        let (mut request, mut body) = (Vec::new(), Vec::new());
        loop {
            let at = next.fetch_add(1, Relaxed);
            let from = at * self.shape.events();
            if from >= self.events {
                return Ok(took);
            }
            let count = self.shape.events().min(self.events - from);
            let sent = self.pause(at, start).await;
            body.clear();
            self.write_body(self.first + from, count, sent, &mut body);
            request.clear();
            self.write_head(body.len(), &mut request);
            request.extend_from_slice(&body);
            let (status, answer) = connection
                .request(&request)
                .await
                .map_err(|error| format!("request {at} to {}: {error}", self.to))?;
            took.push(payload::now().saturating_sub(sent));
            if status != self.expected_status() {
                let answer = String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
                return Err(format!("request {at} was answered with {status}: {answer}"));
            }
        }
    }

    /// Waits for the request's turn and says when it counts as sent: when it was due, if it is late by more than the
    /// timer's grain, so that a server which holds up the load is not flattered.
    async fn pause(&self, at: usize, start: tokio::time::Instant) -> u64 {
        const GRAIN: Duration = Duration::from_millis(2);
        let Some(pace) = self.pace else { return payload::now() };
        let due = start + Duration::from_secs_f64(at as f64 / f64::from(pace));
        tokio::time::sleep_until(due).await;
        let late = due.elapsed();
        let waited = if late > GRAIN { late.as_nanos() } else { 0 };
        payload::now().saturating_sub(u64::try_from(waited).unwrap_or(u64::MAX))
    }

    fn expected_status(&self) -> u16 {
        if self.shape == Shape::Raw { 200 } else { 202 }
    }

    fn write_head(&self, length: usize, out: &mut Vec<u8>) {
        let path = match self.shape {
            Shape::Raw => "/h/0",
            Shape::One => "/api/v1/events",
            Shape::Batch(_) => "/api/v1/events/batch",
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n",
            self.to
        );
        out.extend_from_slice(head.as_bytes());
    }

    fn write_body(&self, first: usize, count: usize, sent: u64, out: &mut Vec<u8>) {
        let event = |number: usize, out: &mut Vec<u8>| {
            out.extend_from_slice(b"{\"event_type\":\"");
            out.extend_from_slice(self.event_type.as_bytes());
            if let Some(tenant) = self.tenant {
                out.extend_from_slice(b"\",\"tenant\":\"");
                out.extend_from_slice(tenant.as_bytes());
            }
            out.extend_from_slice(b"\",\"payload\":");
            payload::write(number, sent, out);
            out.push(b'}');
        };
        match self.shape {
            Shape::Raw => payload::write(first, sent, out),
            Shape::One => event(first, out),
            Shape::Batch(_) => {
                out.extend_from_slice(b"{\"events\":[");
                for number in first..first + count {
                    if number > first {
                        out.push(b',');
                    }
                    event(number, out);
                }
                out.extend_from_slice(b"]}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_json_with_every_payload_in_it() {
        let to = SocketAddr::from(([127, 0, 0, 1], 1));
        let load = Load {
            to,
            shape: Shape::Batch(3),
            first: 0,
            events: 3,
            concurrency: 1,
            pace: None,
            event_type: "bench.event",
            tenant: Some("other"),
        };
        let mut body = Vec::new();
        load.write_body(5, 3, 1, &mut body);
        let value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(value["events"].as_array().map(Vec::len), Some(3));
        assert_eq!(value["events"][0]["tenant"], "other");
        assert_eq!(value["events"][2]["payload"]["number"], "00000000000000000007");
    }
}
