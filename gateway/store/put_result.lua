-- Makes a result the current one of its window, if it is the next attempt there and the window is still in the index.
-- KEYS: index of the series, history of the series (sorted by the windows' starts).
-- ARGV: window, attempt, head, body, results kept, seconds to keep both.
-- Returns 1 if it did, else 0.
if redis.call('HEXISTS', KEYS[1], 'landed:' .. ARGV[1]) == 0 then
  return 0
end
local field = 'result:' .. ARGV[1]
local head = redis.call('HGET', KEYS[1], field)
local attempt = head and tonumber(string.match(head, '^(%d+)')) or 0
if tonumber(ARGV[2]) ~= attempt + 1 then
  return 0
end
redis.call('HSET', KEYS[1], field, ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], ARGV[1], ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[1], ARGV[4])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[5])
redis.call('EXPIRE', KEYS[1], ARGV[6])
redis.call('EXPIRE', KEYS[2], ARGV[6])
return 1
