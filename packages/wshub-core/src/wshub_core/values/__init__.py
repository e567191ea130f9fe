"""Values: immutable data and the rules on it. No clock, no event loop, no sockets."""
