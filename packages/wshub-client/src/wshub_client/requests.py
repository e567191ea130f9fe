"""What a client has asked on one connection, and what the answers mean."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import msgspec

from wshub_client.errors import ClientError, PublishRefusedError, SubscriptionRefusedError
from wshub_core import Message, MessageType


class UnclearRefusalError(ClientError):
    """One of several subscriptions was refused, and the hub does not say which.

    It never reaches the application: the client asks for each of them again, one by one.
    """


Settle = Callable[[ClientError | None], None]
"""Called once with how a request has ended: an error, or None."""

_ANSWERS = {
    MessageType.SUBSCRIBED,
    MessageType.UNSUBSCRIBED,
    MessageType.PUBLISHED,
    MessageType.PONG,
    MessageType.ERROR,
}

_REFUSALS_WITHOUT_ID = ("Subscribe: ", "subscription limit exceeded")
"""How the texts begin with which hubs that answer no ids refuse subscriptions."""


@dataclass(eq=False, slots=True)
class _Request:
    channel: str
    is_subscription: bool
    settle: Settle

    def is_for(self, channel: str) -> bool:
        """Tell whether it asks for a subscription to a channel."""
        return self.is_subscription and self.channel == channel


@dataclass(eq=False, slots=True)
class _Probe:
    """A frame that asks for nothing; its answer shows that the hub answers ids."""


@dataclass(eq=False, slots=True)
class _Ping:
    """A ping, and what is known of the frames between it and the ping before it.

    Attributes:
        is_own: Whether the client sent it, not the application.
        on_pong: Called once, when all that was asked before it has been served.
        is_answered: Whether a pong without an id has come for it.
        refusals: Messages without an id that refuse subscriptions.
    """

    is_own: bool
    on_pong: Callable[[], None] | None = None
    is_answered: bool = False
    refusals: list[Message] = field(default_factory=list)

    def note_served(self) -> None:
        if self.on_pong is not None:
            self.on_pong()
            self.on_pong = None


class _Answer(msgspec.Struct):
    """What an answer has beside the message; other messages may use the names for anything."""

    id: object = None
    code: object = ""


_answer_decoder = msgspec.json.Decoder(_Answer)


class Requests:
    """The requests of one connection, in the order in which they were sent.

    There are two kinds of hubs. One answers each frame that carries an id with the same id. The ids
    cannot be guessed, so nobody else can write such an answer; whatever has none is a message for
    the application. The other kind, go-ws, ignores ids. It serves frames in order and answers
    pings, so whatever was asked before a ping has been served when the pong comes: a subscription
    that was not refused by then has been taken, a message to publish has not.

    The first answer with an id shows that the hub is of the first kind. A pong without one could be
    a broadcast that somebody has made up, so it proves nothing by itself. Only when no answer
    with an id comes for a while (`trust_pongs`), the hub counts as one of the second kind.
    """

    def __init__(self) -> None:
        self._prefix = f"{secrets.token_hex(8)}-"
        self._numbers = count(1)
        self._asked: dict[str, _Request | _Ping | _Probe] = {}
        self._answers_ids: bool | None = None
        self._trusts_pongs = False
        self.is_unclear = False
        """Whether requests wait until it is clear whether a pong without an id is the hub's."""

    def ask(self, channel: str, settle: Settle, *, is_subscription: bool) -> str:
        """Note a request that is about to be sent; return its id.

        A ping has to follow it, and no other request before the ping, unless all are subscriptions.
        """
        return self._add(_Request(channel, is_subscription, settle))

    def probe(self) -> str:
        """Note a frame that is about to be sent to learn the hub's kind; return its id."""
        return self._add(_Probe())

    def ping(self, on_pong: Callable[[], None] | None = None, *, is_own: bool = True) -> str:
        """Note a ping that is about to be sent; return its id.

        Args:
            on_pong: Called when all that was asked before has been served.
            is_own: Whether it is the client's; the application's carries no id.
        """
        if not is_own and self._answers_ids:
            return ""  # the pong has no id, so it is the application's
        return self._add(_Ping(is_own, on_pong))

    def take(self, message: Message, payload: bytes) -> Iterator[Message]:
        """Take a message that may be an answer.

        Args:
            message: The message.
            payload: Its bytes.

        Yields:
            What is for the application: the message itself, unless it answers the client; and
            messages that were held back as possible answers and have turned out to be none.
        """
        if message.type not in _ANSWERS:
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
        """Have the next pong without an id show that the hub answers none."""
        self._trusts_pongs = True

    def forget(self, channel: str) -> None:
        """Expect no answer to a subscription that is not wanted any more."""
        # A hub without ids may still refuse it, and the refusal must not be taken for another's.
        if self._answers_ids:
            self._asked = {
                asked_id: asked
                for asked_id, asked in self._asked.items()
                if not (isinstance(asked, _Request) and asked.is_for(channel))
            }

    def abandon(self, error: ClientError) -> None:
        """End all requests, because the connection has ended."""
        asked, self._asked = self._asked, {}
        for each in asked.values():
            if isinstance(each, _Request):
                each.settle(error)

    def _add(self, asked: _Request | _Ping | _Probe) -> str:
        asked_id = f"{self._prefix}{next(self._numbers)}"
        self._asked[asked_id] = asked
        return asked_id

    # Hubs that answer ids.

    def _learn_that_ids_are_answered(self) -> Iterator[Message]:
        """Note the hub's kind; yield what was taken for answers of the other kind."""
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
                request.settle(_refuse(request, message, code) if is_refused else None)
            case _Probe():
                del self._asked[asked_id]

    def _note_served(self, ping_id: str) -> None:
        """Note that the hub has served a ping, and all that was asked before it."""
        for asked_id, asked in tuple(self._asked.items()):
            match asked:
                case _Ping():
                    del self._asked[asked_id]
                    asked.note_served()
                case _Request(is_subscription=False):
                    del self._asked[asked_id]
                    _refuse_publish(asked)
                # A subscription without an answer gets one later: when the hub's bridge is up.
            if asked_id == ping_id:
                return

    # Hubs that do not.

    def _take_pong(self) -> bool:
        """Take a pong without an id; tell whether it answers the client's own ping."""
        open_pings = (
            (asked_id, each)
            for asked_id, each in self._asked.items()
            if isinstance(each, _Ping) and not each.is_answered
        )
        ping_id, ping = next(open_pings, ("", None))
        if ping is None:
            return False
        ping.is_answered = True
        if self._trusts_pongs:
            self._answers_ids = False
            self.is_unclear = False
        if self._answers_ids is False:
            self._settle_served()
        elif next(iter(self._asked)) == ping_id:
            # Nothing was asked before it, so the pong confirms nothing, whoever has written it.
            del self._asked[ping_id]
            ping.note_served()
        else:
            self.is_unclear = True
        return ping.is_own

    def _hold_refusal(self, message: Message) -> bool:
        """Keep a message that may refuse a subscription for the pong; tell whether it may."""
        if (
            message.type != MessageType.ERROR
            or message.channel
            or not str(message.data).startswith(_REFUSALS_WITHOUT_ID)
        ):
            return False
        candidates = 0
        for asked in self._asked.values():
            match asked:
                case _Request(is_subscription=True):
                    candidates += 1
                case _Ping(is_answered=True):
                    candidates = 0
                case _Ping():
                    if len(asked.refusals) < candidates:
                        asked.refusals.append(message)
                        return True
                    return False
        return False

    def _settle_served(self) -> None:
        """End all requests before pings that were answered."""
        while (served := self._pop_served()) is not None:
            requests, ping = served
            subscriptions = [each for each in requests if each.is_subscription]
            for request in requests:
                if not request.is_subscription:
                    _refuse_publish(request)
            if len(subscriptions) > len(ping.refusals) > 0:
                for request in subscriptions:
                    request.settle(UnclearRefusalError())
            else:
                for number, request in enumerate(subscriptions):
                    refusal = ping.refusals[number] if ping.refusals else None
                    request.settle(None if refusal is None else _refuse(request, refusal, ""))
            ping.note_served()

    def _pop_served(self) -> tuple[list[_Request], _Ping] | None:
        """Remove and return the first answered ping and the requests before it."""
        requests = []
        for number, asked in enumerate(self._asked.values(), 1):
            if isinstance(asked, _Request):
                requests.append(asked)
            elif isinstance(asked, _Ping):
                if not asked.is_answered:
                    return None
                for asked_id in tuple(self._asked)[:number]:
                    del self._asked[asked_id]
                return requests, asked
        return None


def _refuse(request: _Request, message: Message, code: str) -> ClientError:
    """Return the error for a request that a message refuses."""
    error = SubscriptionRefusedError if request.is_subscription else PublishRefusedError
    return error(request.channel, code, str(message.data))


def _refuse_publish(request: _Request) -> None:
    text = "this hub takes no messages of clients"
    request.settle(PublishRefusedError(request.channel, "not_served", text))
