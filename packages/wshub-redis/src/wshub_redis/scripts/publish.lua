-- Append a message to the history of a channel, and publish it.
--
-- ARGV: PUBLISH or SPUBLISH, the channel, the limits (messages, bytes, age in ms), the expiry of the
-- hash in ms, the source id, the envelope id, the message, the run id of the server or '',
-- and 1 if the message may have been appended before.
-- Reply: the offset; 0 if the message was appended before; a text if it was appended and cannot be
-- published.
local command, channel = ARGV[1], ARGV[2]
local max_messages, max_bytes, max_age = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local source, envelope_id, message = ARGV[7], ARGV[8], ARGV[9]
local seed = source .. envelope_id

local state = load(ARGV[10], seed, source)

if ARGV[11] == '1' and state.source then
  -- The envelopes of one source and channel come in the order of their ids.
  local last = tonumber(string.match(state.source, '^%d+'))
  if last and tonumber(envelope_id) <= last then
    return 0
  end
end

local function append()
  state.o = state.o + 1
  return redis.pcall('XADD', stream, text(state.o) .. '-0', 'm', message, 't', now, 'c', state.c)
end

local added = append()
if type(added) == 'table' and string.find(added.err, 'equal or smaller', 1, true) then
  -- The stream has entries of somebody else.
  begin(state, seed)
  added = append()
end
if type(added) == 'table' then
  return added
end

-- The size on the wire: the message, and `,"epoch":"","offset":` with 8 letters and the offset.
local size = #message + 29 + #text(state.o)
local before = state.c
state.c = before + size

-- Some entries above the limits may stay, so that most calls need not look for them.
if state.o % math.min(64, math.ceil(max_messages / 8)) == 0
  or math.floor(before * 16 / max_bytes) < math.floor(state.c * 16 / max_bytes) then
  local first = first_kept(state, max_messages, max_bytes, max_age)
  -- Only whole nodes of the stream are removed, which is cheap.
  redis.call('XTRIM', stream, 'MINID', '~', text(first))
end

local expires_too_early = state.x - now < max_age
if expires_too_early then
  -- Longer than necessary, so that most calls need not set it.
  state.x = now + math.ceil(max_age * 17 / 16)
end
if state.is_new or expires_too_early then
  save(state)
end
redis.call('HSET', hash, 'o', state.o, 'c', state.c, source, envelope_id .. ' ' .. text(now))
if expires_too_early then
  redis.call('PEXPIRE', stream, state.x - now)
  redis.call('PEXPIRE', hash, ARGV[6])
end

-- Forget the sources that were silent longest.
if not state.source and redis.call('HLEN', hash) > 256 then
  local fields, sources = redis.call('HGETALL', hash), {}
  for i = 1, #fields, 2 do
    if #fields[i] > 1 then
      local time = tonumber(string.match(fields[i + 1], ' (%d+)$')) or 0
      sources[#sources + 1] = {fields[i], time}
    end
  end
  table.sort(sources, function(one, other) return one[2] < other[2] end)
  for i = 1, 128 do
    redis.call('HDEL', hash, sources[i][1])
  end
end

local published = redis.pcall(command, channel, '{"sourceId":"' .. source .. '","id":' .. envelope_id
  .. ',"epoch":"' .. state.e .. '","offset":' .. text(state.o) .. ',"message":' .. message .. '}')
if type(published) == 'table' then
  return published.err
end
return state.o
