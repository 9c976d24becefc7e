//! Statements over many rows.
//!
//! Every statement costs a trip to the connection's thread, ten times what a row costs. So a [`Bulk`]
//! carries many rows at once as a `VALUES` list, and [`Fused`] statements make one trip together. A list
//! comes in a few fixed sizes, so that the statement cache stays small; the rows past the given ones are
//! NULL, and every statement drops rows whose first column is NULL. Placeholders have no numbers: looking up
//! a numbered one is linear in their count.

use std::sync::OnceLock;

use futures::TryStreamExt as _;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, Either, Encode, Executor as _, Sqlite, SqliteConnection, Type};

use crate::writer::Tx;

const SIZES: [usize; 6] = [1, 4, 16, 32, 64, 256];
/// The most rows that one statement takes.
const MOST: usize = 256;

/// Which of the sizes takes so many rows.
fn class(rows: usize) -> usize {
    SIZES.iter().position(|size| rows <= *size).unwrap_or(SIZES.len() - 1)
}

/// Values on their way into placeholders, in their order.
#[derive(Debug, Default)]
pub(crate) struct Row<'q>(SqliteArguments<'q>);

impl<'q> Row<'q> {
    /// Adds the next value.
    pub(crate) fn add<T: Encode<'q, Sqlite> + Type<Sqlite> + 'q>(&mut self, value: T) -> &mut Self {
        // Encoding for SQLite only moves a value and cannot fail.
        let added = self.0.add(value);
        debug_assert!(added.is_ok());
        self
    }

    fn fill(&mut self, until: usize) {
        while self.0.len() < until {
            self.add(None::<i64>);
        }
    }
}

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
        let class = class(rows);
        self.texts[class].get_or_init(|| {
            let row = if self.head.ends_with("IN (") {
                "?".to_owned()
            } else {
                format!("({})", vec!["?"; self.columns].join(","))
            };
            format!("{}{}{}", self.head, vec![row; SIZES[class]].join(","), self.tail)
        })
    }

    /// Runs it over all of `rows`. Returns how many rows of tables were changed.
    pub(crate) async fn run<'q, T>(
        &'q self,
        conn: &mut SqliteConnection,
        rows: &'q [T],
        bind: impl Fn(&mut Row<'q>, &'q T),
    ) -> Result<u64, sqlx::Error> {
        self.run_with(conn, |_| {}, rows, bind).await
    }

    /// As [`run`](Self::run), with `before` for the values in front of the list.
    pub(crate) async fn run_with<'q, T>(
        &'q self,
        conn: &mut SqliteConnection,
        before: impl Fn(&mut Row<'q>),
        rows: &'q [T],
        bind: impl Fn(&mut Row<'q>, &'q T),
    ) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        for chunk in rows.chunks(MOST) {
            let values = values(&before, chunk, &bind);
            let done = sqlx::query_with(self.text(chunk.len()), values).execute(&mut *conn).await?;
            changed += done.rows_affected();
        }
        Ok(changed)
    }

    /// Runs it over all of `rows` and returns the rows that it gives.
    pub(crate) async fn fetch<'q, T>(
        &'q self,
        conn: &mut SqliteConnection,
        rows: &'q [T],
        bind: impl Fn(&mut Row<'q>, &'q T),
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        self.fetch_with(conn, |_| {}, rows, bind).await
    }

    /// As [`fetch`](Self::fetch), with `before` for the values in front of the list.
    pub(crate) async fn fetch_with<'q, T>(
        &'q self,
        conn: &mut SqliteConnection,
        before: impl Fn(&mut Row<'q>),
        rows: &'q [T],
        bind: impl Fn(&mut Row<'q>, &'q T),
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut found = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(MOST) {
            let values = values(&before, chunk, &bind);
            found.extend(sqlx::query_with(self.text(chunk.len()), values).fetch_all(&mut *conn).await?);
        }
        Ok(found)
    }
}

/// The values of one statement. Those that are not given are NULL to SQLite.
fn values<'q, T>(
    before: &impl Fn(&mut Row<'q>),
    rows: &'q [T],
    bind: &impl Fn(&mut Row<'q>, &'q T),
) -> SqliteArguments<'q> {
    let mut row = Row::default();
    before(&mut row);
    for item in rows {
        bind(&mut row, item);
    }
    row.0
}

/// Several statements that make one trip, behind the one that begins their call's part of the transaction. Each is
/// over a list of its own, all of the same size; the lists may be filled to different lengths.
#[derive(Debug)]
pub(crate) struct Fused<const N: usize> {
    parts: [&'static Bulk; N],
    /// By size, for calls that open the transaction and for those behind others.
    texts: [[OnceLock<String>; 2]; SIZES.len()],
}

impl<const N: usize> Fused<N> {
    pub(crate) const fn new(parts: [&'static Bulk; N]) -> Self {
        Self { parts, texts: [const { [const { OnceLock::new() }; 2] }; SIZES.len()] }
    }

    /// Whether lists of these lengths are best sent together: they fit, and none is padded to much more than
    /// its length.
    pub(crate) fn suits(lengths: &[usize]) -> bool {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        (1..=MOST).contains(&longest) && lengths.iter().all(|rows| class(*rows) == class(longest))
    }

    /// Begins to bind lists of up to `rows` rows.
    pub(crate) fn bind<'q>(&'static self, rows: usize) -> FusedQuery<'q, N> {
        FusedQuery { of: self, rows, values: Row::default(), part: 0 }
    }
}

/// [`Fused`] statements that are being bound.
pub(crate) struct FusedQuery<'q, const N: usize> {
    of: &'static Fused<N>,
    rows: usize,
    values: Row<'q>,
    part: usize,
}

impl<'q, const N: usize> FusedQuery<'q, N> {
    /// Binds the next statement's list.
    pub(crate) fn part<T>(
        mut self,
        rows: impl IntoIterator<Item = T>,
        bind: impl Fn(&mut Row<'q>, T),
    ) -> Self {
        // Values find their placeholders by counting alone, so here the rows that are not there are bound.
        let end = self.values.0.len() + self.of.parts[self.part].columns * SIZES[class(self.rows)];
        for item in rows {
            bind(&mut self.values, item);
        }
        self.values.fill(end);
        self.part += 1;
        self
    }

    /// Binds what stands in front of the next statement's list.
    pub(crate) fn before<T: Encode<'q, Sqlite> + Type<Sqlite> + 'q>(mut self, value: T) -> Self {
        self.values.add(value);
        self
    }

    /// Begins the call's part and runs all of them. Returns how many rows each changed.
    pub(crate) async fn run(self, tx: &mut Tx<'_>) -> Result<[u64; N], sqlx::Error> {
        let text = self.of.texts[class(self.rows)][usize::from(tx.is_behind())].get_or_init(|| {
            let parts: Vec<&str> = self.of.parts.iter().map(|part| part.text(self.rows)).collect();
            format!("{}; {}", tx.beginning(), parts.join("; "))
        });
        let mut changed = [0; N];
        let mut statement = 0;
        // That one text may hold several statements is particular to the driver for SQLite, and sqlx does not
        // promise to keep it: should it go, the parts are run one after the other.
        let mut results = tx.begun().fetch_many(sqlx::query_with(text, self.values.0));
        while let Some(result) = results.try_next().await? {
            if let Either::Left(done) = result {
                // The first one is the beginning.
                if statement > 0 {
                    changed[statement - 1] = done.rows_affected();
                }
                statement += 1;
            }
        }
        Ok(changed)
    }
}
