-- lanes: ARGV one string a lane: id 16, hold, own limit (0: none), version, gap of its rate in µs (0: none).
-- Older versions than the known one change nothing.
local ids = {}
for i = 2, #ARGV do ids[i - 1] = sub(ARGV[i], 1, 16) end
load_lanes(ids)
for i = 1, #ids do
  local hold, own, version, gap = unpack_struct('<BI4dd', ARGV[i + 1], 17)
  local l = lanes[ids[i]]
  if not l then
    l = new_lane(ids[i])
    lanes[ids[i]] = l
  end
  if version >= l.version then
    l.hold, l.own, l.version, l.gap = hold, own, version, gap
    -- A lane that waited for a slower rate does not wait longer than the new one asks for.
    if gap > 0 then l.permit = min(l.permit, now + gap) end
    touch(l)
  end
end
if #touched > 0 then
  write_lanes()
  count()
end
return 1
