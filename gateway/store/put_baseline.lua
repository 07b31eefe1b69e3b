-- Replaces what is known of a series' windows in control.
-- KEYS: index of the series. ARGV: body, seconds to keep the index.
redis.call('HSET', KEYS[1], 'baseline', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
