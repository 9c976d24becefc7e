-- {COUNT} deliveries that are due in an hour, of the subscriptions that are there, in turn: what publishing as many
-- scheduled events leaves, without publishing them. For a schema that nobody writes to meanwhile.
SET search_path = webhooks;

CREATE TEMP TABLE backlog AS
SELECT new_id() AS event, new_id() AS delivery, clock() AS made, clock() + interval '1 hour' AS due,
       (SELECT count(*) FROM subscriptions s WHERE s.deleted_at IS NULL) AS lanes, n
FROM generate_series(0, {COUNT} - 1) n;

INSERT INTO events (id, tenant, event_type, content_type, created_at, delivery_count, payload_size, deliver_at, payload)
SELECT event, 'default', 'bench.backlog', 'application/json', made, 1, 2, due, '{}' FROM backlog ORDER BY event;

CREATE TEMP TABLE lanes_in_turn AS
SELECT id AS subscription, row_number() OVER (ORDER BY id) - 1 AS place FROM subscriptions WHERE deleted_at IS NULL;

INSERT INTO deliveries (id, event, subscription, number, created_at, added, ordered, chain_start, give_up_at, next_attempt_at)
SELECT b.delivery, b.event, l.subscription, nextval('numbers'), b.made, false, false, b.due, b.due + interval '4 days', b.due
FROM backlog b JOIN lanes_in_turn l ON l.place = b.n % b.lanes ORDER BY b.delivery;

INSERT INTO open (id, subscription, chain_start, give_up_at)
SELECT d.id, d.subscription, d.chain_start, d.give_up_at
FROM deliveries d JOIN backlog b ON b.delivery = d.id ORDER BY d.id;

DROP TABLE backlog, lanes_in_turn;
ANALYZE events;
ANALYZE deliveries;
ANALYZE open;
