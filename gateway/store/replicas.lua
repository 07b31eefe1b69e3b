-- Lists the replicas heard of lately, by the store's clock.
-- KEYS: last seen, reports.  ARGV: seconds a report is kept.
-- Returns {last seen, report, last seen, report, …}.
local time = redis.call('TIME')
local oldest = time[1] + time[2] / 1000000 - ARGV[1]
local alive = redis.call('ZRANGEBYSCORE', KEYS[1], oldest, '+inf', 'WITHSCORES')
local answer = {}
for i = 1, #alive, 2 do
  local report = redis.call('HGET', KEYS[2], alive[i])
  if report then
    answer[#answer + 1] = alive[i + 1]
    answer[#answer + 1] = report
  end
end
return answer
