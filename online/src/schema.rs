//! Schemathesis against a running server: requests made from the document that the server serves, good ones and bad
//! ones, each answer held against it. A 5xx, a status that is not documented, an answer that its schema does not fit, a
//! bad request that is accepted, or a route that takes no key for an answer fails the run.
//!
//! What it is told beside this is in `online/schemathesis.toml` and `online/hooks.py`. The seed is fixed, so that a
//! failure can be repeated; the number of requests is bounded, and so is the time. Where subscriptions lead is decided by
//! the hooks, so that nothing is sent to whoever owns a made-up name.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::server::Server;

const KEY: &str = "the-key-of-schemathesis";
const SEED: &str = "20261122";
/// Cases of each operation and phase.
const EXAMPLES: &str = "15";
/// For the whole run, which takes a third of it.
const DEADLINE: Duration = Duration::from_secs(240);

/// Runs it against a server of its own, by what is in this folder.
pub(crate) fn check(binary: &Path, schemathesis: &Path, folder: &Path) -> Result<String, Failure> {
    let started = Instant::now();
    let server = Server::start(binary, &["--api-key", KEY])?;
    let document = format!("http://{}/openapi.json", server.address());
    let mut run = Command::new(schemathesis)
        .args(["--no-color".as_ref(), "--config-file".as_ref(), folder.join("schemathesis.toml").as_os_str()])
        .args(["run", &document, "--header", &format!("Authorization: Bearer {KEY}")])
        .args(["--seed", SEED, "--max-examples", EXAMPLES, "--continue-on-failure"])
        .args(["--workers", "1", "--generation-database", "none"])
        .env("SCHEMATHESIS_HOOKS", folder.join("hooks.py"))
        .current_dir(server.directory())
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", schemathesis.display()))?;
    let status = loop {
        match run.try_wait() {
            Ok(Some(status)) => break status,
            // verify: allow(sleep): polls, with a deadline, for a process that std can only wait for without one
            Ok(None) if started.elapsed() < DEADLINE => std::thread::sleep(Duration::from_millis(100)),
            Ok(None) => {
                let _ = run.kill();
                let _ = run.wait();
                return Err(format!("schemathesis did not end within {DEADLINE:?}"));
            }
            Err(error) => return Err(format!("cannot watch schemathesis: {error}")),
        }
    };
    if !status.success() {
        return Err(format!("schemathesis ended with {status}; what it found is above"));
    }
    server.stop()?;
    Ok(format!("schemathesis found nothing, after {:.1} s", started.elapsed().as_secs_f64()))
}
