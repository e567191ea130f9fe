-- Apply an update of a hub. Report the users who have come and gone, each of them once.
--
-- ARGV  …, hub, base, version, changes in MessagePack: those that left and those that entered,
--       each [connection, user, member, is_announced]; the connections that are kept, or nil
-- Returns whether the hub must send a complete update, the time in milliseconds until users will
-- be gone (-1 if there are none), the members of users who have come, and of those who have gone.

local hub, base, version = ARGV[4], ARGV[5], ARGV[6]
local changes = cmsgpack.unpack(ARGV[7])
local left, entered, kept = changes[1], changes[2], changes[3]
local own = members .. hub

local is_clean = clean()
local stored = redis.call('HGET', own, '')
local is_lost, was_dead = not stored, stored == 'dead'

if kept then
  -- A connection that the hub has given up can deliver an update late, behind newer ones.
  if not is_lost and not was_dead and tonumber(stored) >= tonumber(version) then
    return { 1, -1, {}, {} }
  end
elseif (stored or '0') ~= base then
  return { 1, -1, {}, {} }
end

local function remove(connection)
  local value = redis.call('HGET', own, connection)
  if value then
    redis.call('HDEL', own, connection)
    count_out(value, now)
  end
  return value
end

for _, each in ipairs(left) do
  local connection, user, member, is_announced = each[1], each[2], each[3], each[4]
  local was_present = remove(connection)
  -- The server may have lost its data since the user was announced.
  if not was_present and is_lost and is_announced and redis.call('HEXISTS', users, user) == 0 then
    note_leaving(user, member, now)
  end
end
if kept then
  local is_kept = { [''] = true }
  for _, connection in ipairs(kept) do
    is_kept[connection] = true
  end
  for _, connection in ipairs(redis.call('HKEYS', own)) do
    if not is_kept[connection] then
      remove(connection)
    end
  end
end

local joined = {}
for _, each in ipairs(entered) do
  local connection, user, member, is_announced = each[1], each[2], each[3], each[4]
  if redis.call('HSETNX', own, connection, user .. '\n' .. member) == 1 then
    local count = redis.call('HINCRBY', users, user, 1)
    if announces and count == 1 then
      local has_returned = redis.call('ZREM', leaving, user) == 1
      redis.call('HDEL', gone, user)
      if not has_returned and (was_dead or not is_announced) then
        table.insert(joined, member)
      end
    end
  end
end

redis.call('HSET', own, '', version)
if redis.call('HLEN', own) > 1 then
  redis.call('ZADD', hubs, now + lease, hub)
  redis.call('PEXPIRE', own, KEEP_MILLISECONDS)
else
  redis.call('ZREM', hubs, hub)
  -- The version is kept for updates that are late.
  redis.call('PEXPIRE', own, lease)
end

local reported, next_leave = {}, -1
if announces then
  for _, user in ipairs(redis.call('ZRANGEBYSCORE', leaving, '-inf', now, 'LIMIT', 0, 1000)) do
    table.insert(reported, redis.call('HGET', gone, user) or nil)
    redis.call('ZREM', leaving, user)
    redis.call('HDEL', gone, user)
  end
  local next_user = redis.call('ZRANGE', leaving, 0, 0, 'WITHSCORES')
  if next_user[2] then
    next_leave = math.max(0, next_user[2] - now)
  end
end
if not is_clean then
  next_leave = 0
end

-- `leaving` and `gone` must outlive the delay.
for _, key in ipairs({ hubs, users, leaving, gone }) do
  redis.call('PEXPIRE', key, KEEP_MILLISECONDS + delay)
end
return { 0, next_leave, joined, reported }
