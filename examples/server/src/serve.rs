//! `webhook-server serve`: the service until a signal stops it.

use serde_json::json;
use webhook_core::time::{Clock as _, SystemClock};

use crate::config::{LogFormat, Role, ServeConfig};
use crate::report::Failure;
use crate::service::{Service, block_on};
use crate::signals::{Signals, stop_requested};
use crate::terminal::{Screen, escaped};
use crate::{logging, otlp, version};

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// When something that is needed to start is not there.
pub(crate) fn run(config: &ServeConfig) -> Result<(), Failure> {
    let exporter = otlp::Exporter::from_environment()?;
    logging::init_with(config.log_format, config.log.clone(), exporter.as_ref().map(otlp::Exporter::layer));
    // Every attempt in flight and every client is a file to the system, and the usual limit of 1,024 is less than
    // the default concurrency and its idle connections need. Where it cannot be raised, the server still works.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let result = block_on(async {
        // Caught from here on. A start may wait long, for a database that does not answer or one that is migrated.
        let mut signals = Signals::new().map_err(Failure::start)?;
        let service = tokio::select! {
            biased;
            () = stop_requested(&mut signals) => {
                tracing::info!("stopped before it had started");
                return Ok(());
            }
            started = Service::start(config) => started?,
        };
        announce(config, &service);
        stop_requested(&mut signals).await;
        let grace = config.shutdown_grace;
        tracing::info!(in_flight = service.webhooks.in_flight(), ?grace, "stopping; once more stops at once");
        service.stop(grace).await;
        tracing::info!("stopped");
        Ok(())
    });
    if let Some(exporter) = exporter {
        exporter.stop();
    }
    result
}

/// The one line that a person or a program waits for. Not a log line: a filter must not hide it.
fn announce(config: &ServeConfig, service: &Service) {
    let url = format!("http://{}", service.address);
    let database = config.database.to_string();
    let line = match config.log_format {
        LogFormat::Pretty => {
            let database = escaped(&database);
            let serves = match config.role {
                Role::All => format!("API: {url}/api/v1"),
                Role::Api => format!("role: api, API: {url}/api/v1"),
                Role::Worker => "role: worker".to_owned(),
            };
            format!("webhook-server {} listening on {url} ({serves}, database: {database})", version::LONG)
        }
        LogFormat::Json => json!({
            "timestamp": SystemClock.now(),
            "level": "INFO",
            "message": "listening",
            "url": url,
            "role": config.role.name(),
            "database": database,
            "version": version::PACKAGE,
            "build": version::LONG,
        })
        .to_string(),
    };
    // A server whose stdout is closed serves all the same.
    let _ = Screen::stdout().line(line);
}
