-- depth: ARGV cursor, lanes a step. Answers {cursor as text, due, scheduled, age of the oldest due job in µs or -1,
-- lanes that are paused, disabled, parked, waiting for their rate}: of this step's lanes.
if ARGV[2] == '0' then lapse(256) end
local step = R('HSCAN', LANES, ARGV[2], 'COUNT', ARGV[3])
local due, scheduled, oldest = 0, 0, NEVER
local held = { 0, 0, 0, 0 }
local found = step[2]
for i = 1, #found, 2 do
  local hold, _, _, _, _, _, _, _, _, parked, permit, gap, _, first, urgent = unpack_struct(FORMAT, found[i + 1])
  if first < NEVER or urgent < NEVER then
    local all, ripe, head = 0, 0, NEVER
    for _, set in ipairs({ 'z:', 'u:' }) do
      local key = P .. set .. found[i]
      local size = R('ZCARD', key)
      if size > 0 then
        all = all + size
        ripe = ripe + R('ZCOUNT', key, '-inf', now)
        head = min(head, tonumber(R('ZRANGE', key, 0, 0, 'WITHSCORES')[2]))
      end
    end
    if all > 0 then
      scheduled = scheduled + all - ripe
      if hold == 1 or hold == 2 then
        held[hold] = held[hold] + 1
      elseif hold == 0 then
        if parked > now then
          held[3] = held[3] + 1
        elseif gap > 0 and permit > now then
          held[4] = held[4] + 1
        else
          due = due + ripe
          oldest = min(oldest, head)
        end
      end
    end
  end
end
local age = oldest <= now and now - oldest or -1
return { step[1], due, scheduled, age, held[1], held[2], held[3], held[4] }
