"""The history scripts on a real server, with a clock that the test moves."""

import json
from dataclasses import dataclass
from itertools import count
from typing import Any

import redis

from wshub_core import HistoryLimits, StoredPage
from wshub_redis.history_calls import HistoryCalls
from wshub_redis.redis_channels import RedisChannels
from wshub_redis.scripts import load_script
from wshub_redis.shared_history import to_page

NAMES = RedisChannels("ws")
CALLS = HistoryCalls(NAMES, is_sharded=False)
STREAM, HASH = (key.decode() for key in CALLS.keys("news"))

SOURCE = "5" * 32


def position_bytes(offset: int) -> int:
    """Return the size of a position on the wire."""
    return len(f',"epoch":"12345678","offset":{offset}')


@dataclass
class Scripts:
    """The history of the channel ``news``.

    Attributes:
        client: A client of the server.
        run_id: The run id that the callers know.
        limits: The size of the history.
    """

    client: redis.Redis
    limits: HistoryLimits
    run_id: str = "run-1"

    def __post_init__(self) -> None:
        self.client.flushall()
        self.ids = count(1)
        self._seeds = count()
        self.time = 1_000_000

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self.time += round(seconds * 1_000)

    def _run(self, name: str, *arguments: object) -> Any:
        text = load_script("history", name).text.decode()
        clock = f"{{'{self.time // 1_000}', '{self.time % 1_000 * 1_000}'}}"
        assert "redis.call('TIME')" in text
        text = text.replace("redis.call('TIME')", clock)
        return self.client.eval(text, 2, *CALLS.keys("news"), *arguments)  # type: ignore[arg-type]

    def publish(
        self,
        message: str = '{"type":"x"}',
        *,
        source: str = SOURCE,
        envelope_id: int | None = None,
        is_repeated: bool = False,
        command: str = "PUBLISH",
    ) -> Any:
        """Publish a message; return the reply."""
        arguments = CALLS.publish("news", self.limits)
        assert arguments[0] == b"PUBLISH"
        number = next(self.ids) if envelope_id is None else envelope_id
        return self._run(
            "publish",
            command,
            *arguments[1:],
            source,
            number,
            message,
            self.run_id,
            int(is_repeated),
        )

    def read(self, after: int = 0, limit: int = 1_000) -> StoredPage:
        """Read a page."""
        arguments = CALLS.read(self.limits, after, limit)
        reply = self._run("read", *arguments, self.run_id, f"seed-{next(self._seeds)}")
        return to_page(reply, after, limit)

    def clear(self) -> str:
        """Begin a new epoch; return it."""
        arguments = CALLS.clear(self.limits)
        reply: bytes = self._run("clear", *arguments, self.run_id, f"seed-{next(self._seeds)}")
        return reply.decode()


def envelope_of(message: dict[str, Any]) -> dict[str, Any]:
    """Return the envelope in a message of a subscription."""
    envelope: dict[str, Any] = json.loads(message["data"])
    return envelope
