"""The check that a server is not a replica.

A replica accepts ``PUBLISH`` and passes the message on to its own subscribers and replicas. Its
primary never gets the message.
"""

from wshub_redis.resp import encode_command

HELLO = encode_command(b"HELLO")
"""The command whose reply names the server's role. Redis allows it to every user, unlike ``ROLE``
and ``INFO``. It exists since Redis 6."""

ROLE_CHECK_SECONDS = 30.0
"""Time in seconds between two checks by a publisher without a hub."""


class ReplicaError(ConnectionError):
    """A server is a replica.

    Args:
        address: The address of the server.
    """

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} is a replica and cannot publish: connect to its primary")


def is_replica(reply: object) -> bool:
    """Return whether a reply to ``HELLO`` comes from a replica, in either protocol version.

    The nodes of a cluster do not count as replicas: each node passes messages on to all others.
    """
    # Version 2 of the protocol has no maps: names and values alternate in a list.
    if isinstance(reply, list):
        reply = dict(zip(reply[::2], reply[1::2], strict=False))
    if not isinstance(reply, dict):
        return False
    facts = {_to_bytes(name): _to_bytes(value) for name, value in reply.items()}
    return facts.get(b"role") == b"replica" and facts.get(b"mode") != b"cluster"


def _to_bytes(value: object) -> object:
    # A client of the application may decode replies.
    return value.encode() if isinstance(value, str) else value
