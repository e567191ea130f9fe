"""The interface between the contract and a client in any language."""

from typing import Any, Protocol, TypeAlias

QUICK: dict[str, Any] = {"initial_backoff": 0.02, "max_backoff": 0.05}
"""Options of clients that reconnect without a noticeable wait."""

Event: TypeAlias = dict[str, Any]
"""An event that a client has reported; see `ClientUnderTest.events`."""


class FailedError(Exception):
    """A call of a client has failed.

    Attributes:
        name: The name of the error's class.
        fields: The text of the error, and its attributes: status, reason, channel, code, count.
    """

    def __init__(self, name: str, **fields: Any) -> None:
        self.name = name
        self.fields = fields
        super().__init__(f"{name}: {fields}")


class ClientUnderTest(Protocol):
    """A client in any language. A method raises `FailedError` if the call of the client fails."""

    async def start(
        self,
        url: str,
        *,
        tokens: list[str | None] | None = None,
        faulty: bool = False,
        **options: object,
    ) -> None:
        """Start a new client; close the one before, and forget its events.

        Args:
            url: The address of the hub.
            tokens: The results of a token function, dial by dial; the last one is repeated. The
                function raises for None.
            faulty: Whether each callback raises after it has recorded its event.
            options: The options of the client, in snake case; ``queue`` is a mapping. Clients that
                offer no subprotocols ignore ``plain``, which makes others offer none.
        """

    async def subscribe(
        self, channel: str, *, last: int | None = None, since: int | tuple[str, int] | None = None
    ) -> None:
        """Subscribe without waiting for the outcome.

        Args:
            channel: The channel.
            last: The number of messages of the history to begin with.
            since: The offset behind which the messages begin, or an epoch and an offset.
        """

    async def subscribe_confirmed(
        self, channel: str, *, last: int | None = None, since: int | tuple[str, int] | None = None
    ) -> None:
        """Subscribe, and wait for the outcome; the arguments are those of `subscribe`."""

    async def position(self, channel: str) -> tuple[str, int] | None:
        """Return the epoch and the offset of the position in a channel; None without one."""

    async def unsubscribe(self, channel: str) -> None:
        """End a subscription."""

    async def publish(self, channel: str, data: object) -> None:
        """Publish an event, and wait for the outcome."""

    async def send(self, message: dict[str, object]) -> None:
        """Send a message as it is."""

    async def close(self) -> None:
        """Close the client, and wait until it is closed."""

    async def state(self) -> str:
        """Return ``disconnected``, ``connecting`` or ``connected``."""

    async def events(self) -> list[Event]:
        """Return all events up to now, in order.

        ``{"event": "connect"}``, ``{"event": "reconnect", "attempts": 2}``,
        ``{"event": "disconnect"}``, ``{"event": "message", "type": …, "channel": …, "data": …}``
        (absent fields are ``""`` or None), ``{"event": "gap", "channel": …, "reason": …,
        "missing": 7}`` (or None), ``{"event": "error", "name": "LostError", "code": 1006,
        …}``, and at the end ``{"event": "end", "name": None}``, or the name and the fields of the
        error that has ended the client.
        """
