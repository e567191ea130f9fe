"""The position of a client in the history of one channel, without input or output."""

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, TypeAlias

import msgspec

from wshub_core import JSON, InvalidHistoryRequestError, Message, MessageType, Position

_MAX_OFFSET = 2**53 - 1
"""Largest offset; JSON parsers keep larger integers not exact."""

_NO_HISTORY = "no_history"
_SKIPPED = "skipped"

_REASON_TEXTS = {
    "trimmed": "the hub has removed them",
    "foreign_epoch": "the hub has begun the history anew",
    "future_offset": "the history of the hub ends earlier",
    "unavailable": "the hub cannot read the history now",
    _NO_HISTORY: "the hub keeps no history",
    _SKIPPED: "the hub has left them out",
}

_NOTICES = (MessageType.HISTORY_CLEARED, MessageType.HISTORY_POSITION)
"""The types of the messages in which a hub tells a new position."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages of a channel that the client cannot get.

    Attributes:
        channel: The channel.
        reason: ``trimmed``: the hub has removed the messages, because the history has a maximum
            size and age. ``foreign_epoch``: the hub has begun the history anew, after a restart for
            example. ``future_offset``: the history of the hub ends before the position of the
            client. ``unavailable``: the hub cannot read the history now; if it can later, the
            client gets the messages then. ``no_history``: the hub keeps no history of this channel.
            ``skipped``: the hub has left out messages, even when it was asked for them again.
        missing: Number of missing messages; None if it is not known.
    """

    channel: str
    reason: str
    missing: int | None = None

    def __str__(self) -> str:
        missing = "unknown number" if self.missing is None else self.missing
        text = _REASON_TEXTS.get(self.reason, self.reason)
        return f"{self.channel}: missing messages: {missing} ({text})"


class Step(Enum):
    """The effect of a message on the position."""

    DONE = 0
    """The message was passed on, or comes again behind an answer."""
    DUPLICATE = 1
    """The application has had this message, which was dropped."""
    JUMP = 2
    """Earlier messages are missing. The client must send a new request."""


_Offset: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=_MAX_OFFSET)]


class _HistoryData(msgspec.Struct, frozen=True):
    """The data of the answer to a subscription, and of a message that tells a position."""

    epoch: str = ""
    offset: _Offset = 0
    after: _Offset = 0
    recovered: bool = True
    reason: str = ""
    missing: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Recovery:
    """The position in the history of one channel, and the requests that follow from it.

    The application gets every message of the history at most once, in order, and a `Gap` for all
    messages that it does not get.

    Args:
        channel: The channel.
        last: The number of messages of the history to begin with.
        since: The offset, or the position, behind which the messages begin.

    Attributes:
        position: The position behind the last message; None if it is not known.

    Raises:
        InvalidHistoryRequestError: ``last`` or ``since`` is invalid, or both are given.
    """

    __slots__ = (
        "_asked_again",
        "_awaits_answer",
        "_channel",
        "_has_history",
        "_start",
        "position",
    )

    def __init__(
        self, channel: str, *, last: int | None = None, since: int | Position | None = None
    ) -> None:
        self.position = since if isinstance(since, Position) else None
        self._channel = channel
        # The request of the application, until an answer of a hub takes its place.
        self._start: dict[str, object] | None = None
        if last is not None:
            self._start = {"last": last}
        elif since is not None and self.position is None:
            self._start = {"since": since}
        _validate(last, since)
        self._awaits_answer = True
        self._has_history = False
        # The request after the last jump. A jump that leads to the same request is not asked again.
        self._asked_again: dict[str, object] | None = None

    def make_request(self) -> dict[str, object] | None:
        """Return the field ``history`` of a request; None for a request without this field."""
        if self.position is None:
            return self._start
        return {"since": self.position.offset, "epoch": self.position.epoch}

    def lose_connection(self) -> None:
        """Note that the next request goes to a new connection, and wait for its answer."""
        self._awaits_answer = True
        self._asked_again = None

    def take_answer(self, data: JSON) -> Gap | None:
        """Begin at the position in an answer; return a `Gap` if messages are missing.

        Args:
            data: The data of the answer. Hubs without a history send none.
        """
        answer = _read(data)
        self._awaits_answer = False
        self._has_history = answer is not None and answer.reason != _NO_HISTORY
        if answer is None or not self._has_history:
            return self._forget_history()
        # While the hub cannot read the history, it tells no position, and the present one stays.
        if answer.epoch:
            self.position = Position(answer.epoch, answer.after)
        return None if answer.recovered else Gap(self._channel, answer.reason, answer.missing)

    def take(self, message: Message) -> Generator[Message | Gap, None, Step]:
        """Process a message of the channel.

        The position moves when the generator goes on behind the message. A message that could not
        be passed on is so requested again.

        Yields:
            The message, if it is for the application, and before it a `Gap`, if there is one.
        """
        if not message.epoch:
            yield message
            return self._take_notice(message) if message.type in _NOTICES else Step.DONE
        if self._awaits_answer and self.make_request() is not None:
            # It comes again behind the answer, or belongs to an earlier subscription.
            return Step.DONE
        is_followed = self._has_history and not self._awaits_answer
        if is_followed:
            position = self.position
            is_same_epoch = position is not None and message.epoch == position.epoch
            if position is not None and is_same_epoch and message.offset <= position.offset:
                return Step.DUPLICATE
            if position is None or not is_same_epoch or message.offset > position.offset + 1:
                if self._ask_again():
                    return Step.JUMP
                if position is not None:
                    missing = message.offset - position.offset - 1 if is_same_epoch else None
                    yield Gap(self._channel, _SKIPPED, missing)
        yield message
        if is_followed:
            self.position = Position(message.epoch, message.offset)
        return Step.DONE

    def take_next(self, message: Message) -> bool:
        """Process a message at once, if it is for the application and nothing else follows from it.

        Returns:
            Whether the application gets the message, as if `take` had yielded it and gone on. If
            not, nothing has changed, and `take` must process the message.
        """
        if not message.epoch:
            return message.type not in _NOTICES
        if self._awaits_answer:
            return self.make_request() is None
        if not self._has_history:
            return True
        position = self.position
        if position is None or message.epoch != position.epoch:
            return False
        if message.offset != position.offset + 1:
            return False
        self.position = Position(message.epoch, message.offset)
        return True

    def _ask_again(self) -> bool:
        """Wait for the answer to a new request; return False if the same one has not helped."""
        request = self.make_request()
        if request == self._asked_again:
            return False
        self._asked_again = request
        self._awaits_answer = True
        return True

    def _take_notice(self, notice: Message) -> Step:
        # While a request is under way, its answer will tell the position.
        if self._awaits_answer or not self._has_history:
            return Step.DONE
        told = _read(notice.data)
        if told is None or not told.epoch:
            return Step.DONE
        position = self.position
        if notice.type == MessageType.HISTORY_CLEARED or (position is None and self._start is None):
            self.position = Position(told.epoch, told.offset)
        elif position is None or position.epoch != told.epoch or position.offset != told.offset:
            self._asked_again = None
            self._awaits_answer = True
            return Step.JUMP
        return Step.DONE

    def _forget_history(self) -> Gap | None:
        is_missed = self.make_request() is not None
        self.position = self._start = None
        return Gap(self._channel, _NO_HISTORY) if is_missed else None


def _read(data: JSON) -> _HistoryData | None:
    """Return the data of a hub; None if there are none, or no valid ones."""
    try:
        return msgspec.convert(data, _HistoryData | None)
    except msgspec.ValidationError:
        return None


def _validate(last: object, since: object) -> None:
    if last is not None and since is not None:
        raise InvalidHistoryRequestError("give last or since, not both")
    match since:
        case Position(epoch=epoch, offset=offset):
            is_valid = isinstance(epoch, str) and epoch != "" and _is_offset(offset)
        case _:
            is_valid = since is None or _is_offset(since)
    if not is_valid:
        raise InvalidHistoryRequestError(f"since must be an offset or a Position, not {since!r}")
    if last is not None and not _is_offset(last):
        raise InvalidHistoryRequestError(f"last must be a number from 0 to 2**53 - 1, not {last!r}")


def _is_offset(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_OFFSET
