"""Errors of the clients.

All of them are a `wshub_core.WSHubError`. Their texts contain no token and no query of an address::

    ClientError
    ├── DialError                  a dial has failed; the client tries again
    ├── LostError                  the connection was lost; the client tries again
    ├── RefusedError               the server has refused the handshake; the client ends
    ├── ClosedError                the hub has closed with a terminal code; the client ends
    ├── RetriesExhaustedError      there were too many failures in a row; the client ends
    ├── NotConnectedError          there is no connection to send on
    ├── ClientClosedError          the client has been closed, or has ended
    ├── SubscriptionRefusedError   the hub refuses a subscription
    ├── PublishRefusedError        the hub refuses to publish a message
    ├── PresenceRefusedError       the hub does not tell who is present
    └── DroppedError               messages were dropped, because a bound was reached
"""

from wshub_core import WSHubError


class ClientError(WSHubError):
    """The base class of all errors of the clients."""


class DialError(ClientError):
    """A dial has failed. The client tries again.

    Attributes:
        retry_after: The wait that the server asks for, in seconds; None if it asks for none.
        status: The HTTP status of the response; None if there was no response.
    """

    def __init__(
        self, text: str, retry_after: float | None = None, status: int | None = None
    ) -> None:
        self.retry_after = retry_after
        self.status = status
        super().__init__(text)


class LostError(ClientError):
    """The connection was lost. The client tries again.

    Attributes:
        code: The close code; 1006 if there was no close frame.
        reason: The reason in the close frame.
        retry_after: The wait that the server asks for, in seconds; None if it asks for none.
    """

    def __init__(self, code: int, reason: str, retry_after: float | None = None) -> None:
        self.code = code
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(f"connection lost: {code} {reason}".rstrip())


class RefusedError(ClientError):
    """The server has refused the handshake, and would refuse the next one. The client ends.

    Attributes:
        status: The HTTP status: 401, 403, or the status of a redirect.
        reason: The first line of the response's body, or the reason phrase of its status.
    """

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"refused: {status} {reason}".rstrip())


class ClosedError(ClientError):
    """The hub has closed the connection with a terminal code. The client ends.

    Attributes:
        code: The close code: 1002, 1007, 1008, 3003, or 4500 to 4999.
        reason: The reason in the close frame.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"closed for good: {code} {reason}".rstrip())


class RetriesExhaustedError(ClientError):
    """There were more failures in a row than ``max_attempts``; the cause is the last one."""

    def __init__(self, max_attempts: int) -> None:
        super().__init__(f"max retries ({max_attempts}) exceeded")


class NotConnectedError(ClientError):
    """There is no connection to send on, and the message is not queued."""

    def __init__(self) -> None:
        super().__init__("not connected")


class ClientClosedError(ClientError):
    """The client has been closed, or has ended with an error."""

    def __init__(self) -> None:
        super().__init__("the client has been closed: create a new one")


class SubscriptionRefusedError(ClientError):
    """The hub refuses a subscription.

    Attributes:
        channel: The channel.
        code: The hub's code for programs, such as ``subscription_denied``; empty if it sends none.
        reason: The hub's text for people.
    """

    def __init__(self, channel: str, code: str, text: str) -> None:
        self.channel = channel
        self.code = code
        self.reason = text
        super().__init__(f"{channel}: {text}")


class PublishRefusedError(ClientError):
    """The hub refuses to publish a message.

    Attributes:
        channel: The channel of the message.
        code: The hub's code for programs, such as ``publish_denied``; ``not_served`` if the hub
            publishes no messages of clients.
        reason: The hub's text for people.
    """

    def __init__(self, channel: str, code: str, text: str) -> None:
        self.channel = channel
        self.code = code
        self.reason = text
        super().__init__(f"{channel}: {text}")


class PresenceRefusedError(ClientError):
    """The hub does not tell who is present in a channel.

    Attributes:
        channel: The channel.
        code: The hub's code for programs: ``presence_denied``, ``no_presence``, or
            ``presence_unavailable``, after which a later call may succeed; ``not_served`` if the
            hub knows no presence.
        reason: The hub's text for people.
    """

    def __init__(self, channel: str, code: str, text: str) -> None:
        self.channel = channel
        self.code = code
        self.reason = text
        super().__init__(f"{channel}: {text}")


class DroppedError(ClientError):
    """Messages were dropped, because a bound was reached.

    Attributes:
        count: Number of dropped messages.
    """

    def __init__(self, count: int, why: str) -> None:
        self.count = count
        super().__init__(f"{count} messages dropped: {why}")
