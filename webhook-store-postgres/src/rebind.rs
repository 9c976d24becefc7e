//! Moving a database from one kind of queue to the other.
//!
//! The store is the authority on what is unfinished, so nothing is carried over from the old queue: the new one
//! is filled from the store. The database says that it is the new one's only when all of that is done, so a
//! move that stopped half-way is begun again.

use futures::FutureExt as _;
use sqlx::{Executor as _, PgConnection};
use uuid::Uuid;
use webhook_core::error::BackendError;
use webhook_core::id::DeliveryId;
use webhook_core::queue::NewJob;

use crate::config::PgOptions;
use crate::connection::{Connections, Connector, Role, begin, commit};
use crate::error::Fault;
use crate::migrate;
use crate::open::PgStore;
use crate::queue::{self, Queue};
use crate::sql;
use crate::store::{lane_settings, owed};

/// Jobs and lanes of one transaction.
const STEP: u32 = 1_000;

impl PgStore {
    /// Makes the database's own queue its queue, or another one, as [`PgOptions::own_queue`] says, and raises its
    /// epoch. **Every process that uses the database must be stopped**: one that runs on would go on with the
    /// old queue.
    ///
    /// Jobs of the database's own queue are made anew from the store, or deleted. Another queue fills itself:
    /// its reconciler is told by the epoch that it must.
    ///
    /// # Errors
    /// As of [`open`](Self::open). Begun again, it goes on.
    pub async fn move_queue(options: PgOptions) -> Result<(), BackendError> {
        let connector = Connector::new(&options);
        migrate::bring_up_to_date(&connector, options.migrate).await?;
        let people = Connections::new(connector.clone(), Role::People, 1);
        let queue = std::sync::Arc::new(Queue::new(&connector, std::sync::Arc::new(people)));
        let conns = Connections::new(connector, Role::Engine, 1);
        conns.run("move_queue", &(), |conn, ()| clear(conn).boxed()).await?;
        if options.own_queue {
            let mut after = Uuid::nil();
            loop {
                let args = (after, queue.default_limit());
                let last = conns
                    .run("move_queue", &args, |conn, (after, limit)| lanes(conn, *after, *limit).boxed());
                let Some(last) = last.await? else { break };
                after = last;
            }
            let mut after = None;
            loop {
                let args = (after, std::sync::Arc::clone(&queue));
                let last =
                    conns.run("move_queue", &args, |conn, (after, queue)| jobs(conn, *after, queue).boxed());
                let Some(last) = last.await? else { break };
                after = Some(last);
            }
        }
        let kind = if options.own_queue { "database" } else { "other" };
        conns.run("move_queue", kind, |conn, kind| rebind(conn, kind).boxed()).await
    }
}

async fn clear(conn: &mut PgConnection) -> Result<(), Fault> {
    conn.execute("TRUNCATE jobs, lanes, wakes").await?;
    Ok(())
}

/// Sets the next lanes. Answers with the last of them.
async fn lanes(conn: &mut PgConnection, after: Uuid, limit: u32) -> Result<Option<Uuid>, Fault> {
    let rows =
        sqlx::query(sql::NEXT_SUBSCRIPTIONS).bind(after).bind(i64::from(STEP)).fetch_all(&mut *conn).await?;
    let settings = rows.iter().map(lane_settings).collect::<Result<Vec<_>, _>>()?;
    if !settings.is_empty() {
        queue::configure(conn, &settings, limit).await?;
    }
    Ok(settings.last().map(|settings| settings.lane.as_uuid()))
}

/// Adds the next jobs. Answers with the last of them.
async fn jobs(
    conn: &mut PgConnection,
    after: Option<DeliveryId>,
    queue: &std::sync::Arc<Queue>,
) -> Result<Option<DeliveryId>, Fault> {
    let page = owed(conn, after, STEP).await?;
    let new: Vec<NewJob> = page
        .iter()
        .map(|owed| NewJob {
            id: owed.id,
            lane: owed.lane,
            wait: owed.wait,
            lane_version: 0,
            urgent: owed.urgent,
        })
        .collect();
    begin(conn).await?;
    queue::add(conn, &new, None, &mut queue.after()).await?;
    commit(conn).await?;
    Ok(new.last().map(|job| job.id))
}

async fn rebind(conn: &mut PgConnection, kind: &str) -> Result<(), Fault> {
    sqlx::query(sql::REBIND_QUEUE).bind(kind).execute(conn).await?;
    Ok(())
}
