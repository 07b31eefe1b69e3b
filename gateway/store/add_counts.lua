-- Adds one producer's counts to one bucket, once: the counts and the producer's mark live and die in the same key.
-- That key holds `cells` unsigned integers of 40 bits (BITFIELD's u40), then 16 bytes for each producer: its id and
-- the sequence of its last packet here. One packed vector costs the server a seventh of one BITFIELD with as many
-- increments.
-- KEYS: counts of the bucket (or of a chunk of its cells), index of the series.
-- ARGV: producer, sequence, sequence acknowledged before, cells, counts as MessagePack, seconds to keep them,
--       rows ('' for a chunk that does not count rows), window, seconds to keep the index, windows kept in it.
-- Returns {mark found or written, sequence of the producer's last packet in any bucket}.
local producer, sequence, cells = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local counts_bytes = cells * 5
local known = redis.call('HGET', KEYS[2], 'producer:' .. producer)
known = known and tonumber(string.match(known, '^(%d+)')) or 0
local marks = redis.call('GETRANGE', KEYS[1], counts_bytes, -1)
local place, mark = #marks, 0
for at = 1, #marks, 16 do
  if string.sub(marks, at, at + 7) == producer then
    place, mark = at - 1, struct.unpack('>I8', marks, at + 8)
    break
  end
end
if mark >= sequence or mark ~= tonumber(ARGV[3]) then
  return {mark, known}
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
  redis.call('HSET', KEYS[2], 'producer:' .. producer, ARGV[2] .. ':' .. ARGV[8])
  redis.call('EXPIRE', KEYS[2], ARGV[9])
  -- A new window: older ones leave the index, and with them producers that have written nothing since.
  if rows == tonumber(ARGV[7]) then
    local fields, starts = redis.call('HGETALL', KEYS[2]), {}
    for i = 1, #fields, 2 do
      starts[#starts + 1] = tonumber(string.match(fields[i], '^landed:(%d+)$'))
    end
    table.sort(starts)
    local oldest = starts[#starts - tonumber(ARGV[10]) + 1] or 0
    for i = 1, #fields, 2 do
      local start = string.match(fields[i], '^landed:(%d+)$') or string.match(fields[i], '^result:(%d+)$')
        or (string.sub(fields[i], 1, 9) == 'producer:' and string.match(fields[i + 1], ':(%d+)$'))
      if start and tonumber(start) < oldest then
        redis.call('HDEL', KEYS[2], fields[i])
      end
    end
  end
end
return {sequence, known}
