"""A hub for tests without an event loop."""

import asyncio
import threading
from typing import Any

from support import PATIENCE_SECONDS

from wshub_core import Hub, HubConfig


class Served:
    """A hub in a thread of its own."""

    def __init__(self, **settings: Any) -> None:
        self.hub = Hub(HubConfig(**settings))
        self.url = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=[self._serve()], daemon=True
        )

    def __enter__(self) -> "Served":
        self._thread.start()
        assert self._ready.wait(PATIENCE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        self._loop.close()

    async def _serve(self) -> None:
        async with self.hub as hub, hub.serve("127.0.0.1", 0) as server:
            self.url = f"ws://127.0.0.1:{server.port}/ws"
            self._ready.set()
            await self._stop.wait()
