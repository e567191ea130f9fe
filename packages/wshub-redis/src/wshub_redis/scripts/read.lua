-- Read messages of the history of a channel.
--
-- ARGV: the offset behind which to begin, the maximum number of messages, the limits (messages,
-- bytes, age in ms), the expiry in ms of the hash of a channel without messages, the run id of the
-- server or '', and a seed.
-- Reply: epoch, first kept offset, newest offset, then offset and message of each message. The
-- messages end early above 1 MiB.
local after, limit = tonumber(ARGV[1]), tonumber(ARGV[2])

local state = load(ARGV[7], ARGV[8], 'e')
if state.is_new then
  save(state)
end
if state.o == 0 then
  -- Nothing was published, so that little is lost with the epoch.
  redis.call('PEXPIRE', hash, ARGV[6])
end

local first = first_kept(state, tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]))
local reply = {state.e, first, state.o}
local offset, size, count = math.max(after + 1, first), 0, 0
-- Few entries at a time while they are large, so that a page is not much larger.
local step = 5
while count < limit and offset <= state.o and size < 1048576 do
  local entries = redis.call('XRANGE', stream, text(offset), text(state.o),
    'COUNT', math.min(limit - count, step))
  if #entries == 0 then
    break
  end
  for _, entry in ipairs(entries) do
    local found, message = decode(entry)
    if message then
      reply[#reply + 1] = found
      reply[#reply + 1] = message
      size = size + #message
    end
    offset, count = found + 1, count + 1
  end
  step = math.max(1, math.min(100, math.floor((1048576 - size) * count / (size + 1))))
end
return reply
