-- Read the members of a channel.
--
-- KEYS  the keys of the channel
-- ARGV  …, whether users are announced, delay, maximum number of members
-- Returns whether the numbers are final (otherwise the script must be called again), the number of
-- connections and of users, and members.

local channel = open_channel(1, ARGV[2] == '1', tonumber(ARGV[3]))
local limit = tonumber(ARGV[4])

if not clean(channel) then
  return { 0, 0, 0, {} }
end
local connections, found = 0, {}
for _, hub in ipairs(redis.call('ZRANGE', channel.hubs, 0, -1)) do
  local key = channel.members .. hub
  connections = connections + math.max(0, redis.call('HLEN', key) - 1)
  local cursor = '0'
  while #found < limit do
    local page = redis.call('HSCAN', key, cursor, 'COUNT', limit - #found + 1)
    cursor = page[1]
    for i = 1, #page[2], 2 do
      if page[2][i] ~= '' and #found < limit then
        local value = page[2][i + 1]
        table.insert(found, string.sub(value, string.find(value, '\n[^\n]*$') + 1))
      end
    end
    if cursor == '0' then
      break
    end
  end
end
return { 1, connections, redis.call('HLEN', channel.users), found }
