//! `webhook-server migrate`: brings the schema up to date and ends.
//!
//! For whoever lets servers start with `--migrate=false`: one process with the right to change tables runs this, and
//! those that serve need no such right. Run twice, or by several at once, it changes the schema once.

use crate::backend::Database;
use crate::config::{MigrateConfig, QueueKind};
use crate::logging;
use crate::report::Failure;
use crate::service::block_on;
use crate::terminal::{Screen, escaped};

/// Migrates, and says so on stdout.
///
/// # Errors
/// When the database cannot be opened or brought up to date.
pub(crate) fn run(config: MigrateConfig) -> Result<(), Failure> {
    let MigrateConfig { database, queue, log_format, log } = config;
    if matches!(database, Database::Memory) {
        return Err(Failure::Usage(
            "--database-url memory: keeps nothing, so there is nothing to migrate".into(),
        ));
    }
    logging::init(log_format, log);
    block_on(async {
        let shown = escaped(&database.to_string()).to_string();
        let line = if let Some(kind) = queue {
            let moved = database.move_queue(kind).await;
            moved.map_err(|error| Failure::cannot_open(&database, &error))?;
            match kind {
                QueueKind::Database => {
                    format!("{shown} is its own queue now; start the nodes without --redis-url")
                }
                QueueKind::Redis => {
                    format!("the queue of {shown} is Redis now; start the nodes with --redis-url")
                }
            }
        } else {
            database.migrate().await.map_err(|error| Failure::cannot_open(&database, &error))?;
            format!("the schema of {shown} is up to date")
        };
        // It is so whether or not somebody reads it.
        let _ = Screen::stdout().line(line);
        Ok(())
    })
}
