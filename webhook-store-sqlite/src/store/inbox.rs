//! The inbox: events that applications inserted in transactions of their own.
//!
//! [`SqliteStore::publish_in`] and the plain `INSERT` of the README write rows; the store reads them in the
//! order of their numbers and deletes what is published. It says of a row why it cannot be published, and
//! then keeps it until a person deletes it. The constraints of the table see to it that every row can be
//! read; whether it can be published is found out by publishing it.

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, TypeInfo as _, ValueRef as _};
use webhook_core::error::BackendError;
use webhook_core::id::EventId;
use webhook_core::model::Tenant;
use webhook_core::store::{Inbox, InboxEvent, InboxId, InboxOutcome, Page, PageRequest, RejectedEvent};
use webhook_core::time::Timestamp;

use crate::codec;
use crate::error::Fault;
use crate::open::SqliteStore;
use crate::writer::Tx;

impl SqliteStore {
    /// Publishes inside a transaction of the application's, on its own connection to the same file: one row
    /// is inserted into `webhooks_inbox`. When the transaction commits, the event is published under the
    /// returned id; when it is rolled back, it never was. No store need be open in this process: any process
    /// that can open the file may do it.
    ///
    /// A running engine publishes committed rows at its next reconcile period, or at once after
    /// `Webhooks::wake()` in its own process. Rows are published in the order of their insertion. Nothing is
    /// checked here but what the table's constraints check; what cannot be published (an event type that is
    /// none, an idempotency key used for another request) is rejected later, and stays visible in
    /// [`inbox_rejected`](Inbox::inbox_rejected). [`NewEvent::only`](webhook_core::model::NewEvent::only) is
    /// left out.
    ///
    /// # Keep the transaction short
    /// SQLite has one writer a file. From its first write to its end, this transaction keeps every other
    /// writer waiting, the store included: publishes, results and claims of all lanes. The store waits up to
    /// its [`busy_timeout`](crate::SqliteOptions::busy_timeout), and then answers
    /// [`Unavailable`](webhook_core::error::BackendErrorKind::Unavailable), loses nothing and tries again.
    /// Readers wait for nobody, and a transaction that only reads delays nobody. Begin with
    /// `BEGIN IMMEDIATE` when it reads before it writes, and give the connection a busy timeout: the store
    /// writes too.
    ///
    /// # Without this function
    /// Any language, ORM or version of sqlx can publish by this (SQLite 3.37 or later, for `STRICT` tables):
    ///
    /// ```sql
    /// INSERT INTO webhooks_inbox (event_type, payload) VALUES ('order.created', '{"id":42}');
    /// ```
    ///
    /// The crate's README lists the other columns and their defaults.
    ///
    /// # Errors
    /// When the row cannot be inserted: there is no such table, or another connection holds the file's write
    /// lock for longer than this connection waits.
    ///
    /// # Cancel safety
    /// Not more than any statement of the transaction: roll it back when this future was dropped.
    ///
    /// ```
    /// use webhook_core::model::NewEvent;
    /// use webhook_store_sqlite::{SqliteOptions, SqliteStore, sqlx};
    /// use sqlx::Connection as _;
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("app.db");
    /// # let store = SqliteStore::open(SqliteOptions::new(&path)).await?;
    /// # let mut conn = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await?;
    /// # sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY)").execute(&mut conn).await?;
    /// let mut tx = conn.begin().await?;
    /// sqlx::query("INSERT INTO orders (id) VALUES (42)").execute(&mut *tx).await?;
    /// let event = NewEvent::json("order.created", r#"{"id":42}"#);
    /// let id = SqliteStore::publish_in(&mut tx, event).await?;
    /// tx.commit().await?;
    /// # use webhook_core::store::Inbox as _;
    /// # assert_eq!(store.inbox_take(10).await?[0].id, id);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn publish_in(
        conn: &mut SqliteConnection,
        event: impl Into<InboxEvent>,
    ) -> Result<EventId, BackendError> {
        let event = event.into();
        sqlx::query(
            "INSERT INTO webhooks_inbox (id, tenant, event_type, payload, content_type, ordering_key,
                 deliver_at, idempotency_key, traceparent)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(event.id.to_string())
        .bind(event.tenant)
        .bind(event.event_type)
        .bind(event.payload.to_vec())
        .bind(event.content_type.to_string())
        .bind(event.ordering_key)
        .bind(event.deliver_at.map(Timestamp::as_micros))
        .bind(event.idempotency_key)
        .bind(event.traceparent)
        .execute(conn)
        .await
        .map_err(|error| Fault::from(error).during("publish_in"))?;
        Ok(event.id)
    }
}

#[async_trait]
impl Inbox for SqliteStore {
    async fn inbox_take(&self, limit: u32) -> Result<Vec<InboxEvent>, BackendError> {
        take(self, limit).await.map_err(|fault| fault.during("inbox_take"))
    }

    async fn inbox_settle(&self, outcomes: &[(InboxId, InboxOutcome)]) -> Result<(), BackendError> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let outcomes = outcomes.to_vec();
        self.writer.run("inbox_settle", move |tx| settle(tx, outcomes).boxed()).await
    }

    async fn inbox_rejected(
        &self,
        tenant: Option<&Tenant>,
        page: PageRequest<EventId>,
    ) -> Result<Page<RejectedEvent, EventId>, BackendError> {
        rejected(self, tenant, page).await.map_err(|fault| fault.during("inbox_rejected"))
    }

    async fn inbox_delete(&self, tenant: Option<&Tenant>, id: EventId) -> Result<bool, BackendError> {
        let tenant = tenant.cloned();
        self.writer.run("inbox_delete", move |tx| delete(tx, tenant, id).boxed()).await
    }
}

async fn take(store: &SqliteStore, limit: u32) -> Result<Vec<InboxEvent>, Fault> {
    let mut conn = store.reader().await?;
    let rows = sqlx::query(
        "SELECT * FROM webhooks_inbox INDEXED BY webhooks_inbox_waiting
         WHERE problem IS NULL ORDER BY number LIMIT ?",
    )
    .bind(limit)
    .fetch_all(&mut *conn)
    .await?;
    rows.iter().map(event).collect()
}

fn event(row: &SqliteRow) -> Result<InboxEvent, Fault> {
    Ok(InboxEvent {
        row: codec::int(row, "number")?,
        id: id(row)?,
        tenant: codec::text(row, "tenant")?.to_owned(),
        event_type: codec::text(row, "event_type")?.to_owned(),
        content_type: codec::text(row, "content_type")?.into(),
        payload: Bytes::copy_from_slice(bytes(row, "payload")?),
        ordering_key: codec::optional(row, "ordering_key")?,
        deliver_at: codec::optional_moment(row, "deliver_at")?,
        idempotency_key: codec::optional(row, "idempotency_key")?,
        traceparent: codec::optional(row, "traceparent")?,
    })
}

/// A value that is text or a blob.
fn bytes<'r>(row: &'r SqliteRow, column: &'static str) -> Result<&'r [u8], Fault> {
    let is_text = row.try_get_raw(column)?.type_info().name() == "TEXT";
    if is_text { Ok(codec::text(row, column)?.as_bytes()) } else { codec::blob(row, column) }
}

/// An id in any of the spellings that the table takes.
fn id(row: &SqliteRow) -> Result<EventId, Fault> {
    let bytes = bytes(row, "id")?;
    if bytes.len() == 16 {
        return EventId::from_slice(bytes).map_err(|error| Fault::corrupt("id", error));
    }
    let text = codec::text(row, "id")?.replace('-', "");
    let number = u128::from_str_radix(&text, 16).map_err(|error| Fault::corrupt("id", error))?;
    EventId::from_slice(&number.to_be_bytes()).map_err(|error| Fault::corrupt("id", error))
}

async fn settle(tx: &mut Tx<'_>, outcomes: Vec<(InboxId, InboxOutcome)>) -> Result<(), Fault> {
    tx.begin().await?;
    for (number, outcome) in outcomes {
        match outcome {
            InboxOutcome::Published => {
                sqlx::query("DELETE FROM webhooks_inbox WHERE number = ?")
                    .bind(number)
                    .execute(&mut *tx.conn)
                    .await?;
            }
            InboxOutcome::Rejected(problem) => reject(tx, number, &problem).await?,
        }
    }
    Ok(())
}

/// Keeps a row with its problem. Its id gets the one spelling by which rejected rows are listed.
async fn reject(tx: &mut Tx<'_>, number: InboxId, problem: &str) -> Result<(), Fault> {
    let row = sqlx::query("SELECT id FROM webhooks_inbox WHERE number = ?")
        .bind(number)
        .fetch_optional(&mut *tx.conn)
        .await?;
    let Some(row) = row else { return Ok(()) };
    sqlx::query("UPDATE webhooks_inbox SET problem = ?, id = ? WHERE number = ?")
        .bind(problem)
        .bind(&id(&row)?.as_bytes()[..])
        .bind(number)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

async fn rejected(
    store: &SqliteStore,
    tenant: Option<&Tenant>,
    page: PageRequest<EventId>,
) -> Result<Page<RejectedEvent, EventId>, Fault> {
    let mut conn = store.reader().await?;
    // Rows of one id are one event, told by its last row.
    let rows = sqlx::query(
        "SELECT max(number), id, tenant, event_type, problem, created_at
         FROM webhooks_inbox INDEXED BY webhooks_inbox_rejected
         WHERE problem IS NOT NULL AND (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR id < ?2)
         GROUP BY id ORDER BY id DESC LIMIT ?3",
    )
    .bind(tenant.map(Tenant::as_str))
    .bind(page.before.as_ref().map(|before| &before.as_bytes()[..]))
    .bind(i64::from(page.limit) + 1)
    .fetch_all(&mut *conn)
    .await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in &rows {
        items.push(RejectedEvent {
            id: codec::event_id(row, "id")?,
            tenant: codec::text(row, "tenant")?.to_owned(),
            event_type: codec::text(row, "event_type")?.to_owned(),
            problem: codec::text(row, "problem")?.to_owned(),
            created_at: codec::moment(row, "created_at")?,
        });
    }
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(|event| event.id) } else { None };
    Ok(Page { items, next })
}

async fn delete(tx: &mut Tx<'_>, tenant: Option<Tenant>, id: EventId) -> Result<bool, Fault> {
    tx.begin().await?;
    let done = sqlx::query(
        "DELETE FROM webhooks_inbox WHERE problem IS NOT NULL AND id = ?1 AND (?2 IS NULL OR tenant = ?2)",
    )
    .bind(&id.as_bytes()[..])
    .bind(tenant.as_ref().map(Tenant::as_str))
    .execute(&mut *tx.conn)
    .await?;
    Ok(done.rows_affected() > 0)
}
