-- The store. Run with search_path set to the schema that holds it.

CREATE TABLE migrations (
    version int PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- What time it is. Tests replace it by one that they can move. The server inlines it; it is volatile, so a
-- condition takes it from a sub-select, or it would never be a condition of an index.
CREATE FUNCTION clock() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
    AS 'SELECT clock_timestamp()';
