"""The exceptions of wshub-redis, in addition to those of wshub-core."""

from wshub_core import BridgeUnavailableError, WSHubError


class InvalidPrefixError(WSHubError):
    """A prefix breaks the naming rules, or overlaps with the channels of other fleets.

    Attributes:
        prefix: The rejected prefix.
    """

    def __init__(self, prefix: str, why: str) -> None:
        self.prefix = prefix
        super().__init__(f"invalid redis prefix {prefix[:80]!r}: {why}")


class PublisherOpenError(WSHubError):
    """A publisher is entered while it is open."""

    def __init__(self) -> None:
        super().__init__("the publisher is open already: one `async with` is enough")


def connect_error(address: str, cause: BaseException) -> BridgeUnavailableError:
    """Return the error for a first connection that failed."""
    why = str(cause) or type(cause).__name__
    return BridgeUnavailableError(f"cannot connect to redis at {address}: {why}")
