-- How leases end or go on, and how lanes are told their settings. What locks what, and in which order, is said in
-- 0002_queue.sql.

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
