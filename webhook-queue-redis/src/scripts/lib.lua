-- What every script begins with: the clock, the records of lanes and jobs, and the one way to write them.
--
-- KEYS (all under one hash tag, so in one slot):
--   meta    hash    epoch; n counts writing calls, and must not run backwards
--   lanes   hash    lane -> its record (FORMAT below)
--   jobs    hash    job -> lane, and what is known of its claims (read_job below)
--   leases  zset    leased job -> when its lease ends
--   ring1..3 zset   lane -> from when it may be served; in at most one, that of its class, and in none while it
--                   is held, full or empty
-- and, built from the same tag because no caller can know them: z:<lane>, u:<lane> (zset: pending job -> due,
-- the second of those that a person asked for), c:<claim> (what a claim gave, for a repeat of it).
--
-- Ids are sixteen bytes. Times are microseconds of the server's clock; ARGV[1] is added to it, 0 but in tests.
local R = redis.call
local META, LANES, JOBS, LEASES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local RINGS = { KEYS[5], KEYS[6], KEYS[7] }
local P = string.sub(META, 1, -5)
local floor, max, min = math.floor, math.max, math.min
local sub, byte, char = string.sub, string.byte, string.char
local pack, unpack_struct = struct.pack, struct.unpack
-- Later than every moment, and below 2^53, so exact.
local NEVER = 9e15
local time = R('TIME')
local now = time[1] * 1000000 + time[2] + tonumber(ARGV[1])

-- hold strikes slow ring | in flight, own limit, default limit (0: none) |
-- version mark parked permit gap turn, first due, first urgent due (never later than the truth), place in ring
local FORMAT = '<BBBBI4I4I4ddddddddd'
local lanes, touched = {}, {}

local function new_lane(id)
  return {
    id = id, hold = 0, strikes = 4, slow = 0, ring = 0, f = 0, own = 0, default = 0, version = 0, mark = 0,
    parked = 0, permit = 0, gap = 0, turn = 0, due = NEVER, urgent = NEVER, at = 0,
  }
end

-- Reads the lanes of these ids that were not read yet. Unknown ones are false.
local function load_lanes(ids)
  local missing = {}
  for i = 1, #ids do
    if lanes[ids[i]] == nil then
      lanes[ids[i]] = false
      missing[#missing + 1] = ids[i]
    end
  end
  if #missing == 0 then return end
  local records = R('HMGET', LANES, unpack(missing))
  for i = 1, #missing do
    local r = records[i]
    if r then
      local l = { id = missing[i] }
      l.hold, l.strikes, l.slow, l.ring, l.f, l.own, l.default, l.version, l.mark, l.parked, l.permit, l.gap,
        l.turn, l.due, l.urgent, l.at = unpack_struct(FORMAT, r)
      lanes[missing[i]] = l
    end
  end
end

local function touch(l)
  if not l.touched then
    l.touched = true
    touched[#touched + 1] = l
  end
end

-- lane.rs: limit. A lane that was never served is not full, whatever its limit.
local function limit(l)
  local most = l.own
  if most == 0 then most = l.default end
  if most == 0 then return NEVER end
  return max(1, floor(most / 2 ^ l.strikes))
end

-- lane.rs: Health::class, from 1: good, doubtful, dead.
local function class(l)
  if l.strikes >= 5 then return 3 end
  if l.strikes >= 3 or l.slow == 1 then return 2 end
  return 1
end

-- When the lane may be served; nil when only a change can make it so. Serving puts it behind the others.
local function ready_at(l)
  if l.hold > 0 or l.f >= limit(l) then return nil end
  local at = min(l.urgent, max(l.due, l.due < NEVER and l.parked or 0))
  if at >= NEVER then return nil end
  if l.gap > 0 then at = max(at, l.permit) end
  return max(at, l.turn)
end

-- How many jobs the lane may give now, whatever is due.
local function permits(l)
  if l.hold > 0 or (l.gap > 0 and l.permit > now) then return 0 end
  local free = max(0, limit(l) - l.f)
  if l.gap > 0 then return min(free, 1) end
  return free
end

-- One more attempt in flight. lane.rs: next_permit.
local function start(l)
  l.f = l.f + 1
  l.turn = now
  if l.gap > 0 then l.permit = max(l.permit, now) + l.gap end
end

local function finish(l)
  l.f = max(0, l.f - 1)
end

-- lane | flags (1 leased, 2 urgent, 4 has a token) | due, if leased | token | unsettled tokens.
-- The plain pending job is its lane alone.
local function read_job(v)
  local j = { lane = sub(v, 1, 16), unsettled = '' }
  if #v > 16 then
    local flags, at = byte(v, 17), 18
    if flags % 2 == 1 then
      j.leased = true
      j.due = unpack_struct('<d', v, at)
      at = at + 8
    end
    j.urgent = flags % 4 >= 2
    if flags >= 4 then
      j.token = sub(v, at, at + 15)
      at = at + 16
    end
    j.unsettled = sub(v, at)
  end
  return j
end

local function write_job(j)
  if not (j.leased or j.urgent or j.token) and j.unsettled == '' then return j.lane end
  local flags = (j.leased and 1 or 0) + (j.urgent and 2 or 0) + (j.token and 4 or 0)
  return j.lane .. char(flags) .. (j.leased and pack('<d', j.due) or '') .. (j.token or '') .. j.unsettled
end

-- The lease of a job, as its worker is told: id, lane, class, mark, version, unsettled tokens.
-- What it says of the lane is made once; no script changes it after that.
local function lease_of(id, l, unsettled)
  local told = l.told
  if not told then
    told = l.id .. pack('<Bdd', class(l), l.mark, l.version)
    l.told = told
  end
  return id .. told .. unsettled
end

-- What is to be written into a lane's own sets: l.zadd, l.zlt, l.zrem and the same of u.
local function push(l, list, a, b)
  local q = l[list]
  if not q then
    q = {}
    l[list] = q
  end
  q[#q + 1] = a
  q[#q + 1] = b
end

-- A job is pending from now on.
local function pend(l, id, due, urgent)
  if urgent then
    push(l, 'uadd', due, id)
    l.urgent = min(l.urgent, due)
  else
    push(l, 'zadd', due, id)
    l.due = min(l.due, due)
  end
end

local function write_sets(l)
  local z, u = P .. 'z:' .. l.id, P .. 'u:' .. l.id
  if l.zadd then R('ZADD', z, unpack(l.zadd)) end
  if l.zlt then R('ZADD', z, 'XX', 'LT', unpack(l.zlt)) end
  if l.zrem then R('ZREM', z, unpack(l.zrem)) end
  if l.uadd then R('ZADD', u, unpack(l.uadd)) end
  if l.ult then R('ZADD', u, 'XX', 'LT', unpack(l.ult)) end
  if l.urem then R('ZREM', u, unpack(l.urem)) end
  l.zadd, l.zlt, l.zrem, l.uadd, l.ult, l.urem = nil, nil, nil, nil, nil, nil
end

-- Writes all touched lanes: their sets, their records, their places in the rings. Rings the bell when a lane can
-- be served earlier than it could, or as another class.
local function write_lanes()
  if #touched == 0 then return end
  local records, bell = {}, NEVER
  local add, rem = { {}, {}, {} }, { {}, {}, {} }
  for i = 1, #touched do
    local l = touched[i]
    write_sets(l)
    local at, ring = ready_at(l), 0
    if at then ring = class(l) else at = 0 end
    if l.ring ~= ring and l.ring > 0 then
      local q = rem[l.ring]
      q[#q + 1] = l.id
    end
    if ring > 0 and (ring ~= l.ring or at ~= l.at) then
      local q = add[ring]
      q[#q + 1] = at
      q[#q + 1] = l.id
      if ring ~= l.ring or at < l.at then bell = min(bell, at) end
    end
    l.ring, l.at, l.touched = ring, at, nil
    records[2 * i - 1] = l.id
    records[2 * i] = pack(FORMAT, l.hold, l.strikes, l.slow, l.ring, l.f, l.own, l.default, l.version, l.mark,
      l.parked, l.permit, l.gap, l.turn, l.due, l.urgent, l.at)
  end
  touched = {}
  for c = 1, 3 do
    if #rem[c] > 0 then R('ZREM', RINGS[c], unpack(rem[c])) end
    if #add[c] > 0 then R('ZADD', RINGS[c], unpack(add[c])) end
  end
  R('HSET', LANES, unpack(records))
  if bell < NEVER then R('PUBLISH', P .. 'bell', string.format('%.0f', max(0, bell - now))) end
end

-- Makes jobs pending again whose leases have run out, so many at most. Their tokens stay good until another
-- claim. A step of its own, complete before anything else is read.
local function lapse(most)
  local over = R('ZRANGE', LEASES, '-inf', now, 'BYSCORE', 'LIMIT', 0, most)
  if #over == 0 then return 0 end
  local values = R('HMGET', JOBS, unpack(over))
  local ids, jobs, records = {}, {}, {}
  for i = 1, #over do
    if values[i] then
      jobs[i] = read_job(values[i])
      ids[#ids + 1] = jobs[i].lane
    end
  end
  load_lanes(ids)
  for i = 1, #over do
    local j = jobs[i]
    local l = j and lanes[j.lane]
    if l then
      j.leased = nil
      finish(l)
      pend(l, over[i], j.due, j.urgent)
      touch(l)
      records[#records + 1] = over[i]
      records[#records + 1] = write_job(j)
    end
  end
  R('ZREM', LEASES, unpack(over))
  if #records > 0 then R('HSET', JOBS, unpack(records)) end
  write_lanes()
  return #over
end

-- Counts a writing call.
local function count()
  return R('HINCRBY', META, 'n', 1)
end
