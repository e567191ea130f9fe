"""The client for browsers, and for Node: an ES module that has no dependencies."""
