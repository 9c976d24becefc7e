-- check: answers the server's INFO about itself and its memory, of the node that holds the keys.
return { redis.call('INFO', 'server'), redis.call('INFO', 'memory') }
