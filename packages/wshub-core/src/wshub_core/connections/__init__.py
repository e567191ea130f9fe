"""One hub at run time: admission, connections, commands, subscriptions, delivery."""
