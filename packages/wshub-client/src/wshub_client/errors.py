"""What can go wrong with a client.

Every one is a `wshub_core.WSHubError`, and no text holds a token or a query::

    ClientError
    ├── DialError                  one dial failed; the client tries again
    ├── LostError                  the connection was lost; the client tries again
    ├── RefusedError               the server does not let this client in
    ├── ClosedError                the server has closed with a code that says not to come back
    ├── RetriesExhaustedError      too many failures in a row
    ├── NotConnectedError          there is no connection to send on
    ├── ClientClosedError          the client has been closed, or has ended
    ├── SubscriptionRefusedError   the hub does not let this client listen to a channel
    ├── PublishRefusedError        the hub does not take this message
    └── DroppedError               messages were dropped, because a bound was reached
"""

from wshub_core import WSHubError


class ClientError(WSHubError):
    """The root of every error of the client."""


class DialError(ClientError):
    """A dial has failed; its cause says why. The client tries again.

    Attributes:
        retry_after: In how many seconds the server wants to be asked again; None if it has not
            said.
        status: The HTTP status with which a server has answered; None if none has.
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
        reason: The text that came with it.
        retry_after: In how many seconds the server wants to be asked again; None if it has not
            said.
    """

    def __init__(self, code: int, reason: str, retry_after: float | None = None) -> None:
        self.code = code
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(f"connection lost: {code} {reason}".rstrip())


class RefusedError(ClientError):
    """The server does not let this client in, and trying again would not help.

    Attributes:
        status: The HTTP status: 401, 403, or that of a redirect.
        reason: What the server said.
    """

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"refused: {status} {reason}".rstrip())


class ClosedError(ClientError):
    """The server has closed the connection with a code that says not to come back.

    Attributes:
        code: The close code.
        reason: The text that came with it.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"closed for good: {code} {reason}".rstrip())


class RetriesExhaustedError(ClientError):
    """More failures in a row than ``max_attempts`` allows; the last one is the cause."""

    def __init__(self, max_attempts: int) -> None:
        super().__init__(f"max retries ({max_attempts}) exceeded")


class NotConnectedError(ClientError):
    """There is no connection to send on, and nothing is queued."""

    def __init__(self) -> None:
        super().__init__("not connected")


class ClientClosedError(ClientError):
    """The client has been closed, or has ended with an error."""

    def __init__(self) -> None:
        super().__init__("the client has been closed: create a new one")


class SubscriptionRefusedError(ClientError):
    """The hub does not let this client listen to a channel.

    Attributes:
        channel: The channel.
        code: What is wrong, for programs; empty if the hub has not said.
        reason: What the hub said.
    """

    def __init__(self, channel: str, code: str, text: str) -> None:
        self.channel = channel
        self.code = code
        self.reason = text
        super().__init__(f"{channel}: {text}")


class PublishRefusedError(ClientError):
    """The hub does not take this message.

    Attributes:
        channel: The channel that it was for.
        code: What is wrong, for programs.
        reason: What the hub said.
    """

    def __init__(self, channel: str, code: str, text: str) -> None:
        self.channel = channel
        self.code = code
        self.reason = text
        super().__init__(f"{channel}: {text}")


class DroppedError(ClientError):
    """Messages were dropped, because a bound was reached.

    Attributes:
        count: How many.
    """

    def __init__(self, count: int, why: str) -> None:
        self.count = count
        super().__init__(f"{count} messages dropped: {why}")
