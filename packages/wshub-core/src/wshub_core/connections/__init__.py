"""The connections of a running hub: admission, commands, subscriptions, delivery, lifecycle."""
