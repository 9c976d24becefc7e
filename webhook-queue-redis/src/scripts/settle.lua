-- settle: ARGV one string an item: id 16, token 16, verdict (0 done, 1 retry, 2 release), effect (0 neutral,
-- 1 fast, 2 slow, 3 unanswered, 4 asked), wait µs, µs asked for, mark.
-- Answers {n, one byte an item: the lane's strikes, or 255 for a stale one}.
local n = #ARGV - 1
local ids, where = {}, {}
for i = 1, n do ids[i] = sub(ARGV[i + 1], 1, 16) end
local values = R('HMGET', JOBS, unpack(ids))
for i = 1, n do
  if values[i] then where[#where + 1] = sub(values[i], 1, 16) end
end
load_lanes(where)

-- lane.rs: Health::take
local function take(l, effect, asked, mark)
  local parking
  if effect == 1 then
    l.strikes = floor(l.strikes / 2)
    l.slow = 0
  elseif effect == 2 then
    l.slow = 1
  elseif effect == 3 and mark == l.mark then
    l.mark = l.mark + 1
    l.strikes = min(16, l.strikes + 1)
    if l.strikes >= 8 then parking = min(30, 2 ^ (l.strikes - 8)) * 1000000 end
  elseif effect == 4 then
    l.strikes = floor(l.strikes / 2)
    parking = asked
  end
  if parking then l.parked = max(l.parked, now + parking) end
end

local answers, jobs, gone, over, changed = {}, {}, {}, {}, {}
for i = 1, n do
  local id, arg = ids[i], ARGV[i + 1]
  local j = jobs[id]
  if j == nil then
    j = values[i] and read_job(values[i]) or false
    jobs[id] = j
  end
  local l = j and lanes[j.lane]
  if not l or j.token ~= sub(arg, 17, 32) then
    answers[i] = '\255'
  else
    local verdict, effect, wait, asked, mark = unpack_struct('<BBddd', arg, 33)
    take(l, effect, asked, mark)
    touch(l)
    if j.leased then
      finish(l)
      over[#over + 1] = id
    elseif verdict == 0 or (verdict == 1 and j.urgent) then
      -- Its time was over and it was pending again.
      push(l, j.urgent and 'urem' or 'zrem', id)
    end
    if verdict == 0 then
      gone[#gone + 1] = id
    elseif verdict == 1 then
      pend(l, id, now + wait, false)
      changed[#changed + 1] = id
      changed[#changed + 1] = j.lane
    else
      -- Released: it keeps its place, and the tokens of others.
      if j.leased then pend(l, id, min(j.due, now), j.urgent) end
      j.leased, j.token = nil, nil
      changed[#changed + 1] = id
      changed[#changed + 1] = write_job(j)
    end
    jobs[id] = false
    answers[i] = char(l.strikes)
  end
end

local counted = 0
if #touched > 0 then
  if #over > 0 then R('ZREM', LEASES, unpack(over)) end
  if #gone > 0 then R('HDEL', JOBS, unpack(gone)) end
  if #changed > 0 then R('HSET', JOBS, unpack(changed)) end
  write_lanes()
  counted = count()
end
return { counted, table.concat(answers) }
