"""The Redis bridge of wshub: hubs in many processes and on many machines share their messages.

A hub uses `RedisBridge`. Programs without a hub publish with `RedisPublisher`, or with
`AsyncRedisPublisher` on an event loop.
"""

from wshub_redis.async_publisher import AsyncRedisPublisher
from wshub_redis.bridge import RedisBridge
from wshub_redis.errors import InvalidPrefixError, PublisherOpenError
from wshub_redis.publish_methods import PublishMethods
from wshub_redis.publisher import RedisPublisher

__all__ = [
    "AsyncRedisPublisher",
    "InvalidPrefixError",
    "PublishMethods",
    "PublisherOpenError",
    "RedisBridge",
    "RedisPublisher",
]
