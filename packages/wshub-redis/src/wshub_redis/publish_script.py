"""The calls of the script that appends a message to a history and publishes it."""

from wshub_redis.redis_py.connections import RedisConnection
from wshub_redis.resp import encode_parts
from wshub_redis.script_session import ScriptSession
from wshub_redis.scripts import load_script

PUBLISH_SCRIPT = load_script("history", "publish")
"""The script; `HistoryCalls` has its arguments."""


class PublishScript:
    """Completes the calls of the script for one connection after the other.

    A call has four parts: a head, which depends on the connection; the arguments, which are encoded
    when the message is published; the message; and a tail, which depends on the connection and on
    whether the call is repeated.
    """

    def __init__(self) -> None:
        self._session = ScriptSession([PUBLISH_SCRIPT])
        self._head = b""
        self._tails = (b"", b"")

    async def prepare(self, connection: RedisConnection) -> None:
        """Prepare a new connection; see `ScriptSession.prepare`."""
        await self._session.prepare(connection)
        self._head = b"*16\r\n" + self._session.head(PUBLISH_SCRIPT)
        run_id = encode_parts(self._session.run_id)
        self._tails = (b"\r\n%b$1\r\n0\r\n" % run_id, b"\r\n%b$1\r\n1\r\n" % run_id)

    def note_missing(self) -> None:
        """Record that the server did not know the script; see `ScriptSession.note_missing`."""
        self._session.note_missing()

    def complete(self, call: bytes, payload: bytes, is_repeated: bool) -> tuple[bytes, ...]:
        """Return a call in parts.

        Args:
            call: The arguments; see `HistoryCalls.encode_publish`.
            payload: The message.
            is_repeated: Whether the history may have the message.
        """
        return self._head, call, payload, self._tails[is_repeated]
