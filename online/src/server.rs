//! The server as a process of its own, and the calls that these checks make to it.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Failure;
use crate::wire::{Kind, Message, Wire};

const START: Duration = Duration::from_secs(30);
/// More than the server's own grace.
const STOP: Duration = Duration::from_secs(40);

#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Server {
    /// Starts it in an empty directory, without settings from the environment, and waits for the line that says where
    /// it listens. Its log goes to our stderr.
    pub(crate) fn start(binary: &Path, more: &[&str]) -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| format!("cannot start {}: {error}", binary.display());
        let directory = tempfile::tempdir().map_err(cannot)?;
        let database = format!("sqlite://{}", directory.path().join("online.db").display());
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("WEBHOOK_") || text == "DATABASE_URL" || text == "REDIS_URL" {
                command.env_remove(&name);
            }
        }
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--database-url", &database])
            .args(["--allow-cidr", "127.0.0.0/8", "--log", "warn"])
            .args(more)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(cannot)?;
        let (found, listening) = mpsc::channel();
        let stdout = child.stdout.take().ok_or("the server has no stdout")?;
        std::thread::spawn(move || {
            // Read to the end, so that the server never waits for a full pipe.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) = listening_address(&line) {
                    let _ = found.send(address);
                }
            }
        });
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { child, address: unknown, directory };
        server.address = listening
            .recv_timeout(START)
            .map_err(|_| "the server did not say where it listens; its log is above".to_owned())?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its file is; removed with it.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn connect(&self) -> Result<Api, Failure> {
        let wire = TcpStream::connect(self.address).and_then(Wire::new).and_then(Wire::impatient);
        let wire = wire.map_err(|error| format!("cannot connect to {}: {error}", self.address))?;
        Ok(Api { address: self.address, wire })
    }

    /// SIGTERM; it must end by itself and with 0.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        // The shell's own `kill`: std cannot send SIGTERM.
        let kill = format!("kill -TERM {}", self.child.id());
        let asked = Command::new("sh").args(["-c", &kill]).status();
        if !asked.is_ok_and(|status| status.success()) {
            return Err("the server had ended before it was asked to".to_owned());
        }
        let until = Instant::now() + STOP;
        while Instant::now() < until {
            match self.child.try_wait() {
                // verify: allow(sleep): polls, with a deadline, for a process that std can only wait for without one
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("the server stopped with {status}, not with 0")),
                Err(error) => return Err(format!("cannot watch the server: {error}")),
            }
        }
        Err(format!("the server did not stop within {STOP:?} of SIGTERM"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` it is gone already, and this finds nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in `… listening on http://127.0.0.1:40123 (…)`.
fn listening_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    rest.split([' ', '/', ',']).next()?.parse().ok()
}

#[derive(Debug)]
pub(crate) struct Api {
    address: SocketAddr,
    wire: Wire,
}

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// The server's answer to a call.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| format!("an answer that is no JSON: {error}"))
    }

    /// The id of an event that was accepted for one subscription and is new.
    pub(crate) fn accepted_id(&self) -> Result<String, Failure> {
        let body = self.json()?;
        let accepted = self.status == 202 && body["delivery_count"] == 1 && body["duplicate"] == false;
        match body["id"].as_str() {
            Some(id) if accepted => Ok(id.to_owned()),
            _ => Err(format!("was answered with {}: {body}", self.status)),
        }
    }
}

impl Api {
    /// A subscription for what GitHub sends, which signs with a secret of its own as Standard Webhooks asks.
    pub(crate) fn subscribe(&mut self, target: &str, github_secret: &str) -> Result<Subscription, Failure> {
        let draft = json!({
            "target_url": target,
            "verify": {"scheme": "github", "secret": github_secret},
        });
        let answer = self.post("/subscriptions", "", draft.to_string().as_bytes())?;
        let created = answer.json()?;
        let text = |field: &str| created[field].as_str().map(str::to_owned);
        match (answer.status, text("id"), text("secret")) {
            (201, Some(id), Some(secret)) => Ok(Subscription { id, secret }),
            _ => Err(format!("creating a subscription was answered with {}: {created}", answer.status)),
        }
    }

    /// As GitHub calls: the signature in its header, the event's name in another and as the event type.
    pub(crate) fn ingest(
        &mut self,
        subscription: &str,
        event: &str,
        payload: &[u8],
        signature: &str,
    ) -> Result<Answer, Failure> {
        let headers = format!("x-github-event: {event}\r\nx-hub-signature-256: {signature}\r\n");
        self.post(&format!("/ingest/{subscription}?event_type={event}"), &headers, payload)
    }

    fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Result<Answer, Failure> {
        let head = format!(
            "POST /api/v1{path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{headers}\r\n",
            self.address,
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        let answer = self.wire.write(&request).and_then(|()| self.wire.read(Kind::Response));
        match answer {
            Ok(Some(Message { status, body, .. })) => Ok(Answer { status, body }),
            Ok(None) => Err(format!("POST {path}: closed without an answer")),
            Err(error) => Err(format!("POST {path}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_event_with_its_one_delivery_counts_as_accepted() {
        let answer = |status, body: &str| Answer { status, body: body.as_bytes().to_vec() };
        let accepted = answer(202, r#"{"id":"e","delivery_count":1,"duplicate":false}"#);
        assert_eq!(accepted.accepted_id().as_deref(), Ok("e"));
        assert!(answer(202, r#"{"id":"e","delivery_count":0,"duplicate":false}"#).accepted_id().is_err());
        assert!(answer(202, r#"{"id":"e","delivery_count":1,"duplicate":true}"#).accepted_id().is_err());
        assert!(answer(401, r#"{"status":401}"#).accepted_id().is_err());
    }
}
