"""All uses of redis-py beyond its documented clients.

The rest of the package imports only ``Redis``, ``RedisCluster`` and ``ResponseError`` from
redis-py. The modules here use its connection classes, the settings of its pools, and the node map
of its cluster client. These are not documented and change between versions: comments name the
versions that need a workaround, and continuous integration runs the tests with the oldest and the
newest supported version.
"""
