"""The traffic of one trace: a bounded queue of frames, for a reader that may be slow."""

import asyncio
import contextlib
from collections import deque
from time import time
from typing import Literal, TypeAlias

import msgspec

from wshub_core.values.encoding import replace_surrogates

Direction: TypeAlias = Literal["in", "out", "published"]

_MAX_FRAMES = 1_000
"""Frames that wait for the reader; further frames replace the oldest ones."""

_MAX_TEXT = 4_096
"""Characters of a payload that are shown."""


class TracedFrame(msgspec.Struct, kw_only=True):
    """A frame of a trace.

    Attributes:
        at: Unix time in seconds.
        direction: ``in`` from a client, ``out`` to a client, ``published`` to a channel.
        connection: The id of the connection; None for a published message.
        user_id: The user of the connection.
        text: The payload, or its beginning.
        size: Size of the payload in bytes.
        is_cut: Whether the text is only the beginning of the payload.
        skipped: Number of frames before this one that were left out, because the reader is slow.
    """

    at: float
    direction: Direction
    connection: int | None
    user_id: str
    text: str
    size: int
    is_cut: bool
    skipped: int = 0


class Traffic:
    """The frames that wait for the reader of a trace."""

    def __init__(self) -> None:
        self._frames: deque[TracedFrame] = deque()
        self._skipped = 0
        self._has_frames = asyncio.Event()
        self._has_ended = asyncio.Event()

    def add(
        self, direction: Direction, payload: bytes, connection: int | None = None, user_id: str = ""
    ) -> None:
        """Add a frame."""
        # A character has at most four bytes. Of a longer payload, these bytes have one too many.
        text = payload[: 4 * (_MAX_TEXT + 1)].decode(errors="replace")
        if len(self._frames) == _MAX_FRAMES:
            self._frames.popleft()
            self._skipped += 1
        frame = TracedFrame(
            at=time(),
            direction=direction,
            connection=connection,
            user_id=replace_surrogates(user_id),
            text=text[:_MAX_TEXT],
            size=len(payload),
            is_cut=len(text) > _MAX_TEXT,
        )
        self._frames.append(frame)
        self._has_frames.set()

    async def end(self) -> None:
        """End the trace."""
        self._has_ended.set()

    async def wait_ended(self) -> None:
        """Wait for `end`."""
        await self._has_ended.wait()

    async def read(self, seconds: float) -> list[TracedFrame]:
        """Return the waiting frames; wait at most this time in seconds for the first one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._has_frames.wait()
        self._has_frames.clear()
        frames = list(self._frames)
        self._frames.clear()
        if frames:
            frames[0].skipped, self._skipped = self._skipped, 0
        return frames
