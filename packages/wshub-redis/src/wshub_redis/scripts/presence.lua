-- The members of channels: the common part of presence_update.lua and presence_read.lua.
--
-- A channel has five keys, in this order:
--
-- hubs     sorted set: hub -> end of its lease, in milliseconds
-- users    hash: user -> number of its connections on all hubs
-- leaving  sorted set: user without connections -> time at which it is reported as gone
-- gone     hash: user in `leaving` -> its last member
-- members  beginning of the names of hashes, one for each hub:
--          connection -> user, newline, member. The field "" holds the version of the last update,
--          or "dead" after the lease has ended.
--
-- A "user" that begins with "c" is one connection without a user id, which cannot return.
--
-- ARGV  duration of a lease in milliseconds, …

local lease = tonumber(ARGV[1])

-- Keys outlive the leases, so that the members of dead hubs can still be counted out.
local KEEP_MILLISECONDS = 3600000
-- Number of members of dead hubs that are counted out at once.
local CLEAN_MEMBERS = 1000

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Return the channel whose keys begin at an index.
local function open_channel(first, announces, delay)
  return {
    hubs = KEYS[first],
    users = KEYS[first + 1],
    leaving = KEYS[first + 2],
    gone = KEYS[first + 3],
    members = KEYS[first + 4],
    announces = announces,
    delay = delay,
  }
end

-- A user is without connections since a time.
local function note_leaving(channel, user, member, time)
  if channel.announces then
    if string.sub(user, 1, 1) ~= 'c' then
      time = time + channel.delay
    end
    redis.call('ZADD', channel.leaving, time, user)
    redis.call('HSET', channel.gone, user, member)
  end
end

-- A connection has ended at a time; `value` is its field of `members`.
local function count_out(channel, value, time)
  -- The member is one line. The user may have several.
  local newline = string.find(value, '\n[^\n]*$')
  local user = string.sub(value, 1, newline - 1)
  if redis.call('HINCRBY', channel.users, user, -1) <= 0 then
    redis.call('HDEL', channel.users, user)
    note_leaving(channel, user, string.sub(value, newline + 1), time)
  end
end

-- Count out the members of dead hubs. Returns false if some are left for the next call.
local function clean(channel)
  local count = 0
  local dead = redis.call('ZRANGEBYSCORE', channel.hubs, '-inf', now, 'WITHSCORES')
  for i = 1, #dead, 2 do
    local key = channel.members .. dead[i]
    local last_update = dead[i + 1] - lease
    -- First: the hub may live after all. It must learn that members are missing.
    redis.call('HSET', key, '', 'dead')
    local cursor = '0'
    repeat
      local page = redis.call('HSCAN', key, cursor, 'COUNT', 200)
      cursor = page[1]
      for j = 1, #page[2], 2 do
        if page[2][j] ~= '' then
          redis.call('HDEL', key, page[2][j])
          count_out(channel, page[2][j + 1], last_update)
          count = count + 1
        end
      end
      if count >= CLEAN_MEMBERS then
        return false
      end
    until cursor == '0'
    redis.call('ZREM', channel.hubs, dead[i])
    redis.call('PEXPIRE', key, KEEP_MILLISECONDS)
  end
  return true
end
