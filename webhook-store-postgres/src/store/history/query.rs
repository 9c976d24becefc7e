//! Statements that are put together from a filter. Only fixed texts get into the text; everything that a
//! caller gave is a bound value.

use std::fmt::Write as _;

use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;
use webhook_core::store::Page;
use webhook_core::time::Timestamp;

use crate::codec::Moment;
use crate::error::Fault;

/// A value of a condition.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Id(Uuid),
    Text(String),
    Names(Vec<&'static str>),
    Moment(Moment),
    Int(i64),
}

impl Value {
    /// One row more than the page has tells whether there is another page.
    pub(super) fn one_more(limit: u32) -> Self {
        Self::Int(i64::from(limit) + 1)
    }
}

/// A statement in the making: conditions, each ` AND …`, and the values of its placeholders.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions {
    pub(super) text: String,
    values: Vec<Value>,
}

impl Conditions {
    /// The placeholder of another value.
    pub(super) fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// Another condition, whose one placeholder is written `?`.
    pub(super) fn and(&mut self, condition: &str, value: Value) {
        let place = self.bind(value);
        let _ = write!(self.text, " AND {}", condition.replace('?', &place));
    }

    pub(super) fn and_in(&mut self, column: &str, names: Vec<&'static str>) {
        if !names.is_empty() {
            self.and(&format!("{column} = ANY(?)"), Value::Names(names));
        }
    }

    pub(super) fn between(&mut self, column: &str, since: Option<Timestamp>, until: Option<Timestamp>) {
        if let Some(since) = since {
            self.and(&format!("{column} >= ?"), Value::Moment(since.into()));
        }
        if let Some(until) = until {
            self.and(&format!("{column} < ?"), Value::Moment(until.into()));
        }
    }

    /// The statement with this text, which has the conditions in it.
    pub(super) fn statement(self, text: String) -> Statement {
        Statement { text, values: self.values }
    }
}

/// A statement with its values.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

impl Statement {
    /// Runs it without keeping it prepared: there are more of its kind than are worth it.
    pub(super) async fn fetch(self, conn: &mut PgConnection) -> Result<Vec<PgRow>, Fault> {
        let mut query = sqlx::query(&self.text).persistent(false);
        for value in self.values {
            query = match value {
                Value::Id(id) => query.bind(id),
                Value::Text(text) => query.bind(text),
                Value::Names(names) => query.bind(names),
                Value::Moment(at) => query.bind(at),
                Value::Int(int) => query.bind(int),
            };
        }
        Ok(query.fetch_all(conn).await?)
    }
}

/// A page of what was read, one more than it has when there is another page.
pub(in crate::store) fn page<T, Id>(mut items: Vec<T>, limit: u32, id: impl Fn(&T) -> Id) -> Page<T, Id> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(id) } else { None };
    Page { items, next }
}
