//! Statements over many rows.
//!
//! Every statement costs a trip to the connection's thread, ten times what a row costs. So a [`Bulk`]
//! carries many rows at once as a `VALUES` list. The list comes in a few fixed sizes, so that the statement
//! cache stays small; the rows past the given ones are not bound, which makes them NULL, and every statement
//! drops rows whose first column is NULL. Placeholders have no numbers: looking up a numbered one is linear
//! in their count.

use std::sync::OnceLock;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Sqlite, SqliteConnection};

/// A statement with its arguments.
pub(crate) type Bound<'q> = Query<'q, Sqlite, SqliteArguments<'q>>;

const SIZES: [usize; 5] = [1, 4, 16, 64, 256];
/// The most rows that one statement takes.
const MOST: usize = 256;

/// A statement over a list of rows: `head`, the list, `tail`.
#[derive(Debug)]
pub(crate) struct Bulk {
    head: &'static str,
    columns: usize,
    tail: &'static str,
    texts: [OnceLock<String>; SIZES.len()],
}

impl Bulk {
    /// A statement whose list stands between `head` and `tail`, each row with so many columns. A list of one
    /// column is written without parentheses around its rows when `head` ends with `IN (`.
    pub(crate) const fn new(head: &'static str, columns: usize, tail: &'static str) -> Self {
        Self { head, columns, tail, texts: [const { OnceLock::new() }; SIZES.len()] }
    }

    fn text(&self, rows: usize) -> &str {
        let class = SIZES.iter().position(|size| rows <= *size).unwrap_or(SIZES.len() - 1);
        self.texts[class].get_or_init(|| {
            let row = if self.head.ends_with("IN (") {
                "?".to_owned()
            } else {
                format!("({})", vec!["?"; self.columns].join(","))
            };
            format!("{}{}{}", self.head, vec![row; SIZES[class]].join(","), self.tail)
        })
    }

    /// Runs it over all of `rows`, `before` binding what stands in front of the list and `bind` each row.
    /// Returns how many rows were changed.
    pub(crate) async fn run<'r, T>(
        &'r self,
        conn: &mut SqliteConnection,
        rows: &'r [T],
        before: impl Fn(Bound<'r>) -> Bound<'r>,
        bind: impl Fn(Bound<'r>, &'r T) -> Bound<'r>,
    ) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        for chunk in rows.chunks(MOST) {
            let query = before(sqlx::query(self.text(chunk.len())));
            changed += chunk.iter().fold(query, &bind).execute(&mut *conn).await?.rows_affected();
        }
        Ok(changed)
    }

    /// Runs it over all of `rows` as [`run`](Self::run) does and returns the rows that it gives.
    pub(crate) async fn fetch<'r, T>(
        &'r self,
        conn: &mut SqliteConnection,
        rows: &'r [T],
        before: impl Fn(Bound<'r>) -> Bound<'r>,
        bind: impl Fn(Bound<'r>, &'r T) -> Bound<'r>,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut found = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(MOST) {
            let query = before(sqlx::query(self.text(chunk.len())));
            found.extend(chunk.iter().fold(query, &bind).fetch_all(&mut *conn).await?);
        }
        Ok(found)
    }
}

/// Binds nothing in front of the list.
pub(crate) fn nothing(query: Bound<'_>) -> Bound<'_> {
    query
}
