-- Reads the store's clock, its run, and one route: the head that commit.lua compares, and the record.
-- KEYS: heads, records.  ARGV: route.
-- Returns {seconds, microseconds, run id, head or '', record or ''}.
local ok, info = pcall(redis.call, 'INFO', 'server')
local run_id = ok and string.match(info, 'run_id:(%w+)') or ''
local now = redis.call('TIME')
local head = redis.call('HGET', KEYS[1], ARGV[1]) or ''
local record = redis.call('HGET', KEYS[2], ARGV[1]) or ''
return {now[1], now[2], run_id, head, record}
