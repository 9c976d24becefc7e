-- The queue. Run with search_path set to the schema that holds it.
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

-- Adds jobs. `_lane` is each one's place in `_lanes`, which names every lane once; `_rank` its place among the
-- jobs of its lane; `_due` may be NULL, for now. With `_asked`, the versions of settings that the caller knows,
-- jobs may be there already and lanes may be behind; without it, ids are new.
--
-- With `_token` the first jobs of lanes are leased, by lane at most `_wish`; of lanes that are not counted at
-- most `_allow`; the process has `_own` uncounted ones in flight already. Lanes that are counted are locked for
-- it, or passed over when somebody else has them.
--
-- Outcomes: 0 queued, 1 leased, 2 leased and counted, 3 present, 4 lane behind. The rest is by lane.
CREATE FUNCTION queue_add(
    _ids uuid[], _lane int[], _rank int[], _due timestamptz[], _asked bigint[], _lanes uuid[],
    _token uuid, _lease bigint, _wish int[], _allow int[], _own int[], _all int, _doubtful int, _default int,
    _now timestamptz,
    OUT outcomes smallint[], OUT classes smallint[], OUT marks bigint[], OUT versions bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz := coalesce(_now, clock());
    give int[]; counts boolean[]; locked uuid[]; may int[]; n int; added int; queued int; leased int;
    present uuid[]; ls uuid[]; ns int[];
BEGIN
    IF _token IS NOT NULL OR _asked IS NOT NULL THEN
        SELECT array_agg(z.version), array_agg(z.class), array_agg(z.mark), array_agg(z.counted), array_agg(z.g)
        INTO versions, classes, marks, counts, give
        FROM (
            SELECT y.*, greatest(0, least(y.d, _all - coalesce(sum(y.d) OVER
                    (ORDER BY y.o ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)))::int AS g
            FROM (
                SELECT x.*, CASE WHEN x.class = 0 THEN x.n ELSE greatest(0, least(x.n, _doubtful - coalesce(
                    sum(x.n) FILTER (WHERE x.class > 0) OVER
                        (ORDER BY x.o ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)))::int END AS d
                FROM (
                    SELECT u.o, l.version, l.class, l.mark, l.counted,
                        CASE WHEN _token IS NULL OR l.version IS NULL OR l.hold IS NOT NULL OR l.class = 2
                                OR l.parked_until > t OR l.next_due <= t OR (l.gap IS NOT NULL AND l.permit_at > t)
                            THEN 0
                            WHEN NOT l.counted THEN least(u.wish, u.allow)
                            WHEN l.gap IS NOT NULL THEN least(u.wish, 1)
                            ELSE u.wish END AS n
                    FROM unnest(_lanes, _wish, _allow) WITH ORDINALITY u(id, wish, allow, o)
                    LEFT JOIN LATERAL (SELECT * FROM lanes WHERE lanes.id = u.id) l ON true
                    ORDER BY u.o
                ) x
            ) y
            ORDER BY y.o
        ) z;
        SELECT array_agg(_lanes[u.o]) INTO ls FROM unnest(counts, give) WITH ORDINALITY u(c, g, o) WHERE u.c AND u.g > 0;
        IF ls IS NOT NULL THEN
            SELECT array_agg(k.id), array_agg(k.f) INTO locked, may
            FROM (SELECT l.id, CASE WHEN l.hold IS NOT NULL OR l.parked_until > t OR l.next_due <= t OR l.class = 2
                                        OR (l.gap IS NOT NULL AND l.permit_at > t) THEN 0
                               ELSE greatest(1, coalesce(l.own_limit, _default) >> l.strikes) - l.in_flight END AS f
                  FROM lanes l WHERE l.id = ANY (ls) ORDER BY l.id FOR UPDATE SKIP LOCKED) k;
            SELECT array_agg(CASE WHEN u.c AND u.g > 0
                    THEN greatest(0, least(u.g, coalesce(may[array_position(locked, _lanes[u.o])] - _own[u.o], 0)))
                    ELSE u.g END)
            INTO give FROM unnest(counts, give) WITH ORDINALITY u(c, g, o);
        END IF;
    END IF;

    IF _asked IS NOT NULL THEN
        SELECT array_agg(j.id) INTO present FROM jobs j WHERE j.id = ANY (_ids);
    END IF;
    SELECT array_agg(u.outcome), count(*) FILTER (WHERE u.outcome < 3), count(*) FILTER (WHERE u.outcome = 0),
           count(*) FILTER (WHERE u.outcome = 2)
    INTO outcomes, added, queued, leased
    FROM (SELECT (CASE WHEN _asked IS NOT NULL AND coalesce(versions[v.l] < _asked[v.o], true) THEN 4
                       WHEN v.id = ANY (present) THEN 3
                       WHEN v.r <= give[v.l] AND coalesce(v.due <= t, true) THEN 1 + counts[v.l]::int
                       ELSE 0 END)::smallint AS outcome
          FROM unnest(_ids, _lane, _rank, _due) WITH ORDINALITY v(id, l, r, due, o) ORDER BY v.o) u;
    IF added > 0 THEN
        INSERT INTO jobs (id, lane, due, until, counted, token)
        SELECT v.id, _lanes[v.l], coalesce(v.due, t),
               CASE WHEN v.outcome > 0 THEN t + _lease * interval '1 microsecond' END, v.outcome = 2,
               CASE WHEN v.outcome > 0 THEN _token END
        FROM unnest(_ids, _lane, _due, outcomes) v(id, l, due, outcome) WHERE v.outcome < 3
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS n = ROW_COUNT;
        IF n < added THEN
            -- Somebody else added one of them meanwhile. Looked at again, it is there.
            RAISE EXCEPTION 'a job was added by another' USING ERRCODE = 'serialization_failure';
        END IF;
    END IF;
    IF queued > 0 THEN
        INSERT INTO wakes (lane, due)
        SELECT _lanes[v.l], min(coalesce(v.due, t)) FROM unnest(_lane, _due, outcomes) v(l, due, outcome)
        WHERE v.outcome = 0 GROUP BY v.l;
    END IF;
    IF leased > 0 THEN
        SELECT array_agg(_lanes[v.l]), array_agg(v.c) INTO ls, ns
        FROM (SELECT l, count(*)::int AS c FROM unnest(_lane, outcomes) w(l, outcome) WHERE w.outcome = 2 GROUP BY l) v;
        UPDATE lanes SET in_flight = in_flight + ns[array_position(ls, id)], turn_at = t,
            permit_at = CASE WHEN gap IS NULL THEN permit_at
                             ELSE greatest(permit_at, t) + gap * interval '1 microsecond' END
        WHERE id = ANY (ls);
    END IF;
    IF present IS NOT NULL THEN
        WITH earlier AS (
            UPDATE jobs SET due = coalesce(_due[array_position(_ids, id)], t)
            WHERE id = ANY (present) AND coalesce(until, '-infinity') = '-infinity' AND due > coalesce(_due[array_position(_ids, id)], t)
                AND outcomes[array_position(_ids, id)] = 3
            RETURNING lane, due)
        INSERT INTO wakes (lane, due) SELECT e.lane, min(e.due) FROM earlier e GROUP BY e.lane;
        -- Should a lane have lost sight of a job, whoever offers the job again puts it right.
        INSERT INTO wakes (lane, due)
        SELECT p.lane, p.due FROM (SELECT j.lane, min(j.due) AS due FROM jobs j
                                   WHERE j.id = ANY (present) AND coalesce(j.until, '-infinity') = '-infinity' GROUP BY j.lane) p
        WHERE (SELECT l.next_due FROM lanes l WHERE l.id = p.lane) > p.due;
    END IF;
END $$;

-- Makes lanes know what has become pending: what `wakes` tells after `_wakes_from`, and leases that ended after
-- `_leases_from`. Their tokens stay good until another claim. It waits for nobody: a lane that another
-- transaction has is left with its wakes and its leases, which are found again later, and every other lane is
-- served meanwhile, however long that one stands still. So lanes are locked before leased jobs, but none of
-- either is waited for.
--
-- `seen` is the last wake that was folded in, or 1 when only leases were, or 0 when there was nothing. `busy`
-- are the lanes that were left, `wake` and `lease` where what was left of them begins.
CREATE FUNCTION queue_fold(
    _wakes_from bigint, _leases_from timestamptz, t timestamptz,
    OUT seen bigint, OUT busy uuid[], OUT wake bigint, OUT lease timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    asked uuid[]; got uuid[]; missed uuid[]; ls uuid[]; ds timestamptz[]; cs int[]; es uuid[]; n int;
BEGIN
    seen := 0;
    busy := '{}';
    -- A page of wakes may be all of lanes that others have: then those are passed over and the next is read.
    WHILE cardinality(busy) < 1000 LOOP
        asked := ARRAY(SELECT DISTINCT w.lane FROM (
            SELECT lane FROM wakes WHERE seq > _wakes_from AND NOT lane = ANY (busy) ORDER BY seq LIMIT 1000) w);
        EXIT WHEN asked = '{}';
        got := ARRAY(SELECT id FROM lanes WHERE id = ANY (asked) ORDER BY id FOR UPDATE SKIP LOCKED);
        IF cardinality(got) < cardinality(asked) THEN
            missed := ARRAY(SELECT id FROM lanes WHERE id = ANY (asked) AND NOT id = ANY (got));
            busy := busy || missed;
            -- Wakes of what is no lane go as well.
            got := ARRAY(SELECT u FROM unnest(asked) u WHERE NOT u = ANY (missed));
        END IF;
        IF got <> '{}' THEN
            WITH w AS (
                DELETE FROM wakes WHERE seq = ANY (ARRAY(
                    SELECT seq FROM wakes WHERE seq > _wakes_from AND lane = ANY (got)
                    ORDER BY seq LIMIT 1000 FOR UPDATE SKIP LOCKED))
                RETURNING seq, lane, due)
            SELECT array_agg(g.lane), array_agg(g.due), coalesce(max(g.seq), 0) INTO ls, ds, seen
            FROM (SELECT w.lane, min(w.due) AS due, max(w.seq) AS seq FROM w GROUP BY w.lane) g;
            EXIT;
        END IF;
    END LOOP;
    WHILE cardinality(busy) < 1000 LOOP
        asked := ARRAY(SELECT DISTINCT j.lane FROM (
            SELECT lane FROM jobs WHERE until <= t AND until > _leases_from AND NOT lane = ANY (busy)
            ORDER BY until LIMIT 1000) j);
        EXIT WHEN asked = '{}';
        got := ARRAY(SELECT id FROM lanes WHERE id = ANY (asked) ORDER BY id FOR UPDATE SKIP LOCKED);
        IF cardinality(got) < cardinality(asked) THEN
            busy := busy || ARRAY(SELECT u FROM unnest(asked) u WHERE NOT u = ANY (got));
        END IF;
        CONTINUE WHEN got = '{}';
        es := ARRAY(SELECT id FROM jobs WHERE until <= t AND until > _leases_from AND lane = ANY (got)
                    ORDER BY until LIMIT 1000 FOR UPDATE SKIP LOCKED);
        WITH e AS (UPDATE jobs SET until = NULL WHERE id = ANY (es) RETURNING lane, due, counted)
        SELECT array_agg(g.lane), array_agg(g.due), array_agg(g.c), sum(g.c2)::int INTO ls, ds, cs, n
        FROM (SELECT x.lane, min(x.due) AS due, sum(x.c)::int AS c, sum(x.c2)::int AS c2
              FROM (SELECT e.lane, e.due, e.counted::int AS c, 1 AS c2 FROM e
                    UNION ALL SELECT u.l, u.d, 0, 0 FROM unnest(ls, ds) u(l, d)) x GROUP BY x.lane) g;
        IF coalesce(n, 0) < 1000 THEN
            -- Those whose results are being recorded at this moment.
            busy := busy || ARRAY(SELECT DISTINCT lane FROM jobs
                                  WHERE until <= t AND until > _leases_from AND lane = ANY (got));
        END IF;
        EXIT;
    END LOOP;
    IF busy <> '{}' THEN
        wake := (SELECT min(seq) FROM wakes WHERE seq > _wakes_from AND lane = ANY (busy));
        lease := (SELECT min(until) FROM jobs WHERE until <= t AND until > _leases_from AND lane = ANY (busy));
    END IF;
    IF ls IS NOT NULL THEN
        UPDATE lanes SET next_due = least(next_due, ds[array_position(ls, id)]),
            in_flight = in_flight - coalesce(cs[array_position(ls, id)], 0), turn_at = greatest(turn_at, t)
        WHERE id = ANY (ls) AND (next_due > ds[array_position(ls, id)] OR cs[array_position(ls, id)] > 0);
        seen := greatest(seen, 1);
    END IF;
END $$;

-- Leases due jobs, lanes in turn. `_own` says how many uncounted jobs this process has in flight in
-- `_own_lanes`; as it may take fresh ones while this runs, each side keeps to half of what such a lane has free,
-- unless the lane had jobs waiting before and has more than it can give: then nothing is handed off from it.
-- `more` says that a lane kept back its half; `busy`, `wake` and `lease` what others have (`queue_fold`).
-- `_avoid` are lanes to be left alone. The marks `_from` are what the claim before told of, or the least there
-- is to look at everything: the last wake, the time, and since when the first lane has been ready, if known.
CREATE FUNCTION queue_claim(
    _id uuid, _lease bigint, _all int, _doubtful int, _dead int, _default int, _avoid uuid[],
    _own_lanes uuid[], _own int[], _wakes_from bigint, _leases_from timestamptz, _ready_from timestamptz,
    OUT ids uuid[], OUT lane_ids uuid[], OUT classes smallint[], OUT marks bigint[], OUT versions bigint[],
    OUT counts boolean[], OUT unsettled bytea[], OUT seen bigint, OUT at timestamptz, OUT low timestamptz,
    OUT more boolean, OUT busy uuid[], OUT wake bigint, OUT lease timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz := clock(); start timestamptz := t; kept boolean; patience text;
    want int := _all; room int := least(_all, _doubtful); dead int := least(_all, _doubtful, _dead);
    rounds int := 0; k int; n1 int; n2 int; first timestamptz; m int; one uuid;
    ls uuid[]; fs int[]; gs int[]; hs timestamptz[]; bs timestamptz[]; ks smallint[]; ms bigint[]; vs bigint[]; us boolean[]; fresh boolean[];
    take uuid[]; nds timestamptz[]; got_lanes uuid[]; got int[];
    i uuid[]; l uuid[]; x bytea[];
BEGIN
    -- A claim that a crash of the server undoes has left a pending job, and its token never comes again.
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT f.seen, f.busy, f.wake, f.lease INTO seen, busy, wake, lease FROM queue_fold(_wakes_from, _leases_from, t) f;
    WHILE want > 0 AND rounds < 8 LOOP
        rounds := rounds + 1;
        -- A quarter as many lanes as jobs at first, so that a lane gives several in one turn.
        k := CASE WHEN rounds = 1 THEN greatest(1, want / 4) ELSE want END;
        -- Lock the first of each class, and take the first of them all; what others have locked is theirs.
        WITH a AS MATERIALIZED (
            SELECT * FROM lanes WHERE class = 0 AND ready_at <= t AND ready_at >= _ready_from
                AND NOT id = ANY (_avoid) ORDER BY ready_at, turn LIMIT k FOR UPDATE SKIP LOCKED),
        b AS MATERIALIZED (
            SELECT * FROM lanes WHERE class = 1 AND ready_at <= t AND ready_at >= _ready_from
                AND NOT id = ANY (_avoid) ORDER BY ready_at, turn LIMIT least(k, room) FOR UPDATE SKIP LOCKED),
        c AS MATERIALIZED (
            SELECT * FROM lanes WHERE class = 2 AND ready_at <= t AND ready_at >= _ready_from
                AND NOT id = ANY (_avoid) ORDER BY ready_at, turn LIMIT least(k, dead) FOR UPDATE SKIP LOCKED)
        SELECT array_agg(y.id), array_agg(y.next_due), array_agg(y.class), array_agg(y.mark), array_agg(y.version),
            array_agg(y.counted), array_agg(CASE WHEN y.parked_until > t THEN '-infinity' ELSE t END),
            array_agg(CASE WHEN y.gap IS NOT NULL THEN least(1, y.f) WHEN y.counted THEN y.f
                           ELSE y.f - coalesce(got[array_position(got_lanes, y.id)], 0) END),
            -- What it gives when nothing may be left behind.
            array_agg(CASE WHEN y.counted THEN y.f
                           ELSE (y.f + 1) / 2 - coalesce(got[array_position(got_lanes, y.id)], 0) END),
            array_agg(NOT y.counted AND y.turn_at >= start), min(y.ready_at), count(*) FILTER (WHERE y.class > 0), count(*) FILTER (WHERE y.class = 2)
        INTO ls, hs, ks, ms, vs, us, bs, fs, gs, fresh, first, n1, n2
        FROM (SELECT z.*, greatest(1, coalesce(z.own_limit, _default) >> z.strikes) - z.in_flight
                     - coalesce(_own[array_position(_own_lanes, z.id)], 0) AS f
              FROM (SELECT x.*, count(*) FILTER (WHERE x.class > 0)
                               OVER (ORDER BY x.ready_at, x.turn ROWS UNBOUNDED PRECEDING) AS nth
                    FROM (SELECT * FROM a UNION ALL SELECT * FROM b UNION ALL SELECT * FROM c) x
                    ORDER BY x.ready_at, x.turn LIMIT k) z
              WHERE z.class = 0 OR z.nth <= room) y;
        IF rounds = 1 AND dead > 0 AND _avoid = '{}' THEN
            low := coalesce(first, t);
        END IF;
        IF ls IS NULL AND rounds = 1 AND seen = 0 THEN
            -- Others may have them all: stand in line for one, which is named first and then locked by its name.
            SELECT id INTO one FROM lanes WHERE class <= CASE WHEN dead > 0 THEN 2 WHEN room > 0 THEN 1 ELSE 0 END
                AND ready_at <= t AND ready_at >= _ready_from AND NOT id = ANY (_avoid)
            ORDER BY class, ready_at, turn LIMIT 1;
            EXIT WHEN one IS NULL;
            -- For as long as a commit takes. Who has it longer stands still, and others are not to wait for that.
            low := NULL;
            patience := current_setting('lock_timeout');
            BEGIN
                PERFORM set_config('lock_timeout', '100ms', true);
                PERFORM 1 FROM lanes WHERE id = one FOR UPDATE;
                PERFORM set_config('lock_timeout', patience, true);
            EXCEPTION WHEN lock_not_available THEN
                EXIT;
            END;
            t := clock();
            low := NULL;
            CONTINUE;
        END IF;
        EXIT WHEN ls IS NULL;

        m := cardinality(ls);
        -- One job more than a lane gives is read: it is the lane's next.
        WITH p AS MATERIALIZED (
            SELECT u.o, j.id, j.due, j.n <= u.q AND j.due <= u.b AS fits,
                j.n <= CASE WHEN j.due_now > u.q AND NOT u.r THEN u.q ELSE least(u.q, u.g) END AND j.due <= u.b AS take
            FROM (SELECT v.o, v.l, v.h, v.b, v.g, v.r, greatest(0, least(v.f, want / m + (v.o <= want % m)::int,
                        CASE WHEN v.k > 0 THEN room / nullif(n1, 0) END,
                        CASE WHEN v.k = 2 THEN greatest(1, dead / nullif(n2, 0)) END)) AS q
                  FROM unnest(ls, fs, gs, fresh, hs, bs, ks) WITH ORDINALITY v(l, f, g, r, h, b, k, o)) u
            CROSS JOIN LATERAL (
                SELECT w.id, w.due, row_number() OVER () AS n, count(*) FILTER (WHERE w.due <= u.b) OVER () AS due_now
                FROM (SELECT id, due FROM jobs WHERE lane = u.l AND until IS NULL AND due >= u.h
                      ORDER BY due LIMIT u.q + 1) w) j)
        SELECT (SELECT array_agg(p.id) FROM p WHERE p.take), array_agg(s.due),
            (SELECT bool_or(p.fits AND NOT p.take) FROM p)
        INTO take, nds, kept
        FROM (SELECT coalesce((SELECT min(p.due) FROM p WHERE p.o = o.o AND NOT p.take), 'infinity') AS due
              FROM generate_series(1, m) o(o) ORDER BY o.o) s;
        more := coalesce(more OR kept, kept, more);
        WITH up AS (
            UPDATE jobs SET until = t + _lease * interval '1 microsecond', token = _id,
                counted = us[array_position(ls, lane)],
                unsettled = CASE WHEN token IS NULL THEN jobs.unsettled
                                 ELSE coalesce(jobs.unsettled, '') || uuid_send(token) END
            WHERE id = ANY (take) AND coalesce(until, '-infinity') = '-infinity'
            RETURNING id, lane, jobs.unsettled),
        n AS (SELECT up.lane, count(*)::int AS n FROM up GROUP BY up.lane),
        b AS (
            UPDATE lanes SET turn_at = t, turn = nextval('lane_turns'), next_due = nds[array_position(ls, id)],
                in_flight = in_flight + CASE WHEN counted THEN coalesce((SELECT n.n FROM n WHERE n.lane = id), 0) ELSE 0 END,
                permit_at = CASE WHEN gap IS NOT NULL AND EXISTS (SELECT FROM n WHERE n.lane = id)
                    THEN greatest(permit_at, t) + gap * interval '1 microsecond' ELSE permit_at END
            WHERE id = ANY (ls))
        SELECT array_agg(up.id), array_agg(up.lane), array_agg(up.unsettled) INTO i, l, x FROM up;
        IF i IS NOT NULL THEN
            ids := ids || i;
            lane_ids := lane_ids || l;
            unsettled := unsettled || x;
            classes := classes || ARRAY(SELECT ks[array_position(ls, u)] FROM unnest(l) u);
            marks := marks || ARRAY(SELECT ms[array_position(ls, u)] FROM unnest(l) u);
            versions := versions || ARRAY(SELECT vs[array_position(ls, u)] FROM unnest(l) u);
            counts := counts || ARRAY(SELECT us[array_position(ls, u)] FROM unnest(l) u);
            want := want - cardinality(i);
        END IF;
        EXIT WHEN want = 0;
        SELECT least(want, _doubtful - count(*) FILTER (WHERE c > 0)), count(*) FILTER (WHERE c = 2)
        INTO room, n2 FROM unnest(classes) c;
        dead := least(room, _dead - n2);
        SELECT array_agg(g.lane), array_agg(g.n) INTO got_lanes, got
        FROM (SELECT u.lane, count(*)::int AS n FROM unnest(lane_ids) u(lane) GROUP BY u.lane) g;
        t := clock();
    END LOOP;
    at := t;
END $$;

-- Ends leases: verdicts are 0 done, 1 due again at `_dues` (NULL: now), 2 handed back, keeping its place.
-- Effects are 0 nothing, 1 fast, 2 slow, 3 unanswered, 4 asked to be parked for `_parks` microseconds; they
-- count in the order of the items, each of which names another job. Answers the strikes of each one's lane, or
-- NULL where the lease is not the token's any more; and whether a claim may find something new soon.
--
-- A lane on which nothing of this leaves a trace is only looked at: done jobs of a lane in good health are
-- deleted, and that is all.
CREATE FUNCTION queue_settle(
    _ids uuid[], _tokens uuid[], _verdicts smallint[], _dues timestamptz[], _effects smallint[], _parks bigint[],
    _marks bigint[], _now timestamptz,
    OUT strikes smallint[], OUT soon boolean
) LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz := coalesce(_now, clock());
    done uuid[]; back uuid[]; late uuid[]; late_lanes uuid[]; touched uuid[];
    os int[]; ls uuid[]; cs boolean[]; ds timestamptz[]; o2 int[]; l2 uuid[]; d2 timestamptz[]; c2 boolean[];
    ks uuid[]; known smallint[]; bad boolean[];
    ss smallint[]; sl boolean[]; mk bigint[]; pk timestamptz[]; fl int[]; nd timestamptz[];
    lane_of uuid[]; counted_of boolean[]; due_of timestamptz[];
    o int; p int;
BEGIN
    strikes := array_fill(NULL::smallint, ARRAY[cardinality(_ids)]);
    soon := false;
    SELECT array_agg(u.id) FILTER (WHERE u.v = 0), array_agg(u.id) FILTER (WHERE u.v > 0)
    INTO done, back FROM unnest(_ids, _verdicts) u(id, v);
    IF done IS NOT NULL AND back IS NOT NULL THEN
        -- One order for both kinds.
        PERFORM 1 FROM jobs WHERE id = ANY (_ids) AND coalesce(until, '-infinity') > '-infinity'
            AND token = _tokens[array_position(_ids, id)] ORDER BY id FOR UPDATE;
    END IF;
    IF done IS NOT NULL THEN
        WITH d AS (
            DELETE FROM jobs WHERE id = ANY (done) AND coalesce(until, '-infinity') > '-infinity'
                AND token = _tokens[array_position(_ids, id)]
            RETURNING array_position(_ids, id) AS o, lane, counted)
        SELECT array_agg(d.o), array_agg(d.lane), array_agg(d.counted), array_agg('infinity'::timestamptz)
        INTO os, ls, cs, ds FROM d;
    END IF;
    IF back IS NOT NULL THEN
        WITH r AS (
            UPDATE jobs SET until = NULL, token = NULL,
                unsettled = CASE WHEN _verdicts[array_position(_ids, id)] = 2 THEN unsettled END,
                due = CASE WHEN _verdicts[array_position(_ids, id)] = 1
                           THEN coalesce(_dues[array_position(_ids, id)], t) ELSE least(due, t) END
            WHERE id = ANY (back) AND coalesce(until, '-infinity') > '-infinity' AND token = _tokens[array_position(_ids, id)]
            RETURNING array_position(_ids, id) AS o, lane, counted, due)
        SELECT array_agg(r.o), array_agg(r.lane), array_agg(r.counted), array_agg(r.due)
        INTO o2, l2, c2, d2 FROM r;
        os := os || o2; ls := ls || l2; cs := cs || c2; ds := ds || d2;
    END IF;
    IF coalesce(cardinality(os), 0) < cardinality(_ids) THEN
        -- Leases that ran out and that nobody has taken since are good. Their jobs are pending.
        SELECT array_agg(j.id), array_agg(j.lane) INTO late, late_lanes
        FROM jobs j WHERE j.id = ANY (_ids) AND coalesce(j.until, '-infinity') = '-infinity' AND j.token = _tokens[array_position(_ids, j.id)];
    END IF;

    SELECT array_agg(l.id), array_agg(l.strikes), array_agg(l.strikes > 0 OR l.slow)
    INTO ks, known, bad FROM lanes l WHERE l.id = ANY (ls);
    SELECT array_agg(DISTINCT u.lane) INTO touched
    FROM (SELECT v.lane FROM unnest(os, ls, cs) v(o, lane, c)
          WHERE v.c OR _effects[v.o] > 1 OR (_effects[v.o] = 1 AND bad[array_position(ks, v.lane)])
          UNION ALL SELECT unnest(late_lanes)) u;
    IF touched IS NOT NULL THEN
        SELECT array_agg(l.id), array_agg(l.strikes), array_agg(l.slow), array_agg(l.mark),
               array_agg(l.parked_until), array_agg(0), array_agg('infinity'::timestamptz)
        INTO touched, ss, sl, mk, pk, fl, nd
        FROM (SELECT * FROM lanes WHERE id = ANY (touched) ORDER BY id FOR UPDATE) l;
        IF late IS NOT NULL THEN
            WITH d AS (
                DELETE FROM jobs WHERE id = ANY (late) AND coalesce(until, '-infinity') = '-infinity' AND token = _tokens[array_position(_ids, id)]
                    AND _verdicts[array_position(_ids, id)] = 0
                RETURNING array_position(_ids, id) AS o, lane, 'infinity'::timestamptz AS due),
            r AS (
                UPDATE jobs SET token = NULL,
                    unsettled = CASE WHEN _verdicts[array_position(_ids, id)] = 2 THEN unsettled END,
                    due = CASE WHEN _verdicts[array_position(_ids, id)] = 1
                               THEN coalesce(_dues[array_position(_ids, id)], t) ELSE least(due, t) END
                WHERE id = ANY (late) AND coalesce(until, '-infinity') = '-infinity' AND token = _tokens[array_position(_ids, id)]
                    AND _verdicts[array_position(_ids, id)] > 0
                RETURNING array_position(_ids, id), lane, due),
            x AS (SELECT * FROM d UNION ALL SELECT * FROM r)
            SELECT array_agg(x.o), array_agg(x.lane), array_agg(false), array_agg(x.due)
            INTO o2, l2, c2, d2 FROM x;
            os := os || o2; ls := ls || l2; cs := cs || c2; ds := ds || d2;
        END IF;
        SELECT array_agg(u.lane), array_agg(u.c), array_agg(u.due)
        INTO lane_of, counted_of, due_of
        FROM (SELECT v.lane, v.c, v.due FROM generate_series(1, cardinality(_ids)) g(o)
              LEFT JOIN unnest(os, ls, cs, ds) v(o, lane, c, due) ON v.o = g.o ORDER BY g.o) u;
        FOR o IN 1 .. cardinality(_ids) LOOP
            p := array_position(touched, lane_of[o]);
            CONTINUE WHEN p IS NULL;
            CASE _effects[o]
                WHEN 1 THEN
                    ss[p] := ss[p] / 2;
                    sl[p] := false;
                WHEN 2 THEN
                    sl[p] := true;
                WHEN 3 THEN
                    IF mk[p] = _marks[o] THEN
                        mk[p] := mk[p] + 1;
                        ss[p] := least(16, ss[p] + 1);
                        IF ss[p] >= 8 THEN
                            pk[p] := greatest(pk[p], t + least(30, 1 << least(ss[p] - 8, 5)) * interval '1 second');
                        END IF;
                    END IF;
                WHEN 4 THEN
                    ss[p] := ss[p] / 2;
                    pk[p] := greatest(pk[p], t + _parks[o] * interval '1 microsecond');
                ELSE
                    NULL;
            END CASE;
            IF counted_of[o] THEN
                fl[p] := fl[p] + 1;
            END IF;
            nd[p] := least(nd[p], due_of[o]);
            strikes[o] := ss[p];
        END LOOP;
        WITH u AS (
        UPDATE lanes SET strikes = ss[array_position(touched, id)], slow = sl[array_position(touched, id)],
            mark = mk[array_position(touched, id)], parked_until = pk[array_position(touched, id)],
            in_flight = in_flight - fl[array_position(touched, id)],
            next_due = least(next_due, nd[array_position(touched, id)]),
            turn_at = CASE WHEN ready_at <= t THEN turn_at ELSE greatest(turn_at, t) END
        WHERE id = ANY (touched) RETURNING ready_at)
        SELECT coalesce(bool_or(u.ready_at < t + interval '0.2 s'), false) INTO soon FROM u;
    END IF;
    -- What is left is of lanes on which it leaves no trace.
    IF back IS NOT NULL THEN
        WITH w AS (
            INSERT INTO wakes (lane, due) SELECT v.lane, min(v.due) FROM unnest(ls, ds) v(lane, due)
            WHERE v.due < 'infinity' AND NOT v.lane = ANY (coalesce(touched, '{}')) GROUP BY v.lane RETURNING due)
        SELECT soon OR coalesce(bool_or(w.due < t + interval '0.2 s'), false) INTO soon FROM w;
    END IF;
    FOR o IN 1 .. coalesce(cardinality(os), 0) LOOP
        IF strikes[os[o]] IS NULL THEN
            strikes[os[o]] := coalesce(known[array_position(ks, ls[o])], 0);
        END IF;
    END LOOP;
END $$;

-- Renews leases. Answers which are still their tokens'; one that ran out and that nobody has taken since holds
-- again, uncounted.
CREATE FUNCTION queue_extend(_ids uuid[], _tokens uuid[], _lease bigint) RETURNS boolean[] LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz := clock();
    held uuid[]; late uuid[]; ls uuid[];
BEGIN
    WITH u AS (UPDATE jobs SET until = t + _lease * interval '1 microsecond'
               WHERE id = ANY (_ids) AND coalesce(until, '-infinity') > '-infinity' AND token = _tokens[array_position(_ids, id)] RETURNING id)
    SELECT array_agg(u.id) INTO held FROM u;
    IF coalesce(cardinality(held), 0) < cardinality(_ids) THEN
        SELECT array_agg(DISTINCT j.lane) INTO ls
        FROM jobs j WHERE j.id = ANY (_ids) AND coalesce(j.until, '-infinity') = '-infinity' AND j.token = _tokens[array_position(_ids, j.id)];
        IF ls IS NOT NULL THEN
            PERFORM 1 FROM lanes WHERE id = ANY (ls) ORDER BY id FOR UPDATE;
            WITH u AS (UPDATE jobs SET until = t + _lease * interval '1 microsecond', counted = false
                       WHERE id = ANY (_ids) AND coalesce(until, '-infinity') = '-infinity' AND token = _tokens[array_position(_ids, id)] RETURNING id)
            SELECT array_agg(u.id) INTO late FROM u;
            held := held || late;
        END IF;
    END IF;
    RETURN ARRAY(SELECT coalesce(v.id = ANY (held), false) FROM unnest(_ids) WITH ORDINALITY v(id, o) ORDER BY v.o);
END $$;

-- Whether leases are still their tokens'. They stay so to the end of the transaction.
CREATE FUNCTION queue_hold(_ids uuid[], _tokens uuid[]) RETURNS boolean[] LANGUAGE plpgsql AS $$
DECLARE
    held uuid[]; late uuid[]; ls uuid[];
BEGIN
    held := ARRAY(SELECT id FROM jobs WHERE id = ANY (_ids) AND coalesce(until, '-infinity') > '-infinity'
                      AND token = _tokens[array_position(_ids, id)] ORDER BY id FOR UPDATE);
    IF cardinality(held) < cardinality(_ids) THEN
        SELECT array_agg(DISTINCT j.lane) INTO ls
        FROM jobs j WHERE j.id = ANY (_ids) AND coalesce(j.until, '-infinity') = '-infinity' AND j.token = _tokens[array_position(_ids, j.id)];
        IF ls IS NOT NULL THEN
            PERFORM 1 FROM lanes WHERE id = ANY (ls) ORDER BY id FOR UPDATE;
            late := ARRAY(SELECT id FROM jobs WHERE id = ANY (_ids) AND coalesce(until, '-infinity') = '-infinity'
                              AND token = _tokens[array_position(_ids, id)] ORDER BY id FOR UPDATE);
            held := held || late;
        END IF;
    END IF;
    RETURN ARRAY(SELECT v.id = ANY (held) FROM unnest(_ids) WITH ORDINALITY v(id, o) ORDER BY v.o);
END $$;

-- Locks these jobs and their lanes, so that settling and removing them waits for nobody any more.
--
-- Those that are leased come first, then the lanes. What is left is pending, or was claimed in between: whoever has one
-- of these may wait for a lane or for a job that is locked here by now, so they are not waited for. Everything is let
-- go then, and locked again from the first.
CREATE FUNCTION queue_lock(_ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    held uuid[]; ls uuid[]; rest uuid[]; got uuid[];
BEGIN
    LOOP
        BEGIN
            held := ARRAY(SELECT id FROM jobs WHERE id = ANY (_ids) AND coalesce(until, '-infinity') > '-infinity'
                          ORDER BY id FOR UPDATE);
            ls := ARRAY(SELECT DISTINCT j.lane FROM jobs j WHERE j.id = ANY (_ids));
            PERFORM 1 FROM lanes WHERE id = ANY (ls) ORDER BY id FOR UPDATE;
            rest := ARRAY(SELECT id FROM jobs WHERE id = ANY (_ids) AND NOT id = ANY (held));
            got := ARRAY(SELECT id FROM jobs WHERE id = ANY (rest) ORDER BY id FOR UPDATE SKIP LOCKED);
            IF cardinality(got) = cardinality(rest) THEN
                RETURN;
            END IF;
            RAISE EXCEPTION 'a job is locked by another' USING ERRCODE = 'WHK01';
        EXCEPTION WHEN SQLSTATE 'WHK01' THEN
            PERFORM pg_sleep(0.001);
        END;
    END LOOP;
END $$;

-- Forgets jobs, leased or not.
CREATE FUNCTION queue_remove(_ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz := clock();
    ls uuid[]; ns int[];
BEGIN
    PERFORM queue_lock(_ids);
    WITH d AS (DELETE FROM jobs WHERE id = ANY (_ids) RETURNING lane, until IS NOT NULL AND counted AS held)
    SELECT array_agg(g.lane), array_agg(g.n) INTO ls, ns
    FROM (SELECT d.lane, count(*)::int AS n FROM d WHERE d.held GROUP BY d.lane) g;
    UPDATE lanes SET in_flight = in_flight - ns[array_position(ls, id)],
        turn_at = CASE WHEN ready_at <= t THEN turn_at ELSE greatest(turn_at, t) END
    WHERE id = ANY (ls);
END $$;

-- Takes over settings unless they are older than the known ones. Lanes are sorted.
CREATE FUNCTION queue_configure(
    _ids uuid[], _versions bigint[], _holds text[], _limits int[], _gaps bigint[], _default int
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz := clock();
BEGIN
    INSERT INTO lanes AS l (id, version, hold, own_limit, most, gap, turn_at, next_due)
    SELECT u.id, u.version, u.hold, u.own_limit, coalesce(u.own_limit, _default), u.gap, t,
        coalesce((SELECT min(j.due) FROM jobs j WHERE j.lane = u.id AND j.until IS NULL), 'infinity')
    FROM unnest(_ids, _versions, _holds, _limits, _gaps) u(id, version, hold, own_limit, gap)
    ON CONFLICT (id) DO UPDATE SET version = excluded.version, hold = excluded.hold, own_limit = excluded.own_limit,
        most = excluded.most, gap = excluded.gap, turn_at = greatest(l.turn_at, t),
        -- A lane that waited for a slower rate does not wait longer than the new one asks for.
        permit_at = CASE WHEN excluded.gap IS NULL THEN l.permit_at
                         ELSE least(l.permit_at, t + excluded.gap * interval '1 microsecond') END
    WHERE l.version <= excluded.version;
END $$;

-- Takes over the workers' limit for lanes that have none of their own: for at most a thousand, among the next ten
-- thousand after `_after`. Answers up to where it came, NULL at the end; and whether it left some that others
-- have, to be told another time.
CREATE FUNCTION queue_default(_default int, _after uuid, OUT upto uuid, OUT skipped boolean) LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz := clock();
    page uuid[]; behind uuid[]; got uuid[];
BEGIN
    SELECT array_agg(l.id), (array_agg(l.id) FILTER (WHERE l.behind))[1:1000] INTO page, behind
    FROM (SELECT id, own_limit IS NULL AND most <> _default AS behind FROM lanes
          WHERE id > _after ORDER BY id LIMIT 10000) l;
    upto := CASE WHEN cardinality(behind) = 1000 THEN behind[1000]
                 WHEN cardinality(page) = 10000 THEN page[10000] END;
    got := ARRAY(SELECT id FROM lanes WHERE id = ANY (behind) ORDER BY id FOR UPDATE SKIP LOCKED);
    UPDATE lanes SET most = _default, turn_at = greatest(turn_at, t)
    WHERE id = ANY (got) AND own_limit IS NULL AND most <> _default;
    skipped := cardinality(got) < coalesce(cardinality(behind), 0);
END $$;

-- What time it is; whether a claim would find something now; and from when on, as far as is known. Lanes that
-- others had when the last claim came by are `_busy`: they are no news, but one of those that are passed over.
CREATE FUNCTION queue_look(
    _wakes_from bigint, _leases_from timestamptz, _ready_from timestamptz, _busy uuid[],
    OUT news boolean, OUT ready boolean, OUT wait bigint
) LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz := clock();
    lease timestamptz := (SELECT min(until) FROM jobs WHERE until > _leases_from AND NOT lane = ANY (_busy));
    soon timestamptz := least((SELECT min(ready_at) FROM lanes WHERE class = 0 AND ready_at > t),
                              (SELECT min(ready_at) FROM lanes WHERE class = 1 AND ready_at > t),
                              (SELECT min(ready_at) FROM lanes WHERE class = 2 AND ready_at > t));
BEGIN
    news := lease <= t OR EXISTS (SELECT FROM wakes WHERE seq > _wakes_from AND NOT lane = ANY (_busy));
    ready := _busy <> '{}'
        OR EXISTS (SELECT FROM lanes WHERE class = 0 AND ready_at <= t AND ready_at >= _ready_from)
        OR EXISTS (SELECT FROM lanes WHERE class = 1 AND ready_at <= t AND ready_at >= _ready_from)
        OR EXISTS (SELECT FROM lanes WHERE class = 2 AND ready_at <= t AND ready_at >= _ready_from);
    wait := (extract(epoch FROM least(lease, soon) - t) * 1000000)::bigint;
END $$;
