-- extend: ARGV lease in µs, then id 16 and token 16 an item. Answers one letter an item: 1 when it is still its
-- token's. A lease that ran out and that nobody claimed since holds again.
local lease, n = tonumber(ARGV[2]), #ARGV - 2
local ids, where = {}, {}
for i = 1, n do ids[i] = sub(ARGV[i + 2], 1, 16) end
local values = R('HMGET', JOBS, unpack(ids))
for i = 1, n do
  if values[i] then where[#where + 1] = sub(values[i], 1, 16) end
end
load_lanes(where)
local answers, jobs, ends, changed = {}, {}, {}, {}
for i = 1, n do
  local id = ids[i]
  local j = jobs[id]
  if j == nil then
    j = values[i] and read_job(values[i]) or false
    jobs[id] = j
  end
  local l = j and lanes[j.lane]
  if l and j.token == sub(ARGV[i + 2], 17, 32) then
    if not j.leased then
      local set = j.urgent and 'u' or 'z'
      j.due = tonumber(R('ZSCORE', P .. set .. ':' .. l.id, id) or now)
      j.leased = true
      push(l, set .. 'rem', id)
      l.f = l.f + 1
      touch(l)
      changed[#changed + 1] = id
      changed[#changed + 1] = write_job(j)
    end
    ends[#ends + 1] = now + lease
    ends[#ends + 1] = id
    answers[i] = '1'
  else
    answers[i] = '0'
  end
end
if #ends > 0 then R('ZADD', LEASES, unpack(ends)) end
if #changed > 0 then R('HSET', JOBS, unpack(changed)) end
write_lanes()
return table.concat(answers)
