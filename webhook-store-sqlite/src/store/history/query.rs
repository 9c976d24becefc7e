//! Statements that are put together from a filter. Only fixed texts and names of enumerations get into the
//! text; everything that a caller gave is a bound value.

use std::fmt::Write as _;

use sqlx::sqlite::SqliteRow;
use webhook_core::store::Page;
use webhook_core::time::Timestamp;

use crate::error::Fault;
use crate::open::SqliteStore;

/// A value of a condition.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Blob(Vec<u8>),
    Text(String),
    Int(i64),
}

impl Value {
    pub(super) fn id(id: &[u8; 16]) -> Self {
        Self::Blob(id.to_vec())
    }

    /// One row more than the page has tells whether there is another page.
    pub(super) fn one_more(limit: u32) -> Self {
        Self::Int(i64::from(limit) + 1)
    }
}

/// Conditions with their values, each ` AND …`.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

impl Conditions {
    pub(super) fn and(&mut self, condition: &str, value: Value) {
        let _ = write!(self.text, " AND {condition}");
        self.values.push(value);
    }

    pub(super) fn and_in(&mut self, column: &str, names: &[&'static str]) {
        if !names.is_empty() {
            let _ = write!(self.text, " AND {column} IN ('{}')", names.join("','"));
        }
    }

    pub(super) fn between(&mut self, column: &str, since: Option<Timestamp>, until: Option<Timestamp>) {
        if let Some(since) = since {
            self.and(&format!("{column} >= ?"), Value::Int(since.as_micros()));
        }
        if let Some(until) = until {
            self.and(&format!("{column} < ?"), Value::Int(until.as_micros()));
        }
    }
}

/// A statement with its values.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

impl Statement {
    pub(super) async fn fetch(self, store: &SqliteStore) -> Result<Vec<SqliteRow>, Fault> {
        let mut query = sqlx::query(&self.text);
        for value in self.values {
            query = match value {
                Value::Blob(bytes) => query.bind(bytes),
                Value::Text(text) => query.bind(text),
                Value::Int(int) => query.bind(int),
            };
        }
        let mut conn = store.reader().await?;
        Ok(query.fetch_all(&mut *conn).await?)
    }
}

/// A page of what was read, one more than it has when there is another page.
pub(super) fn page<T, Id>(mut items: Vec<T>, limit: u32, id: impl Fn(&T) -> Id) -> Page<T, Id> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(id) } else { None };
    Page { items, next }
}
