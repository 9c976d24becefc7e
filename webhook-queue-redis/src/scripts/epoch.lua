-- epoch: ARGV the epoch that the caller knows (0: none), the highest n that it saw in that epoch, and 1 if it saw n run
-- backwards. Answers {epoch, n}.
--
-- No epoch means that this memory is new: flushed, or started empty. The known epoch with an n that is smaller than
-- was seen, or was so for a while, means that writes were undone: a replica was promoted that had not got them, or an
-- older snapshot was loaded. Either way it becomes another memory, with a number that is greater than all before.
local known, seen, undone = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local meta = R('HMGET', META, 'epoch', 'n')
local epoch, n = tonumber(meta[1] or 0), tonumber(meta[2] or 0)
if epoch == 0 or (epoch == known and (n < seen or undone)) then
  epoch = max(now, known + 1, epoch + 1)
  n = max(n, seen) + 1
  R('HSET', META, 'epoch', string.format('%.0f', epoch), 'n', string.format('%.0f', n))
end
return { epoch, n }
