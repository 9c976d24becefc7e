//! The statements of the statistics, by the rules of all others.

pub(crate) const NOW: &str = "SELECT clock() AS now";

macro_rules! counts {
    () => {
        "r.events, r.succeeded, r.exhausted, r.cancelled, r.attempts_succeeded, r.attempts_failed,
            r.attempts_unknown, r.latency"
    };
}

/// From an hour and a minute on.
macro_rules! window {
    () => {
        " AND r.start >= $1 AND (r.span = 2 OR r.start >= $2)"
    };
}

/// Without a start: at the minute that it is.
pub(crate) const ADD_ROLLUPS: &str = "
    WITH n AS MATERIALIZED (SELECT clock() AS now)
    INSERT INTO rollups (id, tenant, subscription, span, start, merged_start, events, succeeded, exhausted,
                         cancelled, attempts_succeeded, attempts_failed, attempts_unknown, latency)
    SELECT u.id, u.tenant, u.subscription, $4::smallint, s.start,
           CASE $4::smallint WHEN 1 THEN date_trunc('hour', s.start, 'UTC') ELSE s.start END, u.events, u.succeeded, u.exhausted, u.cancelled, u.attempts_succeeded, u.attempts_failed,
           u.attempts_unknown, u.latency
    FROM unnest($1::uuid[], $2::text[], $3::uuid[], $5::timestamptz[], $6::bigint[], $7::bigint[], $8::bigint[],
                $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bytea[])
        u (id, tenant, subscription, start, events, succeeded, exhausted, cancelled, attempts_succeeded,
           attempts_failed, attempts_unknown, latency)
        CROSS JOIN LATERAL (
            SELECT coalesce(u.start, (SELECT date_trunc('minute', now, 'UTC') FROM n)) AS start) s
    ON CONFLICT (id) DO NOTHING";

/// Of everybody, by an empty name, too.
pub(crate) const TOTALS_OF_TENANT: &str = concat!(
    "SELECT ",
    counts!(),
    " FROM rollups r WHERE r.tenant = $3::text AND r.subscription IS NULL",
    window!()
);

pub(crate) const TOTALS_OF_SUBSCRIPTION: &str =
    concat!("SELECT ", counts!(), " FROM rollups r WHERE r.subscription = $3::uuid", window!());

/// The subscriptions with the most failed attempts, found among those that have any, and what else they did.
macro_rules! worst {
    ($of:literal) => {
        concat!(
            "SELECT w.subscription, w.failed, (
                SELECT coalesce(sum(r.attempts_succeeded), 0)::bigint FROM rollups r
                WHERE r.subscription = w.subscription",
            window!(),
            ") AS succeeded FROM (
                SELECT r.subscription, sum(r.attempts_failed)::bigint AS failed FROM rollups r
                WHERE r.subscription IS NOT NULL AND r.attempts_failed > 0 AND ",
            $of,
            window!(),
            " GROUP BY r.subscription ORDER BY failed DESC, r.subscription LIMIT $4) w"
        )
    };
}
pub(crate) const WORST_OF_ALL: &str = worst!("$3::text = ''");
pub(crate) const WORST_OF_TENANT: &str = worst!("r.tenant = $3::text");

/// The oldest of one span, scope by scope, but for those that somebody else is merging.
pub(crate) const TAKE_ROLLUPS: &str = concat!(
    "DELETE FROM rollups r WHERE r.id = ANY (ARRAY(
        SELECT o.id FROM rollups o WHERE o.span = $1 AND o.merged_start = (
            SELECT p.merged_start FROM rollups p WHERE p.span = $1 AND p.merged_start < $2
            ORDER BY p.merged_start LIMIT 1)
        ORDER BY o.tenant, o.subscription LIMIT $3 FOR UPDATE SKIP LOCKED)) RETURNING r.tenant, r.subscription, r.start, ",
    counts!()
);

pub(crate) const FORGET_ROLLUPS: &str = "
    DELETE FROM rollups r WHERE r.id = ANY (ARRAY(
        SELECT o.id FROM rollups o WHERE o.span = 2 AND o.merged_start < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))";

/// For the transaction: what is counted is looked up one by one, however much else there is.
pub(crate) const LOOK_UP_ONE_BY_ONE: &str = "
    SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
           set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)";

/// What is unfinished, by subscription, of up to `$1` that are open. Those that a worker holds are neither due nor
/// scheduled; `found` is how many were looked at.
macro_rules! unfinished {
    ($open:literal) => {
        concat!(
            "WITH n AS MATERIALIZED (SELECT clock() AS now),
    o AS MATERIALIZED (",
            $open,
            " LIMIT $1),
    x AS (
        SELECT o.subscription, d.status, d.request IS NOT NULL AS asked, d.next_attempt_at, ",
            super::waiting!(),
            " AS waits, d.id IN (SELECT j.id FROM jobs j WHERE j.until IS NOT NULL) AS leased
        FROM o JOIN deliveries d ON d.id = o.id WHERE d.finished_at IS NULL),
    y AS (
        SELECT x.*, NOT x.waits AND NOT x.leased AND (x.asked OR x.next_attempt_at <= (SELECT now FROM n)) AS due
        FROM x),
    g AS (
        SELECT subscription, count(*) FILTER (WHERE status = 'pending') AS pending,
               count(*) FILTER (WHERE status <> 'pending') AS retrying,
               count(*) FILTER (WHERE due) AS due,
               count(*) FILTER (WHERE NOT due AND NOT waits AND NOT leased) AS scheduled,
               count(*) FILTER (WHERE waits) AS behind,
               min(next_attempt_at) FILTER (WHERE due AND NOT asked) AS oldest
        FROM y GROUP BY subscription)
    SELECT g.subscription, s.status <> 'active' AS held, g.pending, g.retrying, g.due, g.scheduled, g.behind,
           (extract(epoch FROM (SELECT now FROM n) - g.oldest) * 1000000)::bigint AS age,
           (SELECT count(*) FROM o) AS found
    FROM g JOIN subscriptions s ON s.id = g.subscription AND s.deleted_at IS NULL"
        )
    };
}
pub(crate) const UNFINISHED_OF_ALL: &str =
    unfinished!("SELECT p.id, p.subscription FROM open p WHERE $2::text = '' ORDER BY p.id");
pub(crate) const UNFINISHED_OF_TENANT: &str = unfinished!(
    "SELECT p.id, p.subscription FROM subscriptions t CROSS JOIN LATERAL (
         SELECT q.id, q.subscription FROM open q WHERE q.subscription = t.id LIMIT $1) p
     WHERE t.tenant = $2::text AND t.deleted_at IS NULL"
);
pub(crate) const UNFINISHED_OF_SUBSCRIPTION: &str =
    unfinished!("SELECT p.id, p.subscription FROM open p WHERE p.subscription = $2::uuid");
