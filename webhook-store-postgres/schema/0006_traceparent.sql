-- Which trace an event was published in, as the value of its `traceparent`. Both columns begin as NULL, so that no
-- table is rewritten.
ALTER TABLE events ADD COLUMN traceparent text;
ALTER TABLE inbox ADD COLUMN traceparent text;
