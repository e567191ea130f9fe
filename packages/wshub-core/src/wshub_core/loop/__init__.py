"""Helpers on the event loop: clock, timeouts, tasks, calls of callbacks, shutdown."""
