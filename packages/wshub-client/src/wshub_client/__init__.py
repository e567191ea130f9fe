"""The reconnecting client of a wshub hub.

Nothing is here yet. This package will hold the client for Python, and offer the same client for
browsers.
"""
