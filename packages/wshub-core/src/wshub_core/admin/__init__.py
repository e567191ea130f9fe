"""The admin view: the state of a hub in a browser, with a tracer."""
