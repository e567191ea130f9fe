"""The exceptions of wshub.

Every one is a `WSHubError`::

    WSHubError
    ├── InvalidChannelError        a channel name breaks the rules
    ├── InvalidProcessIDError      a process id breaks the rules
    ├── MessageEncodeError         a message cannot be written as JSON
    ├── MessageDecodeError         bytes are not a message
    ├── MessageTooLargeError       an encoded message exceeds the limit
    ├── ReservedTypeError          a message's type is for one client and its hub
    ├── SubscriptionDeniedError    the channel authorizer said no
    ├── SubscriptionLimitError     one connection has too many subscriptions
    ├── PublishDeniedError         the publish authorizer said no
    ├── AuthError                  a client could not be authenticated
    │   ├── MissingUserIDError     an authenticator accepted nobody
    │   ├── InvalidClaimsError     an authenticator's claims cannot be copied
    │   ├── AuthenticatorError     an authenticator raised, hung, or returned nonsense
    │   ├── AuthExpiredError       what was presented is not valid any more
    │   └── TooManyAttemptsError   too many attempts have failed
    ├── HubNotStartedError         the hub has not been entered yet
    ├── HubAlreadyStartedError     the hub was entered a second time
    ├── HubClosedError             the hub has been closed
    ├── ForkedProcessError         a forked child used what belongs to its parent
    ├── BridgeAttachedError        the hub has a bridge already
    ├── BridgeUnavailableError     other hubs cannot be reached
    ├── InvalidCloseError          a close code or reason must not be sent
    ├── InvalidConfigError         a setting has a value that cannot work
    ├── ServeError                 the server cannot listen there
    └── ProcessStartError          a command cannot be started
"""


class WSHubError(Exception):
    """The root of every error that wshub raises on purpose."""


class InvalidChannelError(WSHubError):
    """A channel name breaks the rules.

    Attributes:
        channel: The name as it was given.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        super().__init__(
            f"invalid channel name {channel[:80]!r}: use 1 to 256 characters of A-Z a-z 0-9 _ . : -"
        )


class InvalidProcessIDError(WSHubError):
    """A process id breaks the rules.

    Attributes:
        process_id: The id as it was given.
    """

    def __init__(self, process_id: str) -> None:
        self.process_id = process_id
        super().__init__(
            f"invalid process ID {process_id[:80]!r}: use 1 to 128 characters of A-Z a-z 0-9 _ . -"
        )


class MessageEncodeError(WSHubError):
    """A message cannot be written as JSON, so nothing was sent."""

    def __init__(self, why: str) -> None:
        super().__init__(f"failed to marshal message: {why}")


class MessageDecodeError(WSHubError):
    """Bytes are not a JSON object of the message's shape."""


class MessageTooLargeError(WSHubError):
    """An encoded message exceeds ``max_message_bytes``, so nothing was sent.

    Attributes:
        size: Bytes of the encoded message.
        limit: The most bytes that are allowed.
    """

    def __init__(self, size: int, limit: int, *, reserved: int = 0) -> None:
        self.size = size
        self.limit = limit
        but = f" ({reserved} of max_message_bytes are for the bridge)" if reserved else ""
        super().__init__(
            f"encoded message has {size} bytes, the limit is {limit}{but}: "
            "send less, or raise max_message_bytes"
        )


class ReservedTypeError(WSHubError):
    """Messages of a type are between one client and its hub, so nobody can publish one.

    Clients would take it for an answer to themselves.

    Attributes:
        type: The type.
    """

    def __init__(self, type: str) -> None:  # noqa: A002 - what the field is called
        self.type = type
        super().__init__(
            f"a message of type {type!r} is between one client and its hub: "
            "publish it with a type of your own"
        )


class SubscriptionDeniedError(WSHubError):
    """The channel authorizer did not allow a subscription.

    Attributes:
        channel: The channel that was asked for.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        super().__init__(f"subscription to channel {channel!r} is not authorised")


class SubscriptionLimitError(WSHubError):
    """A connection already has as many subscriptions as it may have.

    Attributes:
        limit: The most subscriptions per connection.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"subscription limit exceeded: {limit} per connection (HubConfig.max_subscriptions)"
        )


class PublishDeniedError(WSHubError):
    """The publish authorizer did not allow a client to publish.

    Attributes:
        channel: The channel that was to be published to.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        super().__init__(f"publishing to channel {channel!r} is not authorised")


class AuthError(WSHubError):
    """A client could not be authenticated. No text of this family holds a secret.

    Attributes:
        retry_after: In how many seconds the same attempt may succeed, which the client reads in
            ``Retry-After``; None if something else has to change.
    """

    retry_after: float | None = None


class MissingUserIDError(AuthError):
    """An authenticator accepted a client, but with a blank user id."""

    def __init__(self) -> None:
        super().__init__("authenticated user ID must not be empty")


class InvalidClaimsError(AuthError):
    """An authenticator's claims are nested too deeply or hold what cannot be copied."""

    def __init__(self) -> None:
        super().__init__("authentication claims are invalid")


class AuthenticatorError(AuthError):
    """An authenticator raised, took longer than ``open_timeout``, or returned no `AuthResult`.

    What it raised is in the log of ``wshub.callbacks``.
    """

    def __init__(self) -> None:
        super().__init__("authenticator panicked")


class AuthExpiredError(AuthError):
    """What was presented was valid once, and is not any more."""

    def __init__(self) -> None:
        super().__init__("authentication has expired")


class TooManyAttemptsError(AuthError):
    """Too many attempts have failed, so this one was not looked at; the client gets 429.

    Attributes:
        retry_after: In how many seconds the next attempt is looked at.
    """

    def __init__(self, retry_after: float) -> None:
        self.retry_after: float = retry_after
        super().__init__(f"too many failed attempts, the next is looked at in {retry_after:.0f} s")


class HubNotStartedError(WSHubError):
    """The hub was used before it was entered."""

    def __init__(self) -> None:
        super().__init__(
            "the hub has not been started: use it inside `async with hub`; "
            "an ASGI application enters it in its lifespan"
        )


class HubAlreadyStartedError(WSHubError):
    """The hub was entered a second time."""

    def __init__(self) -> None:
        super().__init__("the hub has been entered already: one `async with` is enough")


class HubClosedError(WSHubError):
    """The hub was used after it was closed."""

    def __init__(self) -> None:
        super().__init__("the hub has been closed: create a new one")


class ForkedProcessError(WSHubError):
    """A forked child process used an object that belongs to its parent; nothing was done.

    Parent and child share the sockets. The child's bytes would appear in the middle of the
    parent's messages.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"this {name} belongs to the parent process: create a new one in the forked child"
        )


class BridgeAttachedError(WSHubError):
    """A hub was given a second bridge."""

    def __init__(self) -> None:
        super().__init__("the hub has a bridge already: one is enough, or stop it first")


class BridgeUnavailableError(WSHubError):
    """The other hubs cannot be reached, or it is not known whether they were.

    Attributes:
        may_have_arrived: Whether a message may have reached them all the same: it was sent, and
            what became of it is not known.
    """

    def __init__(self, why: str, *, may_have_arrived: bool = False) -> None:
        self.may_have_arrived = may_have_arrived
        super().__init__(why)


class InvalidCloseError(WSHubError):
    """A close code or reason must not be sent."""


class InvalidConfigError(WSHubError):
    """A setting has a value that cannot work."""


class ServeError(WSHubError):
    """The server cannot listen at the address it was given."""


class ProcessStartError(WSHubError):
    """A command cannot be started; nothing was published."""
