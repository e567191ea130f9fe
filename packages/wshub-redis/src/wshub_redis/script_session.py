"""The scripts on one connection: loaded when the connection opens, and run by their name."""

from collections.abc import Iterable
from typing import Any

from redis import ResponseError

from wshub_redis.redis_py.connections import RedisConnection
from wshub_redis.resp import encode_command, encode_parts
from wshub_redis.scripts import Script

_INFO = encode_command(b"INFO", b"server")

_RUN_ID = b"run_id:"


class ScriptSession:
    """Prepares each connection for scripts, and encodes their calls.

    Args:
        scripts: The scripts.

    Attributes:
        run_id: The run id of the server, which is another one after a restart; empty if the user
            has no right to ``INFO``.
    """

    def __init__(self, scripts: Iterable[Script]) -> None:
        self.run_id = b""
        self._scripts = tuple(scripts)
        self._are_loaded = False
        self._were_missing = False

    async def prepare(self, connection: RedisConnection) -> None:
        """Load the scripts, and learn the run id of the server.

        Raises:
            RedisError: The connection is lost.
            OSError: The connection is lost.
        """
        loads = [encode_command(b"SCRIPT", b"LOAD", script.text) for script in self._scripts]
        await connection.write([_INFO, *loads])
        self.run_id = _find_run_id(await _read_reply(connection))
        replies = [await _read_reply(connection) for _ in loads]
        # Without the right to load scripts, each call has the text.
        self._are_loaded = None not in replies and not self._were_missing

    def note_missing(self) -> None:
        """Record that the server did not know a loaded script; from now on, calls have the text."""
        self._are_loaded = False
        self._were_missing = True

    def head(self, script: Script) -> bytes:
        """Return the first two parts of a call."""
        if self._are_loaded:
            return encode_parts(b"EVALSHA", script.sha)
        return encode_parts(b"EVAL", script.text)

    def encode(self, script: Script, keys: Iterable[bytes], arguments: Iterable[bytes]) -> bytes:
        """Return a call of a script."""
        keys, arguments = tuple(keys), tuple(arguments)
        body = encode_parts(b"%d" % len(keys), *keys, *arguments)
        count = 3 + len(keys) + len(arguments)
        return b"*%d\r\n%b%b" % (count, self.head(script), body)


async def _read_reply(connection: RedisConnection) -> Any:
    """Return the next reply; None if it is an error."""
    try:
        return await connection.read()
    except ResponseError:
        return None


def _find_run_id(info: object) -> bytes:
    if isinstance(info, bytes):
        for line in info.splitlines():
            if line.startswith(_RUN_ID):
                return line.removeprefix(_RUN_ID)
    return b""
