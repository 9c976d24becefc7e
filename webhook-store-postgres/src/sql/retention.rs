//! Statements of pruning and purging: see `store::prune`.

/// The oldest entries, which are nobody else's until the transaction ends, and how many deliveries their events
/// were published with: none, when the event is gone.
pub(crate) const OLDEST_FINISHED: &str = "
    WITH n AS MATERIALIZED (SELECT clock() - $1::bigint * interval '1 microsecond' AS cutoff)
    SELECT f.ctid::text AS place, f.event, (SELECT cutoff FROM n) AS cutoff,
           (SELECT e.delivery_count FROM events e WHERE e.id = f.event) AS deliveries
    FROM finished f WHERE f.at <= (SELECT cutoff FROM n) ORDER BY f.at LIMIT $2 FOR UPDATE SKIP LOCKED";

/// Those of these events, by a look without locks, that no delivery keeps.
pub(crate) const OVER: &str = "
    SELECT u.id AS event FROM unnest($1::uuid[]) u (id) WHERE NOT EXISTS (
        SELECT 1 FROM deliveries d
        WHERE d.event = u.id AND (d.finished_at IS NULL OR d.finished_at > $2 OR d.request IS NOT NULL))";

pub(crate) const LOCK_EVENTS: &str =
    "SELECT id AS event FROM events WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE";

/// So many of the deliveries of events.
pub(crate) const LOCK_DELIVERIES_OF: &str = "
    SELECT d.id, d.event, d.finished_at,
           d.finished_at IS NULL OR d.finished_at > $2 OR d.request IS NOT NULL AS stays
    FROM deliveries d WHERE d.id = ANY(ARRAY(
        SELECT x.id FROM unnest($1::uuid[]) u (id) JOIN deliveries x ON x.event = u.id LIMIT $3))
    ORDER BY d.id FOR UPDATE";

pub(crate) const DELETE_DELIVERIES: &str = "
    WITH a AS (DELETE FROM attempts WHERE delivery = ANY($1::uuid[])),
    x AS (DELETE FROM dead WHERE id = ANY($1::uuid[]))
    DELETE FROM deliveries WHERE id = ANY($1::uuid[])";

/// Those of these events that have no deliveries any more.
pub(crate) const DELETE_EVENTS: &str = "
    DELETE FROM events e WHERE e.id = ANY($1::uuid[])
        AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event = e.id) RETURNING e.id AS event, e.created_at";

pub(crate) const DROP_FINISHED: &str = "DELETE FROM finished WHERE ctid = ANY($1::text[]::tid[])";

pub(crate) const FORGET_KEYS: &str = "
    WITH n AS MATERIALIZED (SELECT clock() AS now)
    DELETE FROM keys WHERE ctid = ANY(ARRAY(
        SELECT k.ctid FROM keys k WHERE k.expires_at <= (SELECT now FROM n)
        ORDER BY k.expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))";

pub(crate) const FORGET_REPLAYS: &str = "
    DELETE FROM replays WHERE id = ANY (ARRAY(
        SELECT id FROM replays
        WHERE finished_at <= (SELECT clock()) - $1 * interval '1 microsecond' ORDER BY finished_at LIMIT $2))";

/// A page of a tenant's events, and which of them are old enough to have finished before the cutoff. Not
/// `tenant = $1`, by which a plan may go through the events of all tenants in the order of their ids.
pub(crate) const PURGE_PAGE: &str = "
    WITH n AS MATERIALIZED (SELECT clock() - $3::bigint * interval '1 microsecond' AS cutoff)
    SELECT e.id AS event, e.delivery_count AS deliveries, e.created_at <= (SELECT cutoff FROM n) AS old,
           (SELECT cutoff FROM n) AS cutoff
    FROM events e WHERE (e.tenant, e.id) > ($1, $2) AND e.tenant <= $1 ORDER BY e.tenant, e.id LIMIT $4";

/// The entries of these events at these moments, but those that somebody who prunes has: he drops them himself.
pub(crate) const DROP_ENTRIES: &str = "
    DELETE FROM finished WHERE ctid = ANY(ARRAY(
        SELECT f.ctid FROM unnest($1::timestamptz[], $2::uuid[]) u (at, event)
        JOIN finished f ON f.at = u.at AND f.event = u.event FOR UPDATE OF f SKIP LOCKED))";
