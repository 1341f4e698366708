-- What is used of the quotas of one request, by the clock of Redis; charges nothing. States are those of charge.lua.
-- ARGV of each key: requests, microseconds of the window.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local reply = {}
for i, key in ipairs(KEYS) do
  local was, at = string.match(redis.call('GET', key) or '', '^(%S+) (%S+)$')
  was, at = tonumber(was), tonumber(at)
  local used = 0
  if was and at then
    local refilled = math.max(0, now - at) * tonumber(ARGV[2 * i - 1]) / tonumber(ARGV[2 * i]) * 1000000
    used = math.max(0, was - refilled)
  end
  reply[i] = string.format('%.0f', math.ceil(used))
end
return reply
