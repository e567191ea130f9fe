-- Apply updates of a hub. Report the users who have come and gone, each of them once.
--
-- KEYS  the keys of each channel
-- ARGV  …, hub, updates in MessagePack, each with: whether users are announced, delay, base,
--       version, the members that left and those that entered, each [connection, user, member,
--       is_announced], and the connections that are kept or nil
-- Returns for each update that has something to report: its number from 0, whether the hub must
-- send a complete update, the time in milliseconds until users will be gone (-1 if there are none),
-- the members of users who have come, and of those who have gone.

local hub = ARGV[2]

-- Remove a connection; return whether it was present.
local function remove(channel, own, connection)
  local value = redis.call('HGET', own, connection)
  if value then
    redis.call('HDEL', own, connection)
    count_out(channel, value, now)
  end
  return value
end

local function remove_all(channel, own, left, kept, is_lost)
  for _, each in ipairs(left) do
    local connection, user, member, is_announced = each[1], each[2], each[3], each[4]
    if not remove(channel, own, connection) and is_lost and is_announced then
      -- The server has lost its data since the user was announced.
      if redis.call('HEXISTS', channel.users, user) == 0 then
        note_leaving(channel, user, member, now)
      end
    end
  end
  if kept then
    local is_kept = { [''] = true }
    for _, connection in ipairs(kept) do
      is_kept[connection] = true
    end
    for _, connection in ipairs(redis.call('HKEYS', own)) do
      if not is_kept[connection] then
        remove(channel, own, connection)
      end
    end
  end
end

-- Add members; return those whose users have come.
local function add_all(channel, own, entered, was_dead)
  local joined = {}
  for _, each in ipairs(entered) do
    local connection, user, member, is_announced = each[1], each[2], each[3], each[4]
    if redis.call('HSETNX', own, connection, user .. '\n' .. member) == 1 then
      local count = redis.call('HINCRBY', channel.users, user, 1)
      if channel.announces and count == 1 then
        local has_returned = redis.call('ZREM', channel.leaving, user) == 1
        redis.call('HDEL', channel.gone, user)
        if not has_returned and (was_dead or not is_announced) then
          table.insert(joined, member)
        end
      end
    end
  end
  return joined
end

-- Return the last members of users who have gone, and the time until the next ones will be gone.
local function pop_gone(channel)
  local gone = {}
  if not channel.announces then
    return gone, -1
  end
  for _, user in ipairs(redis.call('ZRANGEBYSCORE', channel.leaving, '-inf', now, 'LIMIT', 0, 1000)) do
    local member = redis.call('HGET', channel.gone, user)
    if member then
      table.insert(gone, member)
    end
    redis.call('ZREM', channel.leaving, user)
    redis.call('HDEL', channel.gone, user)
  end
  local next_user = redis.call('ZRANGE', channel.leaving, 0, 0, 'WITHSCORES')
  return gone, next_user[2] and math.max(0, next_user[2] - now) or -1
end

local function renew_lease(channel, own, version)
  redis.call('HSET', own, '', version)
  if redis.call('HLEN', own) > 1 then
    redis.call('ZADD', channel.hubs, now + lease, hub)
    redis.call('PEXPIRE', own, KEEP_MILLISECONDS)
  else
    redis.call('ZREM', channel.hubs, hub)
    -- The version is kept for updates that are late.
    redis.call('PEXPIRE', own, lease)
  end
  -- `leaving` and `gone` must outlive the delay.
  for _, key in ipairs({ channel.hubs, channel.users, channel.leaving, channel.gone }) do
    redis.call('PEXPIRE', key, KEEP_MILLISECONDS + channel.delay)
  end
end

local function apply(channel, base, version, left, entered, kept)
  local own = channel.members .. hub
  local is_clean = clean(channel)
  local stored = redis.call('HGET', own, '')
  local is_lost, was_dead = not stored, stored == 'dead'
  if kept then
    -- A connection that the hub has given up can deliver an update late, behind newer ones.
    if not is_lost and not was_dead and tonumber(stored) >= version then
      return { 1, -1, {}, {} }
    end
  elseif tonumber(stored or '0') ~= base then
    return { 1, -1, {}, {} }
  end
  remove_all(channel, own, left, kept, is_lost)
  local joined = add_all(channel, own, entered, was_dead)
  local gone, next_gone = pop_gone(channel)
  renew_lease(channel, own, version)
  if not is_clean then
    next_gone = 0
  end
  if #joined + #gone > 0 or next_gone >= 0 then
    return { 0, next_gone, joined, gone }
  end
end

local reports = {}
for i, each in ipairs(cmsgpack.unpack(ARGV[3])) do
  local channel = open_channel(5 * i - 4, each[1], each[2])
  local report = apply(channel, each[3], each[4], each[5], each[6], each[7])
  if report then
    table.insert(report, 1, i - 1)
    table.insert(reports, report)
  end
end
return reports
