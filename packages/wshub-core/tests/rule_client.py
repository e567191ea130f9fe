"""A client that follows the rules of the wire protocol for histories, as simply as possible.

It has no network: a test passes the messages of one channel to `feed`, and sends the frames of
`requests`. It records what its application would learn.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Delivered(NamedTuple):
    """A message for the application; offset 0 if it has no position."""

    epoch: str
    offset: int
    data: Any


class Told(NamedTuple):
    """A gap of which the application was told."""

    reason: str


class Cleared(NamedTuple):
    """The history was cleared, as the application knows."""

    epoch: str
    offset: int


Event = Delivered | Told | Cleared


@dataclass
class RuleClient:
    """The state of one channel of a client.

    Attributes:
        wish: The history that the application asked for, until an answer has come.
        position: The position of the last message for the application.
        events: Everything that the application has learned.
        requests: The values of ``history`` to ask for; None for none.
        asking: The request under way.
    """

    wish: dict[str, Any] | None = None
    position: tuple[str, int] | None = None
    events: list[Event] = field(default_factory=list)
    requests: list[dict[str, Any] | None] = field(default_factory=list)
    is_asking: bool = False
    # The position from which the client has asked because of a jump.
    _asked_from: tuple[str, int] | None = None

    def connect(self) -> None:
        """Subscribe on a new connection."""
        self._asked_from = None
        self._ask()

    def _ask(self) -> None:
        self.is_asking = True
        if self.position is None:
            self.requests.append(self.wish)
        else:
            self.requests.append({"since": self.position[1], "epoch": self.position[0]})

    def feed(self, message: dict[str, Any]) -> None:
        """Take a message of the channel."""
        if message["type"] == "subscribed":
            self._take_answer(message.get("data") or {})
        elif message.get("epoch"):
            self._take(message["epoch"], message["offset"], message.get("data"))
        elif message["type"] == "history_cleared":
            data = message["data"]
            if self.position is not None and data["epoch"] != self.position[0]:
                self.position = data["epoch"], data.get("offset", 0)
                self.events.append(Cleared(*self.position))
        elif message["type"] == "history_position":
            data = message["data"]
            newest = data["epoch"], data["offset"]
            if not self.is_asking and self.position not in (None, newest):
                self._asked_from = self.position
                self._ask()
        else:
            self.events.append(Delivered("", 0, message.get("data")))

    def _take_answer(self, data: dict[str, Any]) -> None:
        self.is_asking = False
        if data.get("recovered") is False:
            self.events.append(Told(data["reason"]))
        if "epoch" in data:
            self.position = data["epoch"], data["after"]
            self.wish = None

    def _take(self, epoch: str, offset: int, data: Any) -> None:
        if self.is_asking:
            return
        if self.position is None and self.wish is not None:
            # The first answer was "unavailable". The message that shows the end of the outage must
            # not be lost, so "last" is counted from it.
            if "last" in self.wish:
                self.wish = {"since": max(offset - 1 - self.wish["last"], 0), "epoch": epoch}
            self._ask()
        elif self.position is None:
            self._deliver(epoch, offset, data)
        elif self.position == (epoch, offset - 1):
            self._asked_from = None
            self._deliver(epoch, offset, data)
        elif epoch == self.position[0] and offset <= self.position[1]:
            pass  # a duplicate
        elif self._asked_from == self.position:
            # Asking has not helped.
            self._asked_from = None
            self.events.append(Told("skipped"))
            self._deliver(epoch, offset, data)
        else:
            self._asked_from = self.position
            self._ask()

    def _deliver(self, epoch: str, offset: int, data: Any) -> None:
        self.position = epoch, offset
        self.events.append(Delivered(epoch, offset, data))

    def check(self, truth: dict[tuple[str, int], set[Any]]) -> None:
        """Check that the application has each message once and in order, or was told.

        Args:
            truth: The data that the history has had at each position.
        """
        before: tuple[str, int] | None = None
        for event in self.events:
            match event:
                case Told():
                    before = None
                case Cleared(epoch, offset):
                    before = epoch, offset
                case Delivered(epoch, offset, data) if epoch:
                    assert data in truth[epoch, offset], (event, self.events)
                    assert before in (None, (epoch, offset - 1)), (event, before, self.events)
                    before = epoch, offset
