-- claim: ARGV claim id, lease in µs, room of all, doubtful, dead, default limit, lanes to avoid (16 bytes each).
-- Answers {µs until something can be served (0: now, but not to this claim), or -1; n; leases…}.
--
-- Lanes come in turn, several jobs a turn when the claim is large: the first round serves a quarter as many
-- lanes as jobs are wanted, the later ones share out what is left. All is read before the first write.
local claim, lease = ARGV[2], tonumber(ARGV[3])
local room = { tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]) }
local default = tonumber(ARGV[7])
local avoid, avoided = {}, 0
for i = 1, #ARGV[8], 16 do
  avoid[sub(ARGV[8], i, i + 15)] = true
  avoided = avoided + 1
end

-- lane.rs: Room
local function fits(r, c)
  if c == 1 then return r[1] end
  if c == 2 then return min(r[1], r[2]) end
  return min(r[1], r[2], r[3])
end
local function take(r, c, n)
  for i = 1, c do r[i] = max(0, r[i] - n) end
end

lapse(256)

local key = P .. 'c:' .. claim
local given = R('GET', key)
if given then
  local ids, held, where = {}, {}, {}
  for i = 1, #given, 16 do ids[#ids + 1] = sub(given, i, i + 15) end
  local values = R('HMGET', JOBS, unpack(ids))
  for i = 1, #ids do
    local j = values[i] and read_job(values[i])
    if j and j.leased and j.token == claim then
      held[#held + 1] = { ids[i], j }
      where[#where + 1] = j.lane
    end
  end
  load_lanes(where)
  local answer = { -1, 0 }
  for i = 1, #held do
    local l = lanes[held[i][2].lane]
    if l then answer[#answer + 1] = lease_of(held[i][1], l, held[i][2].unsettled) end
  end
  return answer
end

-- The lanes that can be served, each class in turn; merged as they are picked.
local lists, position, again, back = {}, { 1, 1, 1 }, {}, 1
for c = 1, 3 do
  lists[c] = {}
  if fits(room, c) > 0 then
    lists[c] = R('ZRANGE', RINGS[c], '-inf', now, 'BYSCORE', 'LIMIT', 0, room[1] + avoided, 'WITHSCORES')
  end
end

local function pick(most)
  local left, ids = { room[1], room[2], room[3] }, {}
  while #ids < most do
    local best, first
    for c = 1, 3 do
      local list = lists[c]
      while list[position[c]] and avoid[list[position[c]]] do position[c] = position[c] + 2 end
      if list[position[c]] and fits(left, c) > 0 then
        local at = tonumber(list[position[c] + 1])
        if not first or at < first then best, first = c, at end
      end
    end
    if best then
      ids[#ids + 1] = lists[best][position[best]]
      position[best] = position[best] + 2
      take(left, best, 1)
    else
      -- Those that were served and have more.
      local l = again[back]
      if not l then break end
      back = back + 1
      if fits(left, class(l)) > 0 then
        ids[#ids + 1] = l.id
        take(left, class(l), 1)
      end
    end
  end
  load_lanes(ids)
  return ids
end

local taken, serving, turn = {}, {}, {}

-- Takes up to `most` due jobs from one of the lane's two sets. Returns how many.
local function serve(l, set, most)
  local from = l['from' .. set] or 0
  local found = R('ZRANGE', P .. set .. ':' .. l.id, from, from + most, 'WITHSCORES')
  local n, next_due = 0, NEVER
  for i = 1, #found, 2 do
    local due = tonumber(found[i + 1])
    if n == most or due > now then
      next_due = due
      break
    end
    n = n + 1
    taken[#taken + 1] = found[i]
    serving[#serving + 1] = l
    turn[#turn + 1] = due
    start(l)
  end
  l['from' .. set] = from + n
  return n, next_due
end

local rounds = 0
while room[1] > 0 and rounds < 8 do
  rounds = rounds + 1
  local want = room[1]
  local ids = pick(rounds == 1 and max(1, floor(want / 4)) or want)
  if #ids == 0 then break end
  local most = math.ceil(want / #ids)
  for i = 1, #ids do
    local l = lanes[ids[i]]
    -- A place in a ring without a lane would be a defect; it is not served.
    if l then
      if l.own == 0 then l.default = default end
      local c = class(l)
      local quota = min(most, permits(l), fits(room, c))
      local n, m = 0, 0
      if quota > 0 and l.urgent <= now then
        n, l.urgent = serve(l, 'u', quota)
      end
      if quota > n and l.due <= now and l.parked <= now then
        m, l.due = serve(l, 'z', quota - n)
      end
      take(room, c, n + m)
      touch(l)
      if n + m > 0 and (l.urgent <= now or (l.due <= now and l.parked <= now)) then again[#again + 1] = l end
    end
  end
end

local answer = { -1, 0 }
if #taken > 0 then
  local values = R('HMGET', JOBS, unpack(taken))
  local records, ends, ids = {}, {}, {}
  for i = 1, #taken do
    local id, v, l = taken[i], values[i], serving[i]
    if v then
      local unsettled = ''
      if #v == 16 then
        -- write_job of a plain job
        v = v .. '\5' .. pack('<d', turn[i]) .. claim
      else
        local j = read_job(v)
        unsettled = j.unsettled .. (j.token or '')
        j.leased, j.token, j.due, j.unsettled = true, claim, turn[i], unsettled
        v = write_job(j)
      end
      records[#records + 1] = id
      records[#records + 1] = v
      ends[#ends + 1] = now + lease
      ends[#ends + 1] = id
      ids[#ids + 1] = id
      answer[#answer + 1] = lease_of(id, l, unsettled)
    else
      -- A member of a lane's set that is no job would be a defect; it is dropped.
      finish(l)
    end
  end
  for i = 1, #touched do
    local l = touched[i]
    if l.fromz and l.fromz > 0 then R('ZREMRANGEBYRANK', P .. 'z:' .. l.id, 0, l.fromz - 1) end
    if l.fromu and l.fromu > 0 then R('ZREMRANGEBYRANK', P .. 'u:' .. l.id, 0, l.fromu - 1) end
  end
  if #ids > 0 then
    R('HSET', JOBS, unpack(records))
    R('ZADD', LEASES, unpack(ends))
    -- Nobody repeats a claim after its leases; an hour bounds what a very long lease would keep.
    R('SET', key, table.concat(ids), 'PX', max(1000, min(3600000, floor(lease / 1000))))
  end
  answer[2] = count()
end
write_lanes()

if room[1] > 0 then
  local next_at = NEVER
  for c = 1, 3 do
    local head = R('ZRANGE', RINGS[c], 0, 0, 'WITHSCORES')
    if head[2] then next_at = min(next_at, tonumber(head[2])) end
  end
  local head = R('ZRANGE', LEASES, 0, 0, 'WITHSCORES')
  -- One that ends within this microsecond is not over yet, and must not look as if it were passed over.
  if head[2] then next_at = min(next_at, max(now + 1, tonumber(head[2]))) end
  if next_at < NEVER then answer[1] = max(0, next_at - now) end
end
return answer
