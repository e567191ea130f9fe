-- Remove the history of a channel, and begin a new epoch.
--
-- ARGV: the expiry of the hash in ms, the run id of the server or '', and a seed.
-- Reply: the epoch.
local state = load(ARGV[2], ARGV[3], 'e')
begin(state, ARGV[3])
save(state)
redis.call('PEXPIRE', hash, ARGV[1])
return state.e
