-- Writes one revision whole, or nothing: record, head, history, audit and the word to the other replicas.
-- Redis's own clock decides whether the writer still waits: it has given up once the deadline has passed.
-- KEYS: heads, records, history of the route, audit.
-- ARGV: route, expected head, expected run id, deadline in microseconds, new head, record, audit record,
--       'fresh' (begin the history), 'grow' or 'keep' (leave it), kept revisions, kept audit records, channel.
-- Returns {'written'}, {'late'} or {'moved', head found}.
local now = redis.call('TIME')
if now[1] * 1000000 + now[2] >= tonumber(ARGV[4]) then
  return {'late'}
end
local head = redis.call('HGET', KEYS[1], ARGV[1]) or ''
local ok, info = pcall(redis.call, 'INFO', 'server')
local run_id = ok and string.match(info, 'run_id:(%w+)') or ''
if head ~= ARGV[2] or run_id ~= ARGV[3] then
  return {'moved', head}
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[5])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[6])
if ARGV[8] == 'fresh' then
  redis.call('DEL', KEYS[3])
end
if ARGV[8] ~= 'keep' then
  redis.call('LPUSH', KEYS[3], ARGV[6])
  redis.call('LTRIM', KEYS[3], 0, ARGV[9] - 1)
end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[10], '*', 'record', ARGV[7])
-- The revision stands whether or not anybody can be told at once: replicas also ask every second.
redis.pcall('PUBLISH', ARGV[11], ARGV[1])
return {'written'}
