//! The store's statements. Every text that is not put together from a filter stands here, and a test prepares
//! each of them on a server.
