-- Adds one producer's counts to one bucket, once: the counts and the producer's mark live and die in the same key.
-- That key holds `cells` unsigned integers of 40 bits (BITFIELD's u40), then 16 bytes for each producer: its id and
-- the sequence of its last packet here. One packed vector costs the server a seventh of one BITFIELD with as many
-- increments.
-- KEYS: counts of the bucket (or of a chunk of its cells), index of the series.
-- ARGV: producer, sequence, sequence acknowledged before, cells, counts as MessagePack, seconds to keep them,
--       rows ('' for a chunk that does not count rows), window, seconds to keep the index, windows kept in it,
--       life to give a new index.
-- Returns {mark found or written, life}.
local life = redis.call('HGET', KEYS[2], 'life')
if not life then
  life = ARGV[11]
  redis.call('HSET', KEYS[2], 'life', life)
  redis.call('EXPIRE', KEYS[2], ARGV[9])
end

local producer, sequence, cells = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local counts_bytes = cells * 5
local marks = redis.call('GETRANGE', KEYS[1], counts_bytes, -1)
local place, mark = #marks, 0
for at = 1, #marks, 16 do
  if string.sub(marks, at, at + 7) == producer then
    place, mark = at - 1, struct.unpack('>I8', marks, at + 8)
    break
  end
end
if mark >= sequence or mark ~= tonumber(ARGV[3]) then
  return {mark, life}
end

local old = redis.call('GETRANGE', KEYS[1], 0, counts_bytes - 1)
if old == '' then
  old = string.rep('\0', counts_bytes)
end
local added = cmsgpack.unpack(ARGV[5])
local pieces = {}
for from = 0, cells - 1, 200 do
  local size = math.min(200, cells - from)
  local format = '>' .. string.rep('I5', size)
  local values = {struct.unpack(format, old, from * 5 + 1)}
  for i = 1, size do
    values[i] = values[i] + added[from + i]
  end
  pieces[#pieces + 1] = struct.pack(format, unpack(values, 1, size))
end
redis.call('SETRANGE', KEYS[1], 0, table.concat(pieces))
redis.call('SETRANGE', KEYS[1], counts_bytes + place, producer .. struct.pack('>I8', sequence))
redis.call('EXPIRE', KEYS[1], ARGV[6])

if ARGV[7] ~= '' then
  local rows = redis.call('HINCRBY', KEYS[2], 'landed:' .. ARGV[8], ARGV[7])
  redis.call('EXPIRE', KEYS[2], ARGV[9])
  -- A new window: older ones leave the index.
  if rows == tonumber(ARGV[7]) then
    local starts = {}
    for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
      local start = string.match(field, '^landed:(%d+)$')
      if start then
        starts[#starts + 1] = tonumber(start)
      end
    end
    table.sort(starts)
    for i = 1, #starts - tonumber(ARGV[10]) do
      local start = string.format('%d', starts[i])
      redis.call('HDEL', KEYS[2], 'landed:' .. start, 'result:' .. start)
    end
  end
end
return {sequence, life}
