"""The bridge between hubs: its interface, its states, and the hub's calls to it."""
