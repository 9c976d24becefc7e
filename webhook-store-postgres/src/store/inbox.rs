//! The inbox: events that applications inserted in transactions of their own.
//!
//! [`PgStore::publish_in`] and the plain `INSERT` of the README write rows; the store reads them in the order
//! of their numbers and deletes what is published. A number is drawn before its transaction commits, so a low
//! one may come late: a [mark](super::mark) may pass over it for a moment, never for good. The store says of a row why it cannot be published, and
//! then keeps it until a person deletes it.

use std::time::Instant;

use async_trait::async_trait;
use futures::FutureExt as _;
use sqlx::PgConnection;
use uuid::Uuid;
use webhook_core::error::BackendError;
use webhook_core::id::EventId;
use webhook_core::model::Tenant;
use webhook_core::store::{Inbox, InboxEvent, InboxId, InboxOutcome, Page, PageRequest, RejectedEvent};

use super::mark::Mark;
use crate::codec::{self, Moment};
use crate::config::{DEFAULT_SCHEMA, check_schema};
use crate::connection::{begin, commit};
use crate::error::Fault;
use crate::open::PgStore;
use crate::sql;

impl PgStore {
    /// Publishes inside a transaction of the application's, on its own connection to the same database: one
    /// row is inserted into `webhooks.inbox`. When the transaction commits, the event is published under the
    /// returned id; when it is rolled back, it never was. No store need be open in this process: any that can
    /// reach the database may do it. The row touches nothing that others wait for, however long the
    /// transaction takes.
    ///
    /// A running engine publishes committed rows at its next reconcile period, or at once after
    /// `Webhooks::wake()` in its own process. Rows are published in the order of their insertion, as far as
    /// their transactions have committed. Nothing is checked here but what the table's columns check; what
    /// cannot be published (an event type that is none, an idempotency key used for another request) is
    /// rejected later, and stays visible in [`inbox_rejected`](Inbox::inbox_rejected).
    /// [`NewEvent::only`](webhook_core::model::NewEvent::only) is left out.
    ///
    /// # Without this function
    /// Any language, ORM or version of sqlx can publish by this:
    ///
    /// ```sql
    /// INSERT INTO webhooks.inbox (event_type, payload)
    /// VALUES ('order.created', convert_to('{"id":42}', 'UTF8'));
    /// ```
    ///
    /// The crate's README lists the other columns and their defaults.
    ///
    /// # Errors
    /// When the row cannot be inserted: there is no such table, or the user may not insert into it. The
    /// transaction can then only be rolled back, as after any failed statement.
    ///
    /// # Cancel safety
    /// Not more than any statement of the transaction: roll it back when this future was dropped.
    ///
    /// ```no_run
    /// use webhook_core::model::NewEvent;
    /// use webhook_store_postgres::{PgStore, sqlx};
    /// use sqlx::Connection as _;
    ///
    /// # async fn example(mut conn: sqlx::PgConnection) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut tx = conn.begin().await?;
    /// sqlx::query("INSERT INTO orders (id) VALUES (42)").execute(&mut *tx).await?;
    /// PgStore::publish_in(&mut tx, NewEvent::json("order.created", r#"{"id":42}"#)).await?;
    /// tx.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn publish_in(
        conn: &mut PgConnection,
        event: impl Into<InboxEvent>,
    ) -> Result<EventId, BackendError> {
        Self::publish_in_schema(conn, DEFAULT_SCHEMA, event).await
    }

    /// As [`publish_in`](Self::publish_in), for a store whose tables are in another
    /// [`schema`](crate::PgOptions::schema) than `webhooks`.
    ///
    /// # Errors
    /// As of `publish_in`, and when `schema` is no name for one.
    ///
    /// # Cancel safety
    /// As of `publish_in`.
    pub async fn publish_in_schema(
        conn: &mut PgConnection,
        schema: &str,
        event: impl Into<InboxEvent>,
    ) -> Result<EventId, BackendError> {
        check_schema(schema).map_err(|fault| fault.during("publish_in"))?;
        let event = event.into();
        let sql = format!(
            "INSERT INTO \"{schema}\".inbox (id, tenant, event_type, payload, content_type, ordering_key,
                 deliver_at, idempotency_key, traceparent)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
        );
        sqlx::query(&sql)
            .bind(event.id.as_uuid())
            .bind(event.tenant)
            .bind(event.event_type)
            .bind(&event.payload[..])
            .bind(&*event.content_type)
            .bind(event.ordering_key)
            .bind(event.deliver_at.map(Moment::from))
            .bind(event.idempotency_key)
            .bind(event.traceparent)
            .execute(conn)
            .await
            .map_err(|error| Fault::from(error).during("publish_in"))?;
        Ok(event.id)
    }
}

#[async_trait]
impl Inbox for PgStore {
    async fn inbox_take(&self, limit: u32) -> Result<Vec<InboxEvent>, BackendError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        // Mostly there is nothing, and then nobody need ask who relays.
        let relay = &self.inner.relay;
        if !relay.is_ours().await {
            let args = (1, &relay.mark);
            let look = self
                .inner
                .keeper
                .run("inbox_take", &args, |conn, (one, mark)| take(conn, *one, mark).boxed());
            if look.await?.is_empty() {
                return Ok(Vec::new());
            }
        }
        relay.take(limit).await.map_err(|fault| fault.during("inbox_take"))
    }

    async fn inbox_settle(&self, outcomes: &[(InboxId, InboxOutcome)]) -> Result<(), BackendError> {
        if outcomes.is_empty() {
            return Ok(());
        }
        self.inner.keeper.run("inbox_settle", outcomes, |conn, outcomes| settle(conn, outcomes).boxed()).await
    }

    async fn inbox_rejected(
        &self,
        tenant: Option<&Tenant>,
        page: PageRequest<EventId>,
    ) -> Result<Page<RejectedEvent, EventId>, BackendError> {
        let args = (tenant, page);
        self.inner
            .people
            .run("inbox_rejected", &args, |conn, (tenant, page)| rejected(conn, *tenant, *page).boxed())
            .await
    }

    async fn inbox_delete(&self, tenant: Option<&Tenant>, id: EventId) -> Result<bool, BackendError> {
        let args = (tenant, id);
        self.inner
            .keeper
            .run("inbox_delete", &args, |conn, (tenant, id)| delete(conn, *tenant, *id).boxed())
            .await
    }
}

/// The first rows that wait, as far as the mark does not hide them; it never does so for long.
pub(super) async fn take(conn: &mut PgConnection, limit: u32, mark: &Mark) -> Result<Vec<InboxEvent>, Fault> {
    let mut rows = match mark.begin(Instant::now()) {
        Some(number) => rows_from(conn, number, limit).await?,
        None => Vec::new(),
    };
    if rows.is_empty() {
        let started = Instant::now();
        rows = rows_from(conn, i64::MIN, limit).await?;
        mark.looked(Instant::now(), started.elapsed());
    }
    if let Some(first) = rows.first() {
        mark.found(first.row);
    }
    Ok(rows)
}

async fn rows_from(conn: &mut PgConnection, number: i64, limit: u32) -> Result<Vec<InboxEvent>, Fault> {
    let rows = sqlx::query(sql::INBOX_TAKE).bind(number).bind(i64::from(limit)).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            Ok(InboxEvent {
                row: codec::get(row, "number")?,
                id: codec::event_id(row, "id")?,
                tenant: codec::text(row, "tenant")?.to_owned(),
                event_type: codec::text(row, "event_type")?.to_owned(),
                content_type: codec::text(row, "content_type")?.into(),
                payload: codec::blob(row, "payload")?.to_vec().into(),
                ordering_key: codec::optional(row, "ordering_key")?,
                deliver_at: codec::optional_moment(row, "deliver_at")?,
                idempotency_key: codec::optional(row, "idempotency_key")?,
                traceparent: codec::optional(row, "traceparent")?,
            })
        })
        .collect()
}

async fn settle(conn: &mut PgConnection, outcomes: &[(InboxId, InboxOutcome)]) -> Result<(), Fault> {
    let (mut published, mut rejected, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for (number, outcome) in outcomes {
        match outcome {
            InboxOutcome::Published => published.push(*number),
            InboxOutcome::Rejected(problem) => {
                rejected.push(*number);
                problems.push(problem.as_str());
            }
        }
    }
    begin(conn).await?;
    if !published.is_empty() {
        sqlx::query(sql::INBOX_PUBLISHED).bind(published).execute(&mut *conn).await?;
    }
    if !rejected.is_empty() {
        sqlx::query(sql::INBOX_REJECT).bind(rejected).bind(problems).execute(&mut *conn).await?;
    }
    commit(conn).await
}

async fn rejected(
    conn: &mut PgConnection,
    tenant: Option<&Tenant>,
    page: PageRequest<EventId>,
) -> Result<Page<RejectedEvent, EventId>, Fault> {
    let rows = sqlx::query(sql::INBOX_REJECTED)
        .bind(tenant.map(Tenant::as_str))
        .bind(page.before.map(|before| before.as_uuid()))
        .bind(i64::from(page.limit) + 1)
        .fetch_all(conn)
        .await?;
    let event = |row| {
        Ok(RejectedEvent {
            id: codec::event_id(row, "id")?,
            tenant: codec::text(row, "tenant")?.to_owned(),
            event_type: codec::text(row, "event_type")?.to_owned(),
            problem: codec::text(row, "problem")?.to_owned(),
            created_at: codec::moment(row, "created_at")?,
        })
    };
    let items: Vec<RejectedEvent> = rows.iter().map(event).collect::<Result<_, Fault>>()?;
    Ok(super::history::page(items, page.limit, |event| event.id))
}

async fn delete(conn: &mut PgConnection, tenant: Option<&Tenant>, id: EventId) -> Result<bool, Fault> {
    let id: Uuid = id.as_uuid();
    let done = sqlx::query(sql::INBOX_DELETE).bind(id).bind(tenant.map(Tenant::as_str)).execute(conn).await?;
    Ok(done.rows_affected() > 0)
}
