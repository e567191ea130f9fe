"""The presence of channels: the members on this hub, and their way into the store of all hubs."""
