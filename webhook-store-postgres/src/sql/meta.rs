//! The database's one row about itself: which kind of queue serves it, and the epoch of that queue's memory.

/// Takes a database that nobody has bound yet; says which kind of queue serves it.
pub(crate) const BIND_QUEUE: &str = "
    UPDATE meta SET queue = coalesce(queue, $1) WHERE id = 1 RETURNING queue";

pub(crate) const REBIND_QUEUE: &str = "UPDATE meta SET queue = $1, epoch = epoch + 1 WHERE id = 1";

pub(crate) const EPOCH: &str = "SELECT epoch FROM meta WHERE id = 1";

/// Of those who expect the same, one changes it.
pub(crate) const ADVANCE_EPOCH: &str =
    "UPDATE meta SET epoch = $2 WHERE id = 1 AND epoch = $1 AND queue = 'other'";

pub(crate) const PING: &str = "UPDATE meta SET epoch = epoch WHERE id = 1";
