//! The store's statements. Every text that is not put together from a filter stands here, and a test prepares
//! each of them on a server.
//!
//! Rules that hold for all of them:
//!
//! - Rows come in and go out by arrays, one statement for a batch.
//! - The present is taken once, in `n`: a bare volatile `clock()` is called for each row and fits no index.
//! - Rows that others may hold are locked in the order of ids: the caller sorts the arrays, and plans are
//!   pinned to walk them in order.

// ---------------------------------------------------------------------------------------------------------------
// Columns, named one by one: a later version may add some while this one runs, and the server refuses a
// prepared statement whose answer would have another form than before.

/// What a delivery's state is read from, of `deliveries d`.
macro_rules! state {
    () => {
        "d.revision, d.status, d.reason, d.attempts, d.failed, d.unknowns, d.chain, d.request,
           d.last_status_code, d.error_kind, d.error_detail"
    };
}

/// What a subscription is read from, of `subscriptions s`.
macro_rules! subscription {
    () => {
        "s.id, s.tenant, s.status, s.version, s.created_at, s.updated_at, s.deleted_at, s.settings, s.secrets"
    };
}

/// What an event is read from, of `events e`.
macro_rules! event {
    () => {
        "e.id AS event, e.tenant, e.event_type, e.content_type, e.ordering_key, e.deliver_at, e.idempotency_key,
           e.only_subscription, e.payload, e.traceparent"
    };
}

/// What a replay is read from.
macro_rules! replay {
    () => {
        "SELECT id, tenant, statuses, subscription, event, event_type, since, until, last_number, after, finished,
            matched, more, done FROM replays"
    };
}

// ---------------------------------------------------------------------------------------------------------------
// Publishing

/// Events with all that is theirs. Fails on an id that is known; says how many keys were free, what time it is,
/// and the versions of the tenants' configurations.
macro_rules! insert {
    ($with:literal, $keys:literal, $from:literal) => {
        concat!(
            "
    WITH n AS MATERIALIZED (SELECT clock() AS now),
    e AS (
        INSERT INTO events (id, tenant, event_type, content_type, created_at, delivery_count, payload_size,
                            ordering_key, deliver_at, idempotency_key, only_subscription, payload, traceparent)
        SELECT u.id, u.tenant, u.event_type, u.content_type, (SELECT now FROM n), u.delivery_count,
               u.payload_size, u.ordering_key, u.deliver_at, u.idempotency_key, u.only_subscription, u.payload, u.traceparent
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[], $6::int[], $7::text[],
                    $8::timestamptz[], $9::text[], $10::uuid[], $11::bytea[], $26::text[])
            u (id, tenant, event_type, content_type, delivery_count, payload_size, ordering_key, deliver_at,
               idempotency_key, only_subscription, payload, traceparent)),
    d AS (
        INSERT INTO deliveries (id, event, subscription, number, created_at, added, ordered, chain_start,
                                give_up_at, next_attempt_at)
        SELECT u.id, u.event, u.subscription, nextval('numbers'), (SELECT now FROM n), false, u.ordered,
               greatest((SELECT now FROM n), u.deliver_at),
               greatest((SELECT now FROM n), u.deliver_at) + u.give_up_after * interval '1 microsecond',
               greatest((SELECT now FROM n), u.deliver_at)
        FROM unnest($12::uuid[], $13::uuid[], $14::uuid[], $15::bool[], $16::timestamptz[], $17::bigint[])
            u (id, event, subscription, ordered, deliver_at, give_up_after)
        RETURNING id, subscription, chain_start, give_up_at),
    o AS (
        INSERT INTO open (id, subscription, chain_start, give_up_at)
        SELECT id, subscription, chain_start, give_up_at FROM d)",
            $with,
            " SELECT (SELECT now FROM n) AS now, ",
            $keys,
            " AS keys, t.tenant, t.config_version",
            $from,
            " LEFT JOIN tenants t ON t.tenant = ANY($25::text[])"
        )
    };
}
macro_rules! insert_all {
    ($from:literal) => {
        insert!(
            ",
    f AS (
        INSERT INTO finished (at, event) SELECT (SELECT now FROM n), u.id FROM unnest($18::uuid[]) u (id)),
    k AS (
        INSERT INTO keys (tenant, key, fingerprint, event, delivery_count, expires_at)
        SELECT u.tenant, u.key, u.fingerprint, u.event, u.delivery_count,
               (SELECT now FROM n) + u.lifetime * interval '1 microsecond'
        FROM unnest($19::text[], $20::text[], $21::bytea[], $22::uuid[], $23::int[], $24::bigint[])
            u (tenant, key, fingerprint, event, delivery_count, lifetime)
        ON CONFLICT (tenant, key) DO UPDATE
            SET fingerprint = excluded.fingerprint, event = excluded.event,
                delivery_count = excluded.delivery_count, expires_at = excluded.expires_at
            WHERE keys.expires_at <= (SELECT now FROM n)
        RETURNING 1)",
            "(SELECT count(*) FROM k)",
            $from
        )
    };
}
/// Without keys and events that nobody takes: opening their tables costs more than most rows do.
macro_rules! insert_plain {
    ($from:literal) => {
        insert!(
            "",
            "num_nulls($18::uuid[], $19::text[], $20::text[], $21::bytea[], $22::uuid[], $23::int[],
                       $24::bigint[])::int8",
            $from
        )
    };
}

pub(crate) const INSERT: &str = insert_all!(" FROM (SELECT 1) one");
pub(crate) const INSERT_PLAIN: &str = insert_plain!(" FROM (SELECT 1) one");

/// The same with the deliveries' jobs.
pub(crate) const INSERT_AND_QUEUE: &str = insert_all!(
    ", q.outcomes, q.classes, q.marks, q.versions
    FROM queue_add($27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41) q"
);
pub(crate) const INSERT_PLAIN_AND_QUEUE: &str = insert_plain!(
    ", q.outcomes, q.classes, q.marks, q.versions
    FROM queue_add($27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41) q"
);

pub(crate) const KNOWN_EVENTS: &str = "SELECT id AS event, tenant FROM events WHERE id = ANY($1::uuid[])";

/// Keys whose time is not over.
pub(crate) const KNOWN_KEYS: &str = "
    WITH n AS MATERIALIZED (SELECT clock() AS now)
    SELECT k.tenant, k.key, k.fingerprint, k.event, k.delivery_count
    FROM unnest($1::text[], $2::text[]) u (tenant, key) JOIN keys k ON k.tenant = u.tenant AND k.key = u.key
    WHERE k.expires_at > (SELECT now FROM n)";

pub(crate) const CONFIGURATIONS: &str =
    "SELECT tenant, config_version FROM tenants WHERE tenant = ANY($1::text[])";

/// What an event's publish made, as far as it is to be listed.
pub(crate) const DUPLICATE: &str = "
    SELECT e.delivery_count, d.id, d.subscription
    FROM events e LEFT JOIN LATERAL (
        SELECT x.id, x.subscription FROM deliveries x WHERE x.event = e.id AND NOT x.added ORDER BY x.id LIMIT $2
    ) d ON true WHERE e.id = $1 ORDER BY d.id";

// ---------------------------------------------------------------------------------------------------------------
// Turns

/// In the order of the numbers, each alone.
pub(crate) const TAKE_LOCKS: &str = "SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) k";

/// The first ones shared, then the second ones alone.
pub(crate) const SHARE_AND_TAKE_LOCKS: &str = "
    SELECT pg_advisory_xact_lock_shared(k) FROM unnest($1::bigint[]) k
    UNION ALL SELECT pg_advisory_xact_lock(k) FROM unnest($2::bigint[]) k";

/// Fresh deliveries take their places.
pub(crate) const TAKE_TURNS: &str = "
    INSERT INTO turns (subscription, ordering_key, number, delivery, head)
    SELECT d.subscription, u.key, d.number, d.id, false
    FROM unnest($1::uuid[], $2::text[]) u (id, key) JOIN deliveries d ON d.id = u.id";

pub(crate) const ORDER_KEYS: &str = "
    SELECT d.subscription, coalesce(e.ordering_key, '') AS ordering_key
    FROM unnest($1::uuid[]) u (id) JOIN deliveries d ON d.id = u.id JOIN events e ON e.id = d.event";

pub(crate) const END_TURNS: &str = "DELETE FROM turns WHERE delivery = ANY($1::uuid[])";

/// Reopened ones take back their places; those that have them keep them.
pub(crate) const REOPEN_TURNS: &str = "
    INSERT INTO turns (subscription, ordering_key, number, delivery, head)
    SELECT d.subscription, coalesce(e.ordering_key, ''), d.number, d.id, false
    FROM unnest($1::uuid[]) u (id) JOIN deliveries d ON d.id = u.id JOIN events e ON e.id = d.event
    ON CONFLICT DO NOTHING";

pub(crate) const WHO_WAITS: &str =
    "SELECT delivery AS id FROM turns WHERE delivery = ANY($1::uuid[]) AND NOT head";

/// Makes the lowest of each key its head, unless it has one.
pub(crate) const PROMOTE: &str = "
    WITH n AS MATERIALIZED (SELECT clock() AS now),
    p AS MATERIALIZED (
        SELECT (SELECT t.delivery FROM turns t WHERE t.subscription = k.subscription
                AND t.ordering_key = k.ordering_key ORDER BY t.number LIMIT 1) AS delivery
        FROM unnest($1::uuid[], $2::text[]) k (subscription, ordering_key)
        WHERE NOT EXISTS (SELECT 1 FROM turns h WHERE h.subscription = k.subscription
                          AND h.ordering_key = k.ordering_key AND h.head)),
    u AS (UPDATE turns t SET head = true FROM p WHERE t.delivery = p.delivery RETURNING t.delivery)
    SELECT d.id, d.subscription, d.request, d.next_attempt_at, (SELECT now FROM n) AS now
    FROM u JOIN deliveries d ON d.id = u.delivery";

/// Whether the delivery `d` waits behind another one of its key.
macro_rules! waiting {
    () => {
        "(d.ordered AND d.finished_at IS NULL AND NOT EXISTS (
             SELECT 1 FROM turns t WHERE t.delivery = d.id AND t.head))"
    };
}
pub(crate) use waiting;

pub(crate) const NOT_WAITING: &str = concat!(
    "SELECT d.id, d.subscription FROM unnest($1::uuid[]) u (id) JOIN deliveries d ON d.id = u.id WHERE NOT ",
    waiting!()
);

// ---------------------------------------------------------------------------------------------------------------
// Working

pub(crate) const LOAD: &str = concat!(
    "WITH n AS MATERIALIZED (SELECT clock() AS now)
    SELECT d.id, d.subscription, d.next_attempt_at, ",
    state!(),
    ", ",
    event!(),
    ", ",
    waiting!(),
    " AS waiting, (SELECT now FROM n) AS now, s.version AS subscription_version
    FROM unnest($1::uuid[]) u (id) JOIN deliveries d ON d.id = u.id JOIN events e ON e.id = d.event
    LEFT JOIN subscriptions s ON s.id = d.subscription AND s.deleted_at IS NULL"
);

pub(crate) const TOKENS: &str = "SELECT delivery, token FROM attempts WHERE delivery = ANY($1::uuid[])";

/// What deliveries become, with their attempts and all that follows from it but turns and jobs. Says which
/// it changed, and how many attempts it stored.
macro_rules! record {
    ($with:expr, $from:expr) => {
        concat!(
            "
    WITH n AS MATERIALIZED (SELECT clock() AS now),
    c AS (
        UPDATE deliveries d SET
            revision = v.new_revision, status = v.status, reason = v.reason, attempts = v.attempts,
            failed = v.failed, unknowns = v.unknowns, chain = v.chain, request = v.request,
            last_status_code = v.last_status_code, error_kind = v.error_kind, error_detail = v.error_detail,
            next_attempt_at = CASE v.next WHEN 0 THEN NULL WHEN 1 THEN d.next_attempt_at
                              ELSE (SELECT now FROM n) + v.wait * interval '1 microsecond' END,
            finished_at = CASE WHEN v.finished THEN coalesce(d.finished_at, (SELECT now FROM n)) END,
            chain_start = CASE WHEN v.give_up_after IS NULL THEN d.chain_start
                ELSE greatest((SELECT now FROM n), (SELECT e.deliver_at FROM events e WHERE e.id = d.event)) END,
            give_up_at = CASE WHEN v.give_up_after IS NULL THEN d.give_up_at
                ELSE greatest((SELECT now FROM n), (SELECT e.deliver_at FROM events e WHERE e.id = d.event))
                     + v.give_up_after * interval '1 microsecond' END
        FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::int[], $7::int[],
                    $8::int[], $9::int[], $10::text[], $11::int[], $12::text[], $13::text[], $14::int[],
                    $15::bigint[], $16::bool[], $17::bigint[])
            v (id, revision, new_revision, status, reason, attempts, failed, unknowns, chain, request,
               last_status_code, error_kind, error_detail, next, wait, finished, give_up_after)
        WHERE d.id = v.id AND d.revision = v.revision
        RETURNING d.id, d.event, d.subscription, d.ordered, d.status, d.request, d.next_attempt_at,
                  d.finished_at, d.chain_start, d.give_up_at,
                  d.finished_at IS NOT NULL AND d.next_attempt_at IS NULL AND d.request IS NULL AS closed),
    a AS (
        INSERT INTO attempts AS x (id, delivery, number, subscription, token, trigger, started_at, duration,
                                   outcome, status_code, error_kind, error_detail, target_url,
                                   response_headers, response_body)
        SELECT * FROM unnest($18::uuid[], $19::uuid[], $20::int[], $21::uuid[], $22::uuid[], $23::text[],
                             $24::timestamptz[], $25::bigint[], $26::text[], $27::int[], $28::text[], $29::text[],
                             $30::text[], $31::text[], $32::bytea[])
        ON CONFLICT (delivery, number) DO UPDATE SET
            trigger = excluded.trigger, started_at = excluded.started_at, duration = excluded.duration,
            outcome = excluded.outcome, status_code = excluded.status_code, error_kind = excluded.error_kind,
            error_detail = excluded.error_detail, target_url = excluded.target_url,
            response_headers = excluded.response_headers, response_body = excluded.response_body
            WHERE x.outcome = 'unknown' AND x.token = excluded.token
        RETURNING 1),
    closed AS (DELETE FROM open o USING c WHERE o.id = c.id AND c.closed),",
            $with,
            "
    over AS (INSERT INTO finished (at, event) SELECT finished_at, event FROM c WHERE finished_at IS NOT NULL)
    SELECT c.id, c.subscription, c.ordered, c.request IS NOT NULL AS asked, c.next_attempt_at,
           c.finished_at IS NOT NULL AS finished, (SELECT now FROM n) AS now, (SELECT count(*) FROM a) AS stored",
            $from
        )
    };
}
macro_rules! record_all {
    ($from:expr) => {
        record!(
            "
    opened AS (
        INSERT INTO open AS o (id, subscription, chain_start, give_up_at)
        SELECT id, subscription, chain_start, give_up_at FROM c WHERE NOT closed
        ON CONFLICT (id) DO UPDATE SET chain_start = excluded.chain_start, give_up_at = excluded.give_up_at
            WHERE (o.chain_start, o.give_up_at) IS DISTINCT FROM (excluded.chain_start, excluded.give_up_at)),
    buried AS (
        INSERT INTO dead (id) SELECT id FROM c WHERE status IN ('exhausted', 'cancelled') ON CONFLICT DO NOTHING),
    raised AS (DELETE FROM dead x USING c WHERE x.id = c.id AND c.status IN ('pending', 'retrying')),",
            $from
        )
    };
}

pub(crate) const RECORD: &str = record_all!(" FROM c");
/// For those that have all succeeded: neither open nor dead.
pub(crate) const RECORD_SUCCESS: &str = record!("", " FROM c");

/// The same with the ends of the leases. They are looked at when the deliveries are changed and locked, as
/// everybody does it; the strikes of all are in the first row. When one of the deliveries is ordered none ends:
/// the order of its key is to be locked before lanes are.
macro_rules! settled {
    () => {
        ", CASE WHEN row_number() OVER () = 1 THEN q.strikes END AS strikes, q.soon
    FROM queue_settle(CASE WHEN (SELECT bool_or(ordered) FROM c) THEN '{}' ELSE $33::uuid[] END, $34,
                      CASE WHEN (SELECT bool_or(ordered) FROM c) THEN '{}' ELSE $35::smallint[] END,
                      $36, $37, $38, $39, $40) q CROSS JOIN c"
    };
}
pub(crate) const RECORD_AND_SETTLE: &str = record_all!(settled!());
pub(crate) const RECORD_SUCCESS_AND_SETTLE: &str = record!("", settled!());

pub(crate) const LOCK_DELIVERIES: &str = "
    SELECT id, revision, finished_at IS NOT NULL AS finished FROM deliveries WHERE id = ANY($1::uuid[])
    ORDER BY id FOR UPDATE";

/// Where deliveries stand, and what is there of a token.
pub(crate) const STANDS: &str = concat!(
    "SELECT d.id, ",
    state!(),
    ",
        (SELECT a.number FROM attempts a
         WHERE a.delivery = d.id AND a.token = u.token AND a.outcome = 'unknown' LIMIT 1) AS unknown,
        EXISTS (SELECT 1 FROM attempts a
                WHERE a.delivery = d.id AND a.token = u.token AND a.outcome <> 'unknown') AS recorded, u.place
    FROM unnest($1::uuid[], $2::uuid[], $3::int[]) u (id, token, place) JOIN deliveries d ON d.id = u.id"
);

/// Deleted ones among subscriptions, which cannot be deleted until the transaction ends.
pub(crate) const LOCK_SUBSCRIPTIONS: &str = "
    SELECT id, deleted_at IS NOT NULL AS deleted FROM subscriptions WHERE id = ANY($1::uuid[]) ORDER BY id FOR SHARE";

pub(crate) const DRAIN: &str = "
    UPDATE subscriptions SET draining = true WHERE id = ANY($1::uuid[]) AND deleted_at IS NOT NULL AND NOT draining";

pub(crate) const OWED: &str = concat!(
    "WITH n AS MATERIALIZED (SELECT clock() AS now)
    SELECT o.id, o.subscription, d.next_attempt_at, d.request IS NOT NULL AS asked, s.version,
           (SELECT now FROM n) AS now
    FROM open o JOIN deliveries d ON d.id = o.id
    JOIN subscriptions s ON s.id = o.subscription AND s.deleted_at IS NULL
    WHERE o.id > $1 AND NOT ",
    waiting!(),
    " ORDER BY o.id LIMIT $2"
);

// ---------------------------------------------------------------------------------------------------------------
// Whole events

pub(crate) const EVENT: &str =
    concat!("SELECT ", event!(), " FROM events e WHERE e.tenant = $1 AND e.id = $2");

pub(crate) const DELIVERIES_OF: &str =
    concat!("SELECT d.id, d.subscription, ", state!(), " FROM deliveries d WHERE d.event = $1 ORDER BY d.id");

/// An event that cannot be pruned until the transaction ends.
pub(crate) const LOCK_EVENT: &str = "
    SELECT e.tenant, e.ordering_key, e.deliver_at FROM events e WHERE e.id = $1 FOR NO KEY UPDATE";

/// More deliveries of a stored event.
pub(crate) const ADD: &str = "
    WITH n AS MATERIALIZED (SELECT clock() AS now),
    d AS (
        INSERT INTO deliveries (id, event, subscription, number, created_at, added, ordered, chain_start,
                                give_up_at, next_attempt_at)
        SELECT u.id, $1, u.subscription, nextval('numbers'), (SELECT now FROM n), true, u.ordered,
               greatest((SELECT now FROM n), $2),
               greatest((SELECT now FROM n), $2) + u.give_up_after * interval '1 microsecond',
               greatest((SELECT now FROM n), $2)
        FROM unnest($3::uuid[], $4::uuid[], $5::bool[], $6::bigint[]) u (id, subscription, ordered, give_up_after)
        RETURNING id, subscription, chain_start, give_up_at),
    o AS (
        INSERT INTO open (id, subscription, chain_start, give_up_at)
        SELECT id, subscription, chain_start, give_up_at FROM d)
    SELECT now FROM n";

// ---------------------------------------------------------------------------------------------------------------
// Sweeps

pub(crate) const EXPIRABLE_OF_LANE: &str = concat!(
    "WITH n AS MATERIALIZED (SELECT clock() AS now)
    SELECT d.id, d.subscription, s.tenant, ",
    state!(),
    " FROM open o JOIN deliveries d ON d.id = o.id JOIN subscriptions s ON s.id = d.subscription
    WHERE o.subscription = $1 AND o.give_up_at <= (SELECT now FROM n) AND d.finished_at IS NULL
    ORDER BY o.give_up_at LIMIT $2"
);

pub(crate) const EXPIRABLE_BY_AGE: &str = concat!(
    "WITH n AS MATERIALIZED (SELECT clock() AS now)
    SELECT d.id, d.subscription, s.tenant, ",
    state!(),
    " FROM open o JOIN deliveries d ON d.id = o.id JOIN subscriptions s ON s.id = d.subscription
    WHERE o.chain_start < (SELECT now - $1::bigint * interval '1 microsecond' FROM n) AND d.finished_at IS NULL
    ORDER BY o.chain_start LIMIT $2"
);

pub(crate) const DRAINING: &str =
    "SELECT id, tenant FROM subscriptions WHERE draining AND id > $1 ORDER BY id LIMIT 1";

/// What is open of a subscription: unfinished, or with a forced attempt.
pub(crate) const UNFINISHED: &str = "SELECT id FROM open WHERE subscription = $1 LIMIT $2";

pub(crate) const LOCK_DRAINING: &str = "SELECT id FROM subscriptions WHERE id = $1 AND draining FOR UPDATE";

pub(crate) const DRAINED: &str = "
    UPDATE subscriptions SET draining = false
    WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM open WHERE subscription = $1)";

/// Cancels what is unfinished of these, which are locked, and drops what was asked of them.
pub(crate) const CANCEL: &str = "
    WITH n AS MATERIALIZED (SELECT clock() AS now),
    c AS (
        UPDATE deliveries d SET
            revision = d.revision + 1, request = NULL, next_attempt_at = NULL,
            status = CASE WHEN d.finished_at IS NULL THEN 'cancelled' ELSE d.status END,
            reason = CASE WHEN d.finished_at IS NULL THEN 'subscription_deleted' ELSE d.reason END,
            finished_at = coalesce(d.finished_at, (SELECT now FROM n))
        FROM unnest($1::uuid[]) u (id) WHERE d.id = u.id
        RETURNING d.id, d.event, d.status, d.finished_at),
    closed AS (DELETE FROM open o USING c WHERE o.id = c.id),
    buried AS (
        INSERT INTO dead (id) SELECT id FROM c WHERE status IN ('exhausted', 'cancelled') ON CONFLICT DO NOTHING),
    over AS (INSERT INTO finished (at, event) SELECT finished_at, event FROM c),
    t AS (DELETE FROM turns x USING c WHERE x.delivery = c.id)
    SELECT count(*) FROM c";

// ---------------------------------------------------------------------------------------------------------------
// Subscriptions

pub(crate) const RAISE: &str = "
    INSERT INTO tenants AS t (tenant, config_version) VALUES ($1, 1)
    ON CONFLICT (tenant) DO UPDATE SET config_version = t.config_version + 1 RETURNING config_version, clock() AS now";

pub(crate) const SUBSCRIPTION_BY_ID: &str =
    concat!("SELECT ", subscription!(), " FROM subscriptions s WHERE s.id = $1");

pub(crate) const LOCK_SUBSCRIPTION: &str = concat!(
    "SELECT ",
    subscription!(),
    " FROM subscriptions s WHERE s.id = $1 AND s.tenant = $2 AND s.deleted_at IS NULL FOR UPDATE"
);

pub(crate) const CREATE_SUBSCRIPTION: &str = "
    INSERT INTO subscriptions
        (id, tenant, status, version, config_version, created_at, updated_at, settings, secrets)
    VALUES ($1, $2, $3, 1, $4, $5, $5, $6, $7)";

pub(crate) const UPDATE_SUBSCRIPTION: &str = "
    UPDATE subscriptions
    SET status = $2, version = $3, config_version = $4, updated_at = $5, settings = $6, secrets = $7
    WHERE id = $1";

pub(crate) const DELETE_SUBSCRIPTION: &str = "
    UPDATE subscriptions
    SET deleted_at = $2, draining = true, config_version = $3, secrets = $4, version = version + 1 WHERE id = $1";

pub(crate) const GET_SUBSCRIPTIONS: &str = concat!(
    "SELECT ",
    subscription!(),
    " FROM subscriptions s WHERE s.id = ANY($1::uuid[]) AND s.deleted_at IS NULL"
);

pub(crate) const LIST_SUBSCRIPTIONS: &str = concat!(
    "SELECT ",
    subscription!(),
    " FROM subscriptions s
    WHERE s.deleted_at IS NULL AND ($1::text IS NULL OR s.tenant = $1)
      AND ($2::text[] = '{}' OR s.status = ANY($2)) AND s.id < $3 ORDER BY s.id DESC LIMIT $4"
);

pub(crate) const SNAPSHOT: &str = concat!(
    "SELECT t.config_version AS tenant_version, ",
    subscription!(),
    " FROM tenants t
    LEFT JOIN subscriptions s ON s.tenant = t.tenant AND s.deleted_at IS NULL
    WHERE t.tenant = $1 ORDER BY s.id"
);

pub(crate) const CHANGES: &str = concat!(
    "SELECT t.config_version AS tenant_version, ",
    subscription!(),
    " FROM tenants t
    LEFT JOIN subscriptions s ON s.tenant = t.tenant AND s.config_version > $2
    WHERE t.tenant = $1 ORDER BY s.id"
);

pub(crate) const NEXT_SUBSCRIPTIONS: &str =
    concat!("SELECT ", subscription!(), " FROM subscriptions s WHERE s.id > $1 ORDER BY s.id LIMIT $2");

// ---------------------------------------------------------------------------------------------------------------
// The inbox

pub(crate) const TRY_RELAY: &str = "SELECT pg_try_advisory_lock($1)";

pub(crate) const END_RELAY: &str = "SELECT pg_advisory_unlock($1)";

pub(crate) const INBOX_TAKE: &str = "
    SELECT number, id, tenant, event_type, payload, content_type, ordering_key, deliver_at, idempotency_key, traceparent
    FROM inbox WHERE problem IS NULL AND number >= $1 ORDER BY number LIMIT $2";

pub(crate) const INBOX_PUBLISHED: &str = "DELETE FROM inbox WHERE number = ANY($1::bigint[])";

pub(crate) const INBOX_REJECT: &str = "
    UPDATE inbox i SET problem = u.problem FROM unnest($1::bigint[], $2::text[]) u (number, problem)
    WHERE i.number = u.number";

/// Rows of one id are one event, told by its last row.
pub(crate) const INBOX_REJECTED: &str = "
    SELECT DISTINCT ON (id) id, tenant, event_type, problem, created_at FROM inbox
    WHERE problem IS NOT NULL AND ($1::text IS NULL OR tenant = $1) AND ($2::uuid IS NULL OR id < $2)
    ORDER BY id DESC, number DESC LIMIT $3";

pub(crate) const INBOX_DELETE: &str =
    "DELETE FROM inbox WHERE problem IS NOT NULL AND id = $1 AND ($2::text IS NULL OR tenant = $2)";

// ---------------------------------------------------------------------------------------------------------------
// Replays

pub(crate) const REPLAY: &str = concat!(replay!(), " WHERE id = $1");

pub(crate) const REPLAY_START: &str = "
    INSERT INTO replays (id, tenant, started_at, statuses, subscription, event, event_type, since, until,
                         last_number, matched, more)
    SELECT $1, $2, clock(), $3, $4, $5, $6, $7, $8, CASE WHEN s.is_called THEN s.last_value ELSE 0 END, $9, $10
    FROM numbers s ON CONFLICT (id) DO NOTHING";

pub(crate) const REPLAY_NEXT: &str = concat!(replay!(), " WHERE finished_at IS NULL ORDER BY id LIMIT 1");

pub(crate) const REPLAY_MOVE: &str = "
    UPDATE replays SET after = coalesce($3, after), finished_at = CASE WHEN $3 IS NULL THEN clock() END
    WHERE id = $1 AND finished_at IS NULL AND after IS NOT DISTINCT FROM $2";

pub(crate) const REPLAY_DONE: &str = "UPDATE replays SET done = done + $2 WHERE id = $1";

mod meta;
pub(crate) use meta::{ADVANCE_EPOCH, BIND_QUEUE, EPOCH, PING, REBIND_QUEUE};
mod retention;
pub(crate) use retention::*;
pub(crate) mod statistics;

#[cfg(test)]
mod tests;
