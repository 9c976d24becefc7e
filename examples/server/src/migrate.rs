//! `webhook-server migrate`: brings the schema up to date and ends.
//!
//! For whoever lets servers start with `--migrate=false`: one process with the right to change tables runs this, and
//! those that serve need no such right. Run twice, or by several at once, it changes the schema once.

use crate::backend::{Backend, Database};
use crate::config::{MigrateConfig, Role};
use crate::logging;
use crate::report::Failure;
use crate::service::block_on;
use crate::terminal::{Screen, escaped};

/// Migrates, and says so on stdout.
///
/// # Errors
/// When the database cannot be opened or brought up to date.
pub(crate) fn run(config: MigrateConfig) -> Result<(), Failure> {
    let MigrateConfig { database, log_format, log } = config;
    if matches!(database, Database::Memory) {
        return Err(Failure::Usage(
            "--database-url memory: keeps nothing, so there is nothing to migrate".into(),
        ));
    }
    logging::init(log_format, log);
    block_on(async {
        let opened = Backend::open(&database, Role::Worker, true).await;
        opened.map_err(|error| Failure::cannot_open(&database, &error))?.close().await;
        let line = format!("the schema of {} is up to date", escaped(&database.to_string()));
        // It is up to date whether or not somebody reads so.
        let _ = Screen::stdout().line(line);
        Ok(())
    })
}
