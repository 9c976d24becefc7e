//! The store's traits on [`PgStore`](crate::PgStore).
