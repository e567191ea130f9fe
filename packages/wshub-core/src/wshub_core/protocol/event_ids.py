"""The ids of an event stream: the position that a client has reached in each of its channels.

An id has one entry for each channel of the request, in their order, with a comma between two. An
entry is ``EPOCH:OFFSET``, or empty for a channel without a known position. In a request, an entry
can also be ``OFFSET``, or ``-N`` for the last N messages.
"""

import re
import sys
from collections.abc import Sequence

from wshub_core.protocol.recovery import HistoryRequest
from wshub_core.protocol.server_sent_events import POSITION_TYPES, SentEvent
from wshub_core.values.errors import InvalidHistoryRequestError
from wshub_core.values.history import MAX_OFFSET, Position
from wshub_core.values.messages import MessageType

_read_entry = re.compile(r"(?:([A-Za-z0-9]{1,64}):)?([0-9]{1,16})|-([0-9]{1,16})").fullmatch

_SHARE = 4
"""The ids are at most about a quarter as long as the events between them."""


def read_event_id(text: str, count: int) -> list[HistoryRequest | None]:
    """Return the history that a client asks for, for each of its channels.

    Args:
        text: The id; empty for none.
        count: Number of channels.

    Raises:
        InvalidHistoryRequestError: The id is malformed, or has another number of entries.
    """
    if not text:
        return [None] * count
    # Bounded before the split, which would make a list of any length.
    if text.count(",") + 1 != count:
        raise InvalidHistoryRequestError(f"the event id must have {count} entries")
    return [_read_request(entry) for entry in text.split(",")]


def _read_request(entry: str) -> HistoryRequest | None:
    if not entry:
        return None
    match = _read_entry(entry)
    if match is None or int(match[2] or match[3]) > MAX_OFFSET:
        raise InvalidHistoryRequestError("the event id is malformed")
    if match[3]:
        return HistoryRequest(last=int(match[3]))
    return HistoryRequest(since=int(match[2]), epoch=match[1])


class EventIDs:
    """The positions of one event stream, which make its ids.

    Args:
        channels: The channels of the request.
        requests: The history that the client asks for, for each channel.
    """

    def __init__(self, channels: Sequence[str], requests: Sequence[HistoryRequest | None]) -> None:
        asked = tuple(zip(channels, requests, strict=True))
        self._positions = {channel: _position_of(request) for channel, request in asked}
        # The channels whose request has no answer yet.
        self._asked = {channel for channel, request in asked if request is not None}
        # Refused channels that have sent no message yet. The application may subscribe the client
        # to such a channel later, and the next message then need not follow the position.
        self._refused: set[str] = set()
        # The channels of which messages are missing. Their positions no longer move, so that the
        # next request asks for these messages.
        self._broken: set[str] = set()
        self._is_moved = False
        self._unnumbered_bytes = 0

    def join(self, events: Sequence[SentEvent]) -> tuple[bytes, bool]:
        """Join events, with the ids of the positions behind them.

        The last event has an id, and an event between if the id is short in comparison.

        Returns:
            The bytes, and False if an event was left out because messages of its channel before it
            are missing. All further messages of the history of the channel are then left out, too.
        """
        parts: list[bytes] = []
        is_whole = True
        for event in events:
            if self._is_early(event):
                continue
            if not self._advance(event):
                is_whole = False
                continue
            self._unnumbered_bytes += len(event.text)
            parts.append(event.text)
            if self._is_moved:
                self._add_id(parts, self._unnumbered_bytes // _SHARE)
        if self._is_moved and parts:
            self._add_id(parts, sys.maxsize)
        return b"".join(parts), is_whole

    def encode(self) -> bytes:
        """Return the id of the present positions."""
        return b",".join(
            b"" if each is None else b"%b:%d" % (each.epoch.encode(), each.offset)
            for each in self._positions.values()
        )

    def _add_id(self, parts: list[bytes], max_length: int) -> None:
        """Add the id to the last event, unless it is longer than a number of bytes."""
        event_id = self.encode()
        if len(event_id) <= max_length:
            parts[-1:-1] = (b"id: ", event_id, b"\n")
            self._is_moved, self._unnumbered_bytes = False, 0

    def _is_early(self, event: SentEvent) -> bool:
        """Return whether a message comes before the answer, behind which it comes again."""
        if event.channel not in self._asked:
            return False
        if event.type == MessageType.SUBSCRIBED:
            self._asked.discard(event.channel)
        elif event.type == MessageType.ERROR and event.position is None:
            self._asked.discard(event.channel)
            self._refused.add(event.channel)
        return event.position is not None and event.type not in POSITION_TYPES

    def _advance(self, event: SentEvent) -> bool:
        """Move the position of a channel; return False if messages before the event are missing."""
        channel, position = event.channel, event.position
        if position is None or channel not in self._positions:
            return True
        if not self._is_next(event, position):
            self._broken.add(channel)
            return False
        if event.type != MessageType.HISTORY_POSITION:
            self._positions[channel] = position
            self._refused.discard(channel)
            self._is_moved = True
        return True

    def _is_next(self, event: SentEvent, position: Position) -> bool:
        """Return whether no message is missing between the position of a channel and an event."""
        channel = event.channel
        if channel in self._broken:
            return False
        before = self._positions[channel]
        if before is None or channel in self._refused:
            return True
        if event.type == MessageType.HISTORY_POSITION:
            return before == position or channel in self._asked
        return event.type in POSITION_TYPES or position == (before.epoch, before.offset + 1)


def _position_of(request: HistoryRequest | None) -> Position | None:
    if request is None or request.since is None or request.epoch is None:
        return None
    return Position(request.epoch, request.since)
