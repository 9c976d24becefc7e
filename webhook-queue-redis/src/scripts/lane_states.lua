-- lane_states: ARGV ids. Answers {now, record or nothing…}. What is in flight are live leases: those whose time is
-- over are found first.
for _ = 1, 16 do
  if lapse(256) < 256 then break end
end
local ids = {}
for i = 2, #ARGV do ids[i - 1] = ARGV[i] end
return { now, unpack(R('HMGET', LANES, unpack(ids))) }
