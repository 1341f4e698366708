-- Tests the quotas of one request and charges all of them, or none, by the clock of Redis. GCRA, as in quota.rs;
-- a state is what is used, in millionths of a request, and when that was, in microseconds.
-- ARGV of each key: requests, microseconds of the window, burst, 1 where it denies, the least that is used.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local quotas, admitted = {}, 1
for i, key in ipairs(KEYS) do
  local first = (i - 1) * 5
  local requests, per = tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
  local used = tonumber(ARGV[first + 5])
  local was, at = string.match(redis.call('GET', key) or '', '^(%S+) (%S+)$')
  was, at = tonumber(was), tonumber(at)
  -- Where the clock was set back, the bucket refills from now on.
  local is_ahead = at and at > now
  if was and at then
    used = math.max(used, was - (is_ahead and 0 or now - at) * requests / per * 1000000)
  end
  -- Half a millionth makes up for what divisions round.
  local fits = used + 1000000 <= tonumber(ARGV[first + 3]) * 1000000 + 0.5
  if not fits and ARGV[first + 4] == '1' then admitted = 0 end
  quotas[i] = { fits = fits, used = used, drain = requests / per, is_ahead = is_ahead }
end
local reply = { admitted }
for i, key in ipairs(KEYS) do
  local quota = quotas[i]
  local charged = admitted == 1 and quota.fits
  if charged then quota.used = quota.used + 1000000 end
  if charged or quota.is_ahead then
    local expiry = math.ceil(quota.used / quota.drain / 1000000000) + 1
    redis.call('SET', key, string.format('%.17g %.0f', quota.used, now), 'PX', string.format('%.0f', expiry))
  end
  reply[#reply + 1] = quota.fits and 1 or 0
  reply[#reply + 1] = string.format('%.0f', math.ceil(quota.used))
end
return reply
