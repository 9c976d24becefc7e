-- The queue: its tables. Its functions are in the next two files. Run with search_path set to the schema that holds it.
--
-- Lanes hold facts; `ready_at` follows from them, so that a lane that is full, empty, held, parked or waiting
-- for its rate cannot be found by a claim. Whoever makes a lane ready sets `turn_at` to now: no lane becomes
-- ready in the past, and it goes behind those that were ready before.
--
-- What locks what, and in which order:
--   jobs that are leased    in the order of their ids, by settle and remove; a claim, when their leases have ended,
--                           skips those that are locked
--   lanes                   in the order of their ids; a claim skips those that are locked
--   jobs that are pending   only under their lane's lock, but for making one due earlier
-- A transaction that settles some jobs and removes others locks all of it first (`queue_lock`): else it would come
-- from the lanes of the ones to the jobs of the others, where somebody waits for those lanes.
-- Adding a job locks no lane: it leaves a row in `wakes`, which the next claim folds in. A lane's row is only
-- looked at after it was locked by a statement before: one that locked and looked would see the past.
--
-- Every statement on `jobs` names one table. One that finds its rows by `id = ANY (array)` compares `until` in a
-- way that fits none of the partial indexes. Else a plan that was made while the table was empty, and is kept,
-- may begin with the other table, or go through all of the wrong index, for ever.

CREATE TABLE lanes (
    id uuid PRIMARY KEY,
    version bigint NOT NULL,             -- of the settings: hold, own_limit, gap
    hold text,                           -- why it is not served at all
    own_limit int,                       -- most in flight, when the subscription says so
    most int NOT NULL,                   -- own_limit, or the workers' default as it was last heard
    gap bigint,                          -- microseconds between two jobs, when it has a rate
    strikes smallint NOT NULL DEFAULT 4,
    slow boolean NOT NULL DEFAULT false,
    mark bigint NOT NULL DEFAULT 0,
    in_flight int NOT NULL DEFAULT 0,    -- leased jobs that are counted
    next_due timestamptz NOT NULL DEFAULT 'infinity',      -- no pending job is due before; -infinity: urgent
    turn_at timestamptz NOT NULL DEFAULT '-infinity',      -- last served, or made ready
    turn bigint NOT NULL DEFAULT 0,                        -- which of two that were served at one moment was first
    parked_until timestamptz NOT NULL DEFAULT '-infinity',
    permit_at timestamptz NOT NULL DEFAULT '-infinity',    -- when its rate permits the next job
    class smallint NOT NULL GENERATED ALWAYS AS
        (CASE WHEN strikes >= 5 THEN 2 WHEN strikes >= 3 OR slow THEN 1 ELSE 0 END) STORED,
    -- Whether its leases are counted here. A lane that has proven itself and has no limit of its own is left
    -- to the processes, each of which keeps the workers' default by itself.
    counted boolean NOT NULL GENERATED ALWAYS AS
        (strikes > 0 OR slow OR own_limit IS NOT NULL OR gap IS NOT NULL) STORED,
    ready_at timestamptz GENERATED ALWAYS AS (
        CASE WHEN hold IS NULL AND next_due < 'infinity' AND in_flight < greatest(1, most >> strikes) THEN
            greatest(next_due, turn_at, CASE WHEN gap IS NOT NULL THEN permit_at END,
                     CASE WHEN next_due > '-infinity' THEN parked_until END)
        END) STORED
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
CREATE SEQUENCE lane_turns CACHE 32;
CREATE INDEX lanes_ready ON lanes (class, ready_at, turn) WITH (deduplicate_items = off) WHERE ready_at IS NOT NULL;

CREATE TABLE jobs (
    id uuid PRIMARY KEY,                 -- the delivery's
    lane uuid NOT NULL,
    due timestamptz NOT NULL,            -- -infinity: urgent
    until timestamptz,                   -- end of the lease; NULL: pending
    counted boolean NOT NULL,            -- the lease is in its lane's in_flight
    token uuid,                          -- of the last claim, until it is settled
    unsettled bytea                      -- of claims before it that nobody settled, one after the other
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
-- Equal times would share an entry whose dead parts cannot be removed one by one.
CREATE INDEX jobs_due ON jobs (lane, due) WITH (deduplicate_items = off) WHERE until IS NULL;
CREATE INDEX jobs_lease ON jobs (until) WITH (deduplicate_items = off) WHERE until IS NOT NULL;

-- Jobs that became pending and that their lanes do not know of yet.
CREATE TABLE wakes (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane uuid NOT NULL,
    due timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
