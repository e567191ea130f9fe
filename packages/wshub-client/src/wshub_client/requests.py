"""The requests of a client on one connection, and the meaning of the answers."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TypeAlias

import msgspec

from wshub_client.errors import (
    ClientError,
    PresenceRefusedError,
    PublishRefusedError,
    SubscriptionRefusedError,
)
from wshub_core import JSON, Message, MessageType


class UnclearRefusalError(ClientError):
    """Some of several subscriptions were refused, and the hub does not say which.

    The application never gets this error: the client requests each subscription again, each with a
    ping of its own.
    """


OnOutcome: TypeAlias = Callable[[ClientError | None, JSON], None]
"""A callback for the outcome of a request, called once: with an error, or with None for success and
the data of the answer."""

Refusal: TypeAlias = (
    type[SubscriptionRefusedError] | type[PublishRefusedError] | type[PresenceRefusedError]
)
"""The class of the error for a refused request, which also tells the kind of the request."""

_NOT_SERVED: dict[Refusal, str] = {
    PublishRefusedError: "this hub takes no messages of clients",
    PresenceRefusedError: "this hub does not tell who is present",
}

_ANSWERS = {
    MessageType.SUBSCRIBED,
    MessageType.UNSUBSCRIBED,
    MessageType.PUBLISHED,
    MessageType.PRESENCE,
    MessageType.PONG,
    MessageType.ERROR,
}

_REFUSALS_WITHOUT_ID = ("Subscribe: ", "subscription limit exceeded")
"""The beginnings of the refusals of subscriptions, from hubs that answer no ids."""


@dataclass(eq=False, slots=True)
class _Request:
    channel: str
    refusal: Refusal
    on_outcome: OnOutcome

    @property
    def is_subscription(self) -> bool:
        return self.refusal is SubscriptionRefusedError

    def is_for(self, channel: str) -> bool:
        """Tell whether this is the request for a subscription to a channel."""
        return self.is_subscription and self.channel == channel


@dataclass(eq=False, slots=True)
class _Probe:
    """A frame whose only purpose is its answer, which shows that the hub answers ids."""


@dataclass(eq=False, slots=True)
class _Ping:
    """A ping, and the facts about the frames between it and the ping before it.

    Attributes:
        is_own: Whether the client sent the ping for itself; False for a ping of the application.
        on_pong: Called once, when the hub has served all requests before the ping.
        has_pong: Whether a pong without an id has come for this ping.
        refusals: The messages without an id that may refuse the subscriptions before the ping.
    """

    is_own: bool
    on_pong: Callable[[], None] | None = None
    has_pong: bool = False
    refusals: list[Message] = field(default_factory=list)

    def note_served(self) -> None:
        if self.on_pong is not None:
            self.on_pong()
            self.on_pong = None


class _Answer(msgspec.Struct):
    """The fields of an answer beside those of a message; other messages may use them freely."""

    id: object = None
    code: object = ""


_answer_decoder = msgspec.json.Decoder(_Answer)


class Requests:
    """The requests of one connection, in the order in which they were sent.

    There are two kinds of hubs.

    Hubs of wshub answer each frame that carries an id with the same id. The ids are random, so
    nobody else can send such an answer. Every message without one is for the application.

    Hubs of go-ws ignore ids. They serve frames in order and answer pings, so a pong shows that the
    hub has served every request before the ping. A subscription that was not refused by then is
    confirmed; every other request was not served.

    The first answer with an id shows that the hub is of the first kind. A pong without an id shows
    nothing by itself: anybody who may broadcast can send one. The hub counts as one of the second
    kind only after a time in which no answer with an id has come (`trust_pongs`).

    Attributes:
        is_unclear: Whether requests wait until the kind of the hub is known.
    """

    __slots__ = (
        "_answers_ids",
        "_asked",
        "_numbers",
        "_prefix",
        "_trusts_pongs",
        "is_unclear",
    )

    def __init__(self) -> None:
        self.is_unclear = False
        self._prefix = f"{secrets.token_hex(8)}-"
        self._numbers = count(1)
        self._asked: dict[str, _Request | _Ping | _Probe] = {}
        self._answers_ids: bool | None = None  # None until the kind of the hub is known
        self._trusts_pongs = False

    def ask(self, channel: str, refusal: Refusal, on_outcome: OnOutcome) -> str:
        """Note a request that is about to be sent; return its id.

        A ping must follow the request. Several subscriptions may share one ping; every other
        request needs a ping of its own.

        Args:
            channel: The channel of the request.
            refusal: The class of the error for a refusal.
            on_outcome: Called with the outcome.
        """
        return self._add(_Request(channel, refusal, on_outcome))

    def probe(self) -> str:
        """Note a frame that is about to be sent to learn the kind of the hub; return its id."""
        return self._add(_Probe())

    def ping(self, on_pong: Callable[[], None] | None = None, *, is_own: bool = True) -> str:
        """Note a ping that is about to be sent; return its id.

        Args:
            on_pong: Called when the hub has served all requests before the ping.
            is_own: Whether the client pings for itself. A ping of the application carries no id.
        """
        if not is_own and self._answers_ids:
            return ""  # the pong will carry no id, and is recognized by that
        return self._add(_Ping(is_own, on_pong))

    def take(self, message: Message, payload: bytes) -> Iterator[Message]:
        """Process a message that may be an answer, and yield the messages for the application.

        Args:
            message: The message.
            payload: The encoded message.

        Yields:
            The message, unless it answers the client; and earlier messages that were held back as
            possible answers and are none.
        """
        if not may_be_answer(message):
            yield message
            return
        answer = _answer_decoder.decode(payload)
        if isinstance(answer.id, str) and answer.id.startswith(self._prefix):
            if not self._answers_ids:
                yield from self._learn_that_ids_are_answered()
            self._take_answer(answer.id, message, str(answer.code))
        elif self._answers_ids or answer.id is not None:
            yield message
        elif message.type == MessageType.PONG:
            if not self._take_pong():
                yield message
        elif not self._hold_refusal(message):
            yield message

    def trust_pongs(self) -> None:
        """Take the next pong without an id as proof that the hub answers no ids."""
        self._trusts_pongs = True

    def forget(self, channel: str) -> None:
        """Ignore the answer to a subscription that the application has ended."""
        # A hub without ids may still refuse this subscription. The request stays in the list then,
        # so that the refusal is not counted for another subscription.
        if self._answers_ids:
            self._asked = {
                asked_id: asked
                for asked_id, asked in self._asked.items()
                if not (isinstance(asked, _Request) and asked.is_for(channel))
            }

    def abandon(self, error: ClientError) -> None:
        """End all requests with an error, because the connection has ended."""
        asked, self._asked = self._asked, {}
        for each in asked.values():
            if isinstance(each, _Request):
                each.on_outcome(error, None)

    def _add(self, asked: _Request | _Ping | _Probe) -> str:
        asked_id = f"{self._prefix}{next(self._numbers)}"
        self._asked[asked_id] = asked
        return asked_id

    # Hubs that answer ids.

    def _learn_that_ids_are_answered(self) -> Iterator[Message]:
        """Note the kind of the hub; yield the messages that were held back as possible refusals."""
        self._answers_ids = True
        self.is_unclear = False
        for asked_id, asked in tuple(self._asked.items()):
            if isinstance(asked, _Ping):
                yield from asked.refusals
                if not asked.is_own:
                    del self._asked[asked_id]

    def _take_answer(self, asked_id: str, message: Message, code: str) -> None:
        match self._asked.get(asked_id):
            case _Ping():
                self._note_served(asked_id)
            case _Request() as request:
                del self._asked[asked_id]
                is_refused = message.type == MessageType.ERROR
                refusal = _make_refusal(request, message, code) if is_refused else None
                request.on_outcome(refusal, message.data)
            case _Probe():
                del self._asked[asked_id]

    def _note_served(self, ping_id: str) -> None:
        """Note that the hub has served a ping and all requests before it."""
        for asked_id, asked in tuple(self._asked.items()):
            match asked:
                case _Ping():
                    del self._asked[asked_id]
                    asked.note_served()
                case _Request(is_subscription=False):
                    del self._asked[asked_id]
                    _note_not_served(asked)
                # A subscription without an answer stays: the hub answers when its bridge is up.
            if asked_id == ping_id:
                return

    # Hubs that answer no ids.

    def _take_pong(self) -> bool:
        """Process a pong without an id; tell whether it answers a ping of the client itself."""
        open_pings = (
            (asked_id, each)
            for asked_id, each in self._asked.items()
            if isinstance(each, _Ping) and not each.has_pong
        )
        ping_id, ping = next(open_pings, ("", None))
        if ping is None:
            return False
        ping.has_pong = True
        if self._trusts_pongs:
            self._answers_ids = False
            self.is_unclear = False
        if self._answers_ids is False:
            self._resolve_served()
        elif next(iter(self._asked)) == ping_id:
            # There is no request before the ping, so even a forged pong would confirm nothing.
            del self._asked[ping_id]
            ping.note_served()
        else:
            self.is_unclear = True
        return ping.is_own

    def _hold_refusal(self, message: Message) -> bool:
        """Keep a message until the next pong if it may be a refusal; tell whether it may."""
        if (
            message.type != MessageType.ERROR
            or message.channel
            or not str(message.data).startswith(_REFUSALS_WITHOUT_ID)
        ):
            return False
        # A refusal counts for the first ping without a pong. A ping has at most as many refusals as
        # there are subscriptions between it and the ping before it.
        candidates = 0
        for asked in self._asked.values():
            match asked:
                case _Request(is_subscription=True):
                    candidates += 1
                case _Ping(has_pong=True):
                    candidates = 0
                case _Ping():
                    if len(asked.refusals) < candidates:
                        asked.refusals.append(message)
                        return True
                    return False
        return False

    def _resolve_served(self) -> None:
        """Determine the outcomes of all requests before pings that were answered."""
        while (served := self._pop_served()) is not None:
            requests, ping = served
            subscriptions = [each for each in requests if each.is_subscription]
            for request in requests:
                if not request.is_subscription:
                    _note_not_served(request)
            if len(subscriptions) > len(ping.refusals) > 0:
                # The refusals name no channel, so they could mean any of the subscriptions.
                for request in subscriptions:
                    request.on_outcome(UnclearRefusalError(), None)
            else:
                for number, request in enumerate(subscriptions):
                    answer = ping.refusals[number] if ping.refusals else None
                    refusal = None if answer is None else _make_refusal(request, answer, "")
                    request.on_outcome(refusal, None)
            ping.note_served()

    def _pop_served(self) -> tuple[list[_Request], _Ping] | None:
        """Remove and return the first ping, if it was answered, and the requests before it."""
        requests = []
        for number, asked in enumerate(self._asked.values(), 1):
            if isinstance(asked, _Request):
                requests.append(asked)
            elif isinstance(asked, _Ping):
                if not asked.has_pong:
                    return None
                for asked_id in tuple(self._asked)[:number]:
                    del self._asked[asked_id]
                return requests, asked
        return None


def may_be_answer(message: Message) -> bool:
    """Tell whether a message may answer a request; every other one is for the application."""
    return message.type in _ANSWERS


def _make_refusal(request: _Request, message: Message, code: str) -> ClientError:
    """Return the error for a request that a message of the hub refuses."""
    return request.refusal(request.channel, code, str(message.data))


def _note_not_served(request: _Request) -> None:
    text = _NOT_SERVED[request.refusal]
    request.on_outcome(request.refusal(request.channel, "not_served", text), None)
