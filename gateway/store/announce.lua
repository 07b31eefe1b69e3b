-- Notes that a replica is alive, by the store's clock, and forgets those that have been silent for too long.
-- KEYS: last seen, reports.  ARGV: replica, report, seconds a report is kept.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('ZADD', KEYS[1], string.format('%.3f', now), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
for _, silent in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])) do
  redis.call('ZREM', KEYS[1], silent)
  redis.call('HDEL', KEYS[2], silent)
end
return 1
