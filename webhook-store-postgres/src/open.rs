//! Opening a database, and the store that it gives.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt as _;
use sqlx::PgConnection;
use webhook_core::error::BackendError;

use crate::config::PgOptions;
use crate::connection::{Connections, Connector, Role};
use crate::error::Fault;
use crate::migrate;
use crate::queue::Queue;
use crate::sql;
use crate::store::Relay;

/// A store in a PostgreSQL database, with its queue unless it was opened for another. Cheap to clone.
#[derive(Clone)]
pub struct PgStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) connector: Connector,
    /// Jobs are kept in this database.
    pub(crate) own_queue: bool,
    /// Stores events.
    pub(crate) committer: Connections,
    /// Records results.
    pub(crate) recorder: Connections,
    /// Loads what workers have claimed.
    pub(crate) loader: Connections,
    /// Everything else that the engine does.
    pub(crate) keeper: Connections,
    /// Reads for people.
    pub(crate) people: Arc<Connections>,
    pub(crate) relay: Relay,
    pub(crate) queue: Arc<Queue>,
}

impl fmt::Debug for PgStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgStore").field("schema", &self.inner.connector.schema()).finish_non_exhaustive()
    }
}

impl PgStore {
    /// Connects to the database and brings the schema up to date.
    ///
    /// The first store that is opened says which kind of queue serves the database; from then on one that is
    /// opened for the other kind is refused, because it would not see the jobs.
    ///
    /// # Errors
    /// [`Misconfigured`](webhook_core::error::BackendErrorKind::Misconfigured) when the server refuses the
    /// user, is older than PostgreSQL 14, has the schema of another version, or another kind of queue serves
    /// the database; others when it cannot be reached.
    pub async fn open(options: PgOptions) -> Result<Self, BackendError> {
        let connector = Connector::new(&options);
        migrate::bring_up_to_date(&connector, options.migrate).await?;
        let engine = |most| Connections::new(connector.clone(), Role::Engine, most);
        let people = Arc::new(Connections::new(connector.clone(), Role::People, options.readers));
        let inner = Inner {
            committer: engine(1),
            recorder: engine(1),
            loader: engine(1),
            keeper: engine(2),
            relay: Relay::new(connector.clone()),
            own_queue: options.own_queue,
            queue: Arc::new(Queue::new(&connector, Arc::clone(&people))),
            people,
            connector,
        };
        inner.keeper.run("open", &options.own_queue, |conn, own| bind(conn, *own).boxed()).await?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Brings the schema up to date and does nothing else: which kind of queue serves the database stays open.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub async fn migrate(options: PgOptions) -> Result<(), BackendError> {
        migrate::bring_up_to_date(&Connector::new(&options), true).await
    }

    /// Closes the connections. Calls that are under way end; later ones, of all clones, answer
    /// [`Unavailable`](webhook_core::error::BackendErrorKind::Unavailable).
    ///
    /// Nothing depends on it but the server's count of connections: what was acknowledged is stored. Stop the
    /// engine first (`Webhooks::shutdown`).
    pub async fn close(&self) {
        let Inner { committer, recorder, loader, keeper, people, relay, queue, .. } = &*self.inner;
        for connections in [committer, recorder, loader, keeper, &**people] {
            connections.close();
        }
        queue.close();
        relay.close().await;
    }
}

/// Says which kind of queue serves the database, or that another one does.
async fn bind(conn: &mut PgConnection, own: bool) -> Result<(), Fault> {
    let (kind, other) = if own { ("database", "another queue") } else { ("other", "its own queue") };
    let bound: String = sqlx::query_scalar(sql::BIND_QUEUE).bind(kind).fetch_one(conn).await?;
    if bound == kind {
        return Ok(());
    }
    Err(Fault::Misconfigured(format!(
        "the database is served by {other}: open it for that one, or move it first, with every process stopped"
    )))
}
