"""The exceptions of wshub.

Every class is a `WSHubError`::

    WSHubError
    ├── InvalidChannelError        a channel name is invalid
    ├── InvalidProcessIDError      a process id is invalid
    ├── MessageEncodeError         a message cannot be encoded as JSON
    ├── MessageDecodeError         bytes are not a valid message
    ├── MessageTooLargeError       an encoded message exceeds the limit
    ├── ReservedTypeError          a message type is reserved for one client and its hub
    ├── SubscriptionDeniedError    the channel authorizer denied a subscription
    ├── SubscriptionLimitError     a connection has the maximum number of subscriptions
    ├── PublishDeniedError         the publish authorizer denied a message
    ├── AuthError                  a client could not be authenticated
    │   ├── MissingUserIDError     an authenticator returned a blank user id
    │   ├── InvalidClaimsError     an authenticator returned claims that cannot be copied
    │   ├── AuthenticatorError     an authenticator raised, timed out, or returned no result
    │   ├── AuthExpiredError       a credential has expired
    │   └── TooManyAttemptsError   too many attempts have failed
    ├── HubNotStartedError         the hub has not been started yet
    ├── HubAlreadyStartedError     the hub was started a second time
    ├── HubClosedError             the hub has been closed
    ├── ForkedProcessError         a forked child used an object of its parent
    ├── BridgeAttachedError        the hub already has a bridge
    ├── BridgeUnavailableError     the other hubs cannot be reached
    ├── HistoryUnavailableError    the history of a channel cannot be read now
    ├── InvalidHistoryRequestError a request for a history has an invalid value
    ├── NoPresenceError            a channel has no presence
    ├── PresenceDeniedError        the presence authorizer denied a request
    ├── PresenceUnavailableError   the presence of a channel cannot be read now
    ├── InvalidCloseError          a close code or reason must not be sent
    ├── InvalidConfigError         a setting has an invalid value
    ├── ServeError                 the server cannot listen at an address
    └── ProcessStartError          a command cannot be started
"""


class WSHubError(Exception):
    """The base class of all errors of wshub."""


class InvalidChannelError(WSHubError):
    """A channel name is invalid.

    Attributes:
        channel: The invalid name.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        # Names can come from clients, so the text, which is often logged, has a bounded length.
        super().__init__(
            f"invalid channel name {channel[:80]!r}: use 1 to 256 characters of A-Z a-z 0-9 _ . : -"
        )


class InvalidProcessIDError(WSHubError):
    """A process id is invalid.

    Attributes:
        process_id: The invalid id.
    """

    def __init__(self, process_id: str) -> None:
        self.process_id = process_id
        super().__init__(
            f"invalid process ID {process_id[:80]!r}: use 1 to 128 characters of A-Z a-z 0-9 _ . -"
        )


class MessageEncodeError(WSHubError):
    """A message cannot be encoded as JSON. Nothing was sent."""

    def __init__(self, why: str) -> None:
        super().__init__(f"failed to marshal message: {why}")


class MessageDecodeError(WSHubError):
    """Bytes are not a JSON object with the fields of a message."""


class MessageTooLargeError(WSHubError):
    """An encoded message exceeds ``max_message_bytes``. Nothing was sent.

    Attributes:
        size: Size of the encoded message, in bytes.
        limit: Maximum size, in bytes.
    """

    def __init__(self, size: int, limit: int, *, reserved: int = 0) -> None:
        self.size = size
        self.limit = limit
        note = f" ({reserved} of max_message_bytes are for the bridge)" if reserved else ""
        super().__init__(
            f"encoded message has {size} bytes, the limit is {limit}{note}: "
            "send less, or raise max_message_bytes"
        )


class ReservedTypeError(WSHubError):
    """The type of a published message is reserved for messages between one client and its hub.

    Other clients would mistake such a message for a reply to their own requests.

    Attributes:
        type: The reserved type.
    """

    def __init__(self, type: str) -> None:  # noqa: A002 - the name of the message's field
        self.type = type
        super().__init__(
            f"a message of type {type!r} is only sent between one client and its hub: "
            "publish it with a type of your own"
        )


class SubscriptionDeniedError(WSHubError):
    """The channel authorizer denied a subscription.

    Attributes:
        channel: The channel of the subscription.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        super().__init__(f"subscription to channel {channel!r} is not authorized")


class SubscriptionLimitError(WSHubError):
    """A connection already has the maximum number of subscriptions.

    Attributes:
        limit: Maximum number of subscriptions per connection.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"subscription limit exceeded: {limit} per connection (HubConfig.max_subscriptions)"
        )


class PublishDeniedError(WSHubError):
    """The publish authorizer denied a client's message, or only hubs may publish to the channel.

    Attributes:
        channel: The channel of the message.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        super().__init__(f"publishing to channel {channel!r} is not authorized")


class AuthError(WSHubError):
    """A client could not be authenticated.

    No error text of this class and its subclasses in wshub contains a secret.

    Attributes:
        retry_after: Seconds after which the same attempt may succeed. The hub sends the number to
            the client in ``Retry-After``. None if the same attempt cannot succeed.
    """

    retry_after: float | None = None


class MissingUserIDError(AuthError):
    """An authenticator accepted a client with a blank user id."""

    def __init__(self) -> None:
        super().__init__("authenticated user ID must not be empty")


class InvalidClaimsError(AuthError):
    """The claims of an authenticator are nested too deeply or have values that cannot be copied."""

    def __init__(self) -> None:
        super().__init__("authentication claims are invalid")


class AuthenticatorError(AuthError):
    """An authenticator raised, took longer than ``open_timeout``, or returned no `AuthResult`.

    The logger ``wshub.callbacks`` has the traceback of an exception. Exceptions in functions that
    ``wshub_auth`` calls are logged by ``wshub.auth``.
    """

    def __init__(self) -> None:
        super().__init__("authenticator panicked")


class AuthExpiredError(AuthError):
    """The credential was valid and has expired."""

    def __init__(self) -> None:
        super().__init__("authentication has expired")


class TooManyAttemptsError(AuthError):
    """Too many attempts have failed, so this attempt was not checked. The client gets 429.

    Attributes:
        retry_after: Seconds until the next attempt is allowed.
    """

    def __init__(self, retry_after: float) -> None:
        self.retry_after: float = retry_after
        super().__init__(f"too many failed attempts, the next is allowed in {retry_after:.0f} s")


class HubNotStartedError(WSHubError):
    """The hub was used before it was started with ``async with``."""

    def __init__(self) -> None:
        super().__init__(
            "the hub has not been started: use it inside `async with hub`; "
            "an ASGI application enters it in its lifespan"
        )


class HubAlreadyStartedError(WSHubError):
    """The hub was started a second time."""

    def __init__(self) -> None:
        super().__init__("the hub has been entered already: use `async with` only once")


class HubClosedError(WSHubError):
    """The hub was used after it was closed."""

    def __init__(self) -> None:
        super().__init__("the hub has been closed: create a new one")


class ForkedProcessError(WSHubError):
    """A forked child process used an object that belongs to its parent. Nothing was done.

    Parent and child share the sockets, so bytes from the child would appear in the middle of the
    parent's messages.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"this {name} belongs to the parent process: create a new one in the forked child"
        )


class BridgeAttachedError(WSHubError):
    """A hub was given a second bridge."""

    def __init__(self) -> None:
        super().__init__("the hub already has a bridge: stop that bridge first")


class BridgeUnavailableError(WSHubError):
    """The other hubs cannot be reached, or the result of an attempt is unknown.

    Attributes:
        may_have_arrived: True if a message may have reached the other hubs: it was sent, but the
            confirmation is missing.
    """

    def __init__(self, why: str, *, may_have_arrived: bool = False) -> None:
        self.may_have_arrived = may_have_arrived
        super().__init__(why)


class HistoryUnavailableError(WSHubError):
    """The history of a channel cannot be read or changed now, such as in an outage of Redis."""


class InvalidHistoryRequestError(WSHubError):
    """A request for the history of a channel has an invalid value."""


class NoPresenceError(WSHubError):
    """A channel has no presence: no pattern of ``HubConfig.presence`` fits it.

    Attributes:
        channel: The channel.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        super().__init__(f"channel {channel!r} has no presence: add it to HubConfig.presence")


class PresenceDeniedError(WSHubError):
    """A client may not read the presence of a channel.

    Attributes:
        channel: The channel.
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        super().__init__(f"reading the presence of channel {channel!r} is not authorized")


class PresenceUnavailableError(WSHubError):
    """The presence of a channel cannot be read now, such as in an outage of Redis."""


class InvalidCloseError(WSHubError):
    """A close code or reason must not be sent."""


class InvalidConfigError(WSHubError):
    """A setting has an invalid value."""


class ServeError(WSHubError):
    """The server cannot listen at the given address."""


class ProcessStartError(WSHubError):
    """A command cannot be started. Nothing was published."""
