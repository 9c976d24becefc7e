-- The store. Run with search_path set to the schema that holds it; nothing here is named by its schema.
--
-- Ids are uuids, moments are timestamptz by clock(), spans are microseconds, names are the API's.
--
-- - Wide and written once: events, attempts. Changed with every attempt: deliveries, whose indexes are on
--   columns that never change, so that a change stays on its page and touches no index.
-- - What is asked for by a state has a small table of its own instead of a partial index over everything:
--   open, dead, finished, turns.
-- - No foreign keys: each would cost a look-up and a lock for every row of the hot path.

CREATE TABLE migrations (
    version int PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- What time it is. Tests replace it by one that they can move. The server inlines it; it is volatile, so a
-- condition takes it from a sub-select, or it would never be a condition of an index.
CREATE FUNCTION clock() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
    AS 'SELECT clock_timestamp()';

-- An id for whoever publishes without one: a UUID of version 7 (RFC 9562), so that lists by id are by time.
CREATE FUNCTION new_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
    AS $$SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid$$;

CREATE TABLE meta (
    id int PRIMARY KEY CHECK (id = 1),
    epoch bigint NOT NULL,
    queue text CHECK (queue IN ('database', 'other')) -- which kind of queue serves it; NULL before the first
);
INSERT INTO meta (id, epoch) VALUES (1, 1);

CREATE TABLE tenants (
    tenant text PRIMARY KEY,
    config_version bigint NOT NULL
);

CREATE TABLE subscriptions (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    status text NOT NULL,
    version bigint NOT NULL,
    config_version bigint NOT NULL, -- of the tenant, at the last change
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    draining boolean NOT NULL DEFAULT false, -- deleted, and may still have unfinished deliveries
    settings text NOT NULL, -- JSON
    secrets bytea NOT NULL -- JSON, sealed: secrets and header values
);
-- list of a tenant, snapshot
CREATE INDEX subscriptions_tenant ON subscriptions (tenant, id) WHERE deleted_at IS NULL;
-- changes_since; lists of a tenant's deliveries and attempts
CREATE INDEX subscriptions_config ON subscriptions (tenant, config_version);
-- cancel_deleted
CREATE INDEX subscriptions_draining ON subscriptions (id) WHERE draining;

CREATE TABLE events (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    event_type text NOT NULL,
    content_type text NOT NULL,
    created_at timestamptz NOT NULL,
    delivery_count int NOT NULL,
    payload_size int NOT NULL,
    ordering_key text,
    deliver_at timestamptz,
    idempotency_key text,
    only_subscription uuid,
    payload bytea NOT NULL
);
-- Payloads are sent as they are; packing them costs more than it saves.
ALTER TABLE events ALTER COLUMN payload SET STORAGE EXTERNAL;
-- list of a tenant
CREATE INDEX events_tenant ON events (tenant, id);

CREATE TABLE keys (
    tenant text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    event uuid NOT NULL,
    delivery_count int NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, key)
);
-- prune
CREATE INDEX keys_expiry ON keys (expires_at);

-- The order of publishing.
CREATE SEQUENCE numbers AS bigint;

CREATE TABLE deliveries (
    id uuid PRIMARY KEY,
    event uuid NOT NULL,
    subscription uuid NOT NULL,
    number bigint NOT NULL,
    created_at timestamptz NOT NULL,
    added boolean NOT NULL, -- its event's publish did not make it
    ordered boolean NOT NULL,
    chain_start timestamptz NOT NULL,
    give_up_at timestamptz NOT NULL,
    revision bigint NOT NULL DEFAULT 0,
    attempts int NOT NULL DEFAULT 0,
    failed int NOT NULL DEFAULT 0,
    unknowns int NOT NULL DEFAULT 0,
    chain int NOT NULL DEFAULT 0,
    last_status_code int,
    next_attempt_at timestamptz, -- by the schedule, whether or not it waits behind another
    finished_at timestamptz,
    status text NOT NULL DEFAULT 'pending',
    reason text,
    request text,
    error_kind text,
    error_detail text
) WITH (fillfactor = 70);
-- deliveries of an event: lists, duplicates, prune
CREATE INDEX deliveries_event ON deliveries (event);
-- list of a subscription; lists of a tenant are merged from those of its subscriptions
CREATE INDEX deliveries_subscription ON deliveries (subscription, id);

-- What is unfinished, and finished ones with an attempt that a person asked for: owed, expire, cancel_deleted,
-- list of unfinished ones.
CREATE TABLE open (
    id uuid PRIMARY KEY,
    subscription uuid NOT NULL,
    chain_start timestamptz NOT NULL,
    give_up_at timestamptz NOT NULL
);
-- expire by lane, cancel_deleted
CREATE INDEX open_give_up ON open (subscription, give_up_at);
-- expire by age
CREATE INDEX open_chain ON open (chain_start);

-- Dead letters: what is exhausted or cancelled, however many succeeded.
CREATE TABLE dead (
    id uuid PRIMARY KEY
);

-- When deliveries of an event finished, or one without deliveries was published: what prune reads.
CREATE TABLE finished (
    at timestamptz NOT NULL,
    event uuid NOT NULL
);
CREATE INDEX finished_at ON finished (at);

-- The unfinished deliveries that take turns.
CREATE TABLE turns (
    subscription uuid NOT NULL,
    ordering_key text NOT NULL, -- '' when the event has none
    number bigint NOT NULL,
    delivery uuid NOT NULL,
    head boolean NOT NULL, -- it is this one's turn
    PRIMARY KEY (subscription, ordering_key, number)
);
-- to end the turn of a delivery
CREATE UNIQUE INDEX turns_delivery ON turns (delivery);
-- one head a key
CREATE UNIQUE INDEX turns_head ON turns (subscription, ordering_key) WHERE head;

CREATE TABLE attempts (
    id uuid NOT NULL,
    delivery uuid NOT NULL,
    subscription uuid NOT NULL,
    token uuid NOT NULL,
    started_at timestamptz NOT NULL,
    duration bigint NOT NULL,
    number int NOT NULL,
    status_code int,
    trigger text NOT NULL,
    outcome text NOT NULL,
    error_kind text,
    error_detail text,
    target_url text NOT NULL,
    response_headers text NOT NULL, -- JSON
    response_body bytea NOT NULL,
    PRIMARY KEY (delivery, number)
);
-- list of a subscription; those of a tenant are merged
CREATE INDEX attempts_subscription ON attempts (subscription, id);

CREATE TABLE replays (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    started_at timestamptz NOT NULL,
    statuses text[] NOT NULL, -- none: any
    subscription uuid,
    event uuid,
    event_type text,
    since timestamptz,
    until timestamptz,
    last_number bigint NOT NULL, -- given when it started: what has a later one is no part of it
    after uuid, -- the last delivery of the page before
    finished boolean NOT NULL DEFAULT false,
    matched bigint NOT NULL,
    more boolean NOT NULL,
    done bigint NOT NULL DEFAULT 0
);
-- the oldest that runs
CREATE INDEX replays_running ON replays (id) WHERE NOT finished;

-- Written by applications, in any language: its columns are documented in the README and only ever added to.
CREATE TABLE inbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL DEFAULT new_id(),
    tenant text NOT NULL DEFAULT 'default',
    event_type text NOT NULL,
    payload bytea NOT NULL,
    content_type text NOT NULL DEFAULT 'application/json',
    ordering_key text,
    deliver_at timestamptz,
    idempotency_key text,
    created_at timestamptz NOT NULL DEFAULT clock(),
    problem text -- the store's: why it cannot be published
);
-- take
CREATE INDEX inbox_waiting ON inbox (number) WHERE problem IS NULL;
-- list of rejected ones
CREATE INDEX inbox_rejected ON inbox (id) WHERE problem IS NOT NULL;

-- Rows come and go here at the pace of publishing: what is dead must not lie between the living.
ALTER TABLE open SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
ALTER TABLE inbox SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
ALTER TABLE finished SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
