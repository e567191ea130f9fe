"""The bridge between hubs: its interface, its states, and the hub's use of it."""
