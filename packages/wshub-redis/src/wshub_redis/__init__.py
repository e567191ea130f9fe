"""A bridge that joins wshub hubs on many processes and machines through Redis.

Nothing is here yet. This package will hold the bridge, and a publisher for processes without a hub.
"""
