//! Holds a running server against what others have written: every example payload that GitHub documents is sent as
//! GitHub would send it, and schemathesis asks what the server's own OpenAPI document says. `cargo xtask test-online`
//! fetches both and starts this.
//!
//! Not a `#[test]`: it needs what a package registry gives, and a test that passes because it could not run would be
//! worse than none. It knows the server by its command line and its HTTP API alone.
//!
//! For each example: `POST /ingest/{subscription}` with the bytes as the package has them, `X-Hub-Signature-256` made
//! from the shared secret, and the event's name as the event type. The target must get the same bytes, with the event's
//! id, its type, and a signature that the reference library of Standard Webhooks accepts (promise 9). A wrong signature
//! must be refused with 401.
//!
//! | module | owes |
//! |---|---|
//! | [`examples`] | the payloads, byte for byte |
//! | [`schema`] | the run of schemathesis |
//! | [`server`] | the server's process and calls to its API |
//! | [`target`] | what arrived |
//! | [`wire`] | HTTP/1.1 messages on a blocking socket |

#![allow(clippy::print_stdout, reason = "a command line tool talks on stdout")]

mod examples;
mod schema;
mod server;
mod target;
mod wire;

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use standardwebhooks::Webhook;

use crate::examples::Example;
use crate::server::Server;
use crate::target::{Delivered, Target};

/// What went wrong, as a sentence for a person.
type Failure = String;

const GITHUB_SECRET: &str = "It's a Secret to Everybody";
/// For all deliveries to arrive once the last example was accepted.
const DEADLINE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match run() {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("webhook-online: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--server", server, "--examples", folder] => check(server.as_ref(), folder.as_ref()),
        ["--server", server, "--schemathesis", program, "--settings", folder] => {
            schema::check(server.as_ref(), program.as_ref(), folder.as_ref())
        }
        _ => Err(
            "usage: webhook-online --server BINARY (--examples FOLDER | --schemathesis PROGRAM --settings FOLDER)"
                .to_owned(),
        ),
    }
}

fn check(binary: &std::path::Path, folder: &std::path::Path) -> Result<String, Failure> {
    let started = Instant::now();
    let examples = examples::read(folder)?;
    let target = Target::start()?;
    let server = Server::start(binary, &[])?;
    let mut api = server.connect()?;
    let subscription = api.subscribe(&target.url(), GITHUB_SECRET)?;

    let first = examples.first().ok_or("the package holds no example")?;
    let refused = api.ingest(&subscription.id, &first.event, &first.payload, &signed("wrong", first)?)?;
    if refused.status != 401 {
        return Err(format!("a wrong signature was answered with {}, not 401", refused.status));
    }

    let mut sent: HashMap<String, &Example> = HashMap::new();
    for example in &examples {
        let signature = signed(GITHUB_SECRET, example)?;
        let answer = api.ingest(&subscription.id, &example.event, &example.payload, &signature)?;
        let id = answer.accepted_id().map_err(|problem| format!("{}: {problem}", example.place))?;
        if sent.insert(id.clone(), example).is_some() {
            return Err(format!("{}: the event id {id} was given twice", example.place));
        }
    }
    target.wait_for(examples.len(), DEADLINE);
    drop(api);
    // Looked at only now: a duplicate that comes last is one too.
    server.stop()?;
    compare(&sent, &target.delivered(), &subscription.secret)?;
    let bytes: usize = examples.iter().map(|example| example.payload.len()).sum();
    Ok(format!(
        "{} example payloads ({} KiB) arrived byte for byte and signed, after {:.1} s",
        examples.len(),
        bytes / 1024,
        started.elapsed().as_secs_f64()
    ))
}

/// The value of `X-Hub-Signature-256`, made here and not by the code under test.
fn signed(secret: &str, example: &Example) -> Result<String, Failure> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|error| format!("cannot sign: {error}"))?;
    mac.update(&example.payload);
    Ok(format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
}

/// Every example once, with its own bytes and a good signature; all that is wrong is told, up to a screenful.
fn compare(sent: &HashMap<String, &Example>, delivered: &[Delivered], secret: &str) -> Result<(), Failure> {
    let verifier = Webhook::new(secret).map_err(|error| format!("the secret cannot verify: {error}"))?;
    let mut wrong = Vec::new();
    let mut times: HashMap<&str, usize> = HashMap::new();
    for delivery in delivered {
        let id = delivery.header("webhook-id");
        let Some(example) = sent.get(id) else {
            wrong.push(format!("a delivery with the unknown webhook-id `{id}`"));
            continue;
        };
        *times.entry(id).or_default() += 1;
        if delivery.body != example.payload {
            wrong.push(format!("{}: the bytes are not those that were sent", example.place));
        }
        if delivery.header("webhook-event-type") != example.event {
            wrong.push(format!("{}: another event type", example.place));
        }
        if let Err(error) = verifier.verify(&delivery.body, &delivery.headers) {
            wrong.push(format!("{}: the signature is not good: {error}", example.place));
        }
    }
    for (id, example) in sent {
        match times.get(id.as_str()) {
            Some(1) => {}
            Some(times) => wrong.push(format!("{}: arrived {times} times", example.place)),
            None => wrong.push(format!("{}: did not arrive", example.place)),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let count = wrong.len();
    wrong.truncate(20);
    Err(format!("{count} things are wrong, among them:\n  {}", wrong.join("\n  ")))
}
