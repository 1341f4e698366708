-- Gives back one request to each quota.
for _, key in ipairs(KEYS) do
  local used, rest = string.match(redis.call('GET', key) or '', '^(%S+)( %S+)$')
  if tonumber(used) then
    redis.call('SET', key, string.format('%.17g', math.max(tonumber(used) - 1000000, 0)) .. rest, 'KEEPTTL')
  end
end
return 1
