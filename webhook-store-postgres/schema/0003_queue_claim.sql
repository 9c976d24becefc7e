-- How jobs come to the queue and to workers. What locks what, and in which order, is said in 0002_queue.sql.

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
