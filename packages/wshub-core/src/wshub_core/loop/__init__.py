"""Helpers on the event loop: the clock, timeouts, tasks, calls of callbacks, and the shutdown."""
