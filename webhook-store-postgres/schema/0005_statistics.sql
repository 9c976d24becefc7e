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
    merged_start timestamptz NOT NULL, -- of the minute or the hour that it is merged into
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
-- which are the worst, of a tenant and of all: of the failing ones, by these indexes alone
CREATE INDEX rollups_failed ON rollups (tenant, start) INCLUDE (span, subscription, attempts_failed)
    WHERE subscription IS NOT NULL AND attempts_failed > 0;
CREATE INDEX rollups_failed_of_all ON rollups (start) INCLUDE (span, subscription, attempts_failed)
    WHERE subscription IS NOT NULL AND attempts_failed > 0;
-- totals of a subscription, and what the worst ones succeeded in
CREATE INDEX rollups_subscription ON rollups (subscription, start) WHERE subscription IS NOT NULL;
-- compact: the oldest, scope by scope
CREATE INDEX rollups_merge ON rollups (span, merged_start, tenant, subscription);
