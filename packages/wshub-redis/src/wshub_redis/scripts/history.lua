-- The state of the history of one channel. Each history script begins with this part.
--
-- KEYS[1], a stream: the entry <offset>-0 has the fields m (message), t (time in ms) and
-- c (total size of all messages before it in bytes).
-- KEYS[2], a hash:
--   e  epoch
--   o  newest offset
--   c  total size of all messages in bytes
--   r  run id of the server; empty if it is not known
--   x  time in ms at which the stream expires
--   <source id>  id of the last envelope of this source, and its time in ms
--
-- The stream may have entries above the limits. `first_kept` leaves them out.
local stream, hash = KEYS[1], KEYS[2]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Integers above 10^14 need a format: Lua would write them with an exponent.
local function text(number)
  return string.format('%.0f', number)
end

-- math.random gives the same numbers in every run of a script, so the seed comes from the caller.
local function new_epoch(seed)
  return string.sub(redis.sha1hex(seed .. clock[1] .. ':' .. clock[2]), 1, 8)
end

local function begin(state, seed)
  -- Raises an error, before anything is changed, if the key belongs to somebody else.
  redis.call('XLEN', stream)
  -- An empty stream would refuse the first offsets, too.
  redis.call('DEL', stream)
  state.e, state.o, state.c, state.x = new_epoch(seed), 0, 0, 0
  state.is_new = true
end

-- Return the state, with a new epoch if there was none or if the server is another one.
-- That server may have lost messages. What it still has is kept, with the same offsets.
local function load(run, seed, source)
  local values = redis.call('HMGET', hash, 'e', 'o', 'c', 'r', 'x', source)
  local state = {
    e = values[1], o = tonumber(values[2]), c = tonumber(values[3]), r = values[4] or '',
    x = tonumber(values[5]), source = values[6],
  }
  if not (state.e and state.o and state.c and state.x) then
    begin(state, seed)
  elseif run ~= '' and state.r ~= '' and state.r ~= run then
    state.e, state.is_new = new_epoch(seed), true
  end
  if run ~= '' and state.r ~= run then
    state.r, state.is_new = run, true
  end
  return state
end

local function save(state)
  redis.call('HSET', hash, 'e', state.e, 'o', state.o, 'c', state.c, 'r', state.r, 'x', state.x)
end

-- Return the offset, message, time and position in bytes of an entry. An entry of somebody else has
-- an offset alone.
local function decode(entry)
  local offset, sequence = string.match(entry[1], '^(%d+)-(%d+)$')
  local fields = entry[2]
  if sequence == '0' and fields[1] == 'm' and fields[3] == 't' and fields[5] == 'c' then
    return tonumber(offset), fields[2], tonumber(fields[4]), tonumber(fields[6])
  end
  return tonumber(offset)
end

-- Return the offset of the oldest message within the limits; the newest offset + 1 if there is none.
local function first_kept(state, max_messages, max_bytes, max_age)
  -- Return the first entry at an offset or behind it, and whether it is within the limits.
  local function look(offset)
    local entries = redis.call('XRANGE', stream, text(offset), text(state.o), 'COUNT', 1)
    if not entries[1] then
      return state.o + 1, true
    end
    local found, _, time, before = decode(entries[1])
    return found, not (time and before)
      or (now - time < max_age and state.c - before <= max_bytes)
  end

  local first, is_kept = look(math.max(state.o - max_messages + 1, 1))
  if is_kept then
    return first
  end
  -- The entries become younger, and the bytes behind them fewer.
  local above, within = first, state.o + 1
  while within - above > 1 do
    local middle = math.floor((above + within) / 2)
    local found, is_found_kept = look(middle)
    if found < within and not is_found_kept then
      above = found
    else
      within = middle
    end
  end
  return (look(within))
end
