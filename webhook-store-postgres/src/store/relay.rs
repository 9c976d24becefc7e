//! Who relays the inbox: one process at a time for each database.
//!
//! The right to it is an advisory lock of a session, so it ends with the session, whatever happens to the
//! process. It is let go when nothing is left to relay; and the server ends a session that holds it and does
//! nothing for [`PATIENCE`], so that a relay that stopped half-way keeps nobody waiting for longer.

use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::sync::Mutex;
use webhook_core::store::InboxEvent;

use super::inbox;
use super::mark::Mark;
use crate::connection::{Connector, Role, is_broken};
use crate::error::Fault;
use crate::locks::Lock;
use crate::sql;

/// How long the right is kept without being used, in milliseconds.
const PATIENCE: u32 = 30_000;

#[derive(Debug)]
pub(crate) struct Relay {
    connector: Connector,
    session: Mutex<Option<Session>>,
    pub(super) mark: Mark,
}

#[derive(Debug)]
struct Session {
    conn: PgConnection,
    is_relay: bool,
}

impl Relay {
    pub(crate) fn new(connector: Connector) -> Self {
        Self { connector, session: Mutex::default(), mark: Mark::default() }
    }

    /// Ends the right, and the session.
    pub(crate) async fn close(&self) {
        let Some(mut session) = self.session.lock().await.take() else { return };
        if session.is_relay {
            // It would end with the session too, but only when the server notices.
            let lock = Lock::Relay.number(self.connector.schema());
            let ending =
                async { Ok(sqlx::query(sql::END_RELAY).bind(lock).execute(&mut session.conn).await?) };
            let _ = self.connector.in_time(ending).await;
        }
        // It ends all the same.
        let _ = self.connector.in_time(async { Ok(session.conn.close().await?) }).await;
    }

    /// Whether this process has the right to relay, as far as it knows.
    pub(super) async fn is_ours(&self) -> bool {
        self.session.lock().await.as_ref().is_some_and(|session| session.is_relay)
    }

    /// The next rows, if this process has or gets the right to relay.
    ///
    /// # Cancel safety
    /// Dropping the future may end the session, and the right with it.
    pub(super) async fn take(&self, limit: u32) -> Result<Vec<InboxEvent>, Fault> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.take() {
            match self.work(session, limit).await {
                Ok((session, rows)) => {
                    *slot = Some(session);
                    return Ok(rows);
                }
                // It was idle for too long, or the server was restarted.
                Err(fault) if is_broken(&fault) => {}
                Err(fault) => return Err(fault),
            }
        }
        let mut conn = self.connector.connect(Role::Engine).await?;
        conn.execute(format!("SET idle_session_timeout = {PATIENCE}").as_str()).await?;
        let (session, rows) = self.work(Session { conn, is_relay: false }, limit).await?;
        *slot = Some(session);
        Ok(rows)
    }

    async fn work(&self, mut session: Session, limit: u32) -> Result<(Session, Vec<InboxEvent>), Fault> {
        let working = async {
            let lock = Lock::Relay.number(self.connector.schema());
            if !session.is_relay {
                let got = sqlx::query_scalar(sql::TRY_RELAY).bind(lock).fetch_one(&mut session.conn);
                session.is_relay = got.await?;
            }
            if !session.is_relay {
                return Ok(Vec::new());
            }
            let rows = inbox::take(&mut session.conn, limit, &self.mark).await?;
            if rows.is_empty() {
                sqlx::query(sql::END_RELAY).bind(lock).execute(&mut session.conn).await?;
                session.is_relay = false;
            }
            Ok(rows)
        };
        let rows = self.connector.in_time(working).await?;
        Ok((session, rows))
    }
}
