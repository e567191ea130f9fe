"""Joins wshub hubs on many processes and machines through Redis.

Start with `RedisBridge`; programs without a hub publish with `RedisPublisher`.
"""

from wshub_redis.async_publisher import AsyncRedisPublisher
from wshub_redis.bridge import BridgeStats, RedisBridge
from wshub_redis.errors import InvalidPrefixError, PublisherOpenError
from wshub_redis.publisher import RedisPublisher

__all__ = [
    "AsyncRedisPublisher",
    "BridgeStats",
    "InvalidPrefixError",
    "PublisherOpenError",
    "RedisBridge",
    "RedisPublisher",
]
