"""Immutable data and the rules for it. No module uses a clock, an event loop or a socket."""
