-- remove: ARGV ids. Answers nothing of use.
local ids, where, gone, over, seen = {}, {}, {}, {}, {}
for i = 2, #ARGV do ids[i - 1] = ARGV[i] end
local values = R('HMGET', JOBS, unpack(ids))
for i = 1, #ids do
  if values[i] then where[#where + 1] = sub(values[i], 1, 16) end
end
load_lanes(where)
for i = 1, #ids do
  local id = ids[i]
  if values[i] and not seen[id] then
    seen[id] = true
    local j = read_job(values[i])
    local l = lanes[j.lane]
    gone[#gone + 1] = id
    if j.leased then over[#over + 1] = id end
    if l then
      if j.leased then finish(l) else push(l, j.urgent and 'urem' or 'zrem', id) end
      touch(l)
    end
  end
end
if #gone > 0 then R('HDEL', JOBS, unpack(gone)) end
if #over > 0 then R('ZREM', LEASES, unpack(over)) end
write_lanes()
if #gone > 0 then count() end
return #gone
