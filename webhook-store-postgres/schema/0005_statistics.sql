-- Statistics. Run with search_path set to the schema that holds it.
--
-- Roll-ups are inserted once and never changed; merging deletes some and inserts others in one transaction. Those
-- of a tenant, of a subscription and of everybody are rows of their own, so that nothing is summed over more rows
-- than it must be. Every row has an id that its process made, so that one that is inserted again is known.

CREATE TABLE rollups (
    id uuid PRIMARY KEY,
    tenant text NOT NULL, -- '' in those of everybody
    subscription uuid, -- NULL in those of a tenant, and of everybody
    span smallint NOT NULL, -- 0: part of a minute, 1: minute, 2: hour
    start timestamptz NOT NULL, -- of the minute or the hour
    events bigint NOT NULL,
    succeeded bigint NOT NULL,
    exhausted bigint NOT NULL,
    cancelled bigint NOT NULL,
    attempts_succeeded bigint NOT NULL,
    attempts_failed bigint NOT NULL,
    attempts_unknown bigint NOT NULL,
    latency bytea NOT NULL -- a histogram
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
-- totals of a tenant, and of everybody
CREATE INDEX rollups_tenant ON rollups (tenant, start) WHERE subscription IS NULL;
-- the worst of a tenant
CREATE INDEX rollups_worst ON rollups (tenant, start) WHERE subscription IS NOT NULL;
-- totals of a subscription
CREATE INDEX rollups_subscription ON rollups (subscription, start) WHERE subscription IS NOT NULL;
-- compact; the worst of all
CREATE INDEX rollups_start ON rollups (span, start);
