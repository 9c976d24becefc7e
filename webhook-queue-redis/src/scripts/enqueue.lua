-- enqueue: ARGV hand-off ('' or token 16, lease µs, all, doubtful, default limit packed), lanes to avoid,
-- then one string a job: id 16, lane 16, wait µs, lane version, urgent.
-- Answers {n, one letter a job, leases…}: Queued, Present, lane Behind, Leased, and M: present and leased to this
-- very hand-off, which is what a lost reply leaves.
local hand, avoid = nil, {}
if ARGV[2] ~= '' then
  hand = { token = sub(ARGV[2], 1, 16) }
  hand.lease, hand.all, hand.doubtful, hand.default = unpack_struct('<dI4I4I4', ARGV[2], 17)
  for i = 1, #ARGV[3], 16 do avoid[sub(ARGV[3], i, i + 15)] = true end
end

local ids, where, n = {}, {}, #ARGV - 3
local any_urgent = false
for i = 1, n do
  local arg = ARGV[i + 3]
  ids[i] = sub(arg, 1, 16)
  where[i] = sub(arg, 17, 32)
  if byte(arg, 49) == 1 then any_urgent = true end
end
-- What was leased and is over is pending, and may become urgent.
if any_urgent then lapse(256) end

local values = R('HMGET', JOBS, unpack(ids))
for i = 1, n do
  if values[i] then where[i] = sub(values[i], 1, 16) end
end
load_lanes(where)

-- Whether a job that is due now may go to the worker at once, before all that waits in its lane.
local function hands_off(l, urgent)
  if not hand or avoid[l.id] then return false end
  local c = class(l)
  if c == 3 or hand.all < 1 or (c == 2 and hand.doubtful < 1) then return false end
  if l.own == 0 then l.default = hand.default end
  if l.urgent <= now or (not urgent and (l.due <= now or l.parked > now)) then return false end
  return permits(l) > 0
end

local answers, jobs, records, ends, leases = {}, {}, {}, {}, {}
for i = 1, n do
  local id, arg = ids[i], ARGV[i + 3]
  local wait, version, urgent = unpack_struct('<ddB', arg, 33)
  urgent = urgent == 1
  local l = lanes[where[i]]
  local named = l
  local j = jobs[id]
  if j then
    -- The same job twice in one call.
    if j.hold then
      l = j
      j = { lane = l.id, unsettled = '' }
      jobs[id] = j
    else
      l = lanes[j.lane]
    end
  end
  if values[i] then
    -- The lane that it names counts; the job stays where it is.
    local asked = sub(arg, 17, 32)
    if asked ~= where[i] then
      load_lanes({ asked })
      named = lanes[asked]
    end
    if not j then
      j = read_job(values[i])
      jobs[id] = j
    end
  end
  if not named or named.version < version then
    answers[i] = 'B'
  elseif j and l then
    local due = now + wait
    if j.leased then
      if hand and j.token == hand.token then
        answers[i] = 'M'
        leases[#leases + 1] = lease_of(id, l, j.unsettled)
      else
        answers[i] = 'P'
      end
    else
      answers[i] = 'P'
      if j.urgent then
        push(l, 'ult', due, id)
        l.urgent = min(l.urgent, due)
      elseif urgent then
        local before = tonumber(R('ZSCORE', P .. 'z:' .. l.id, id) or due)
        push(l, 'zrem', id)
        j.urgent = true
        pend(l, id, min(before, due), true)
        records[#records + 1] = id
        records[#records + 1] = write_job(j)
      else
        push(l, 'zlt', due, id)
        l.due = min(l.due, due)
      end
      touch(l)
    end
  else
    l = named
    local due = now + wait
    if wait == 0 and hands_off(l, urgent) then
      j = { lane = l.id, unsettled = '', urgent = urgent or nil, leased = true, due = due, token = hand.token }
      jobs[id] = j
      start(l)
      hand.all = hand.all - 1
      if class(l) == 2 then hand.doubtful = hand.doubtful - 1 end
      ends[#ends + 1] = now + hand.lease
      ends[#ends + 1] = id
      leases[#leases + 1] = lease_of(id, l, '')
      answers[i] = 'L'
      records[#records + 1] = id
      records[#records + 1] = write_job(j)
    else
      pend(l, id, due, urgent)
      answers[i] = 'Q'
      records[#records + 1] = id
      if urgent then
        j = { lane = l.id, unsettled = '', urgent = true }
        jobs[id] = j
        records[#records + 1] = write_job(j)
      else
        -- A plain job is its lane alone; its lane stands for it, should it come again.
        jobs[id] = l
        records[#records + 1] = l.id
      end
    end
    touch(l)
  end
end

local counted = 0
if #touched > 0 then
  if #records > 0 then R('HSET', JOBS, unpack(records)) end
  if #ends > 0 then R('ZADD', LEASES, unpack(ends)) end
  write_lanes()
  counted = count()
end
return { counted, table.concat(answers), unpack(leases) }
