"""The exceptions of wshub-redis, besides those of the core."""

from wshub_core import WSHubError


class InvalidPrefixError(WSHubError):
    """A prefix breaks the rules, or overlaps with those of other fleets.

    Attributes:
        prefix: The prefix as it was given.
    """

    def __init__(self, prefix: str, why: str) -> None:
        self.prefix = prefix
        super().__init__(f"invalid redis prefix {prefix[:80]!r}: {why}")


class PublisherOpenError(WSHubError):
    """A publisher was entered a second time."""

    def __init__(self) -> None:
        super().__init__("the publisher is open already: one `async with` is enough")
