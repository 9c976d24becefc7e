//! The queue: jobs, lanes and leases, in the same database as the store.
//!
//! What the store calls inside its own transactions takes a `&mut PgConnection` on which a transaction is open
//! and never commits; what the queue does by itself runs on [`Connections`](crate::connection::Connections) of
//! its own, made from the store's [`Connector`](crate::connection::Connector).
