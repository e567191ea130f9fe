"""What a client has asked on one connection, and what the answers mean."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import msgspec

from wshub_client.errors import ClientError, PublishRefusedError, SubscriptionRefusedError
from wshub_core import Message, MessageType

Settle = Callable[[ClientError | None], None]
"""Called once with how a request has ended: an error, or None."""

_ANSWERS = {
    MessageType.SUBSCRIBED,
    MessageType.UNSUBSCRIBED,
    MessageType.PUBLISHED,
    MessageType.ERROR,
}

_REFUSALS_WITHOUT_ID = ("Subscribe: ", "subscription limit exceeded")
"""How the texts begin with which hubs that answer no ids refuse subscriptions."""


@dataclass(frozen=True, slots=True)
class _Request:
    id: str
    channel: str
    is_subscription: bool
    settle: Settle


@dataclass(frozen=True, slots=True)
class _Ping:
    is_own: bool
    on_pong: Callable[[], None] | None = None


class _Answer(msgspec.Struct):
    """What an answer has beside the message; other messages may use the names for anything."""

    id: object = None
    code: object = ""


_answer_decoder = msgspec.json.Decoder(_Answer)


class Requests:
    """The requests of one connection, in the order in which they were sent.

    A hub serves frames in order, so a pong says more than that it is there: whatever was asked
    before the ping has been served by then. A request without an answer at that time gets none,
    because the hub answers no ids (go-ws does not): a subscription has then been taken, a message
    to publish has not.
    """

    def __init__(self) -> None:
        self._ids = count(1)
        self._asked: deque[_Request | _Ping] = deque()

    def ask(self, channel: str, settle: Settle, *, is_subscription: bool) -> str:
        """Note a request that is about to be sent; return its id.

        A ping has to follow it at some time.
        """
        request_id = f"wshub-{next(self._ids)}"
        self._asked.append(_Request(request_id, channel, is_subscription, settle))
        return request_id

    def ping(self, on_pong: Callable[[], None] | None = None, *, is_own: bool = True) -> None:
        """Note a ping that is about to be sent; one of the application's is not its own."""
        self._asked.append(_Ping(is_own, on_pong))

    def take(self, message: Message, payload: bytes) -> bool:
        """Take a message that may be an answer.

        Args:
            message: The message.
            payload: Its bytes.

        Returns:
            Whether it was an answer to the client itself, and nothing for the application.
        """
        if message.type == MessageType.PONG:
            return self._take_pong()
        if message.type not in _ANSWERS:
            return False
        answer = _answer_decoder.decode(payload)
        request = self._find(answer.id)
        if request is None and answer.id is None and not message.channel:
            request = self._find_refused(message)
        if request is None:
            return False
        self._asked.remove(request)
        if message.type != MessageType.ERROR:
            request.settle(None)
        else:
            error = SubscriptionRefusedError if request.is_subscription else PublishRefusedError
            request.settle(error(request.channel, str(answer.code), str(message.data)))
        return True

    def abandon(self, error: ClientError) -> None:
        """End all requests, because the connection has ended."""
        while self._asked:
            asked = self._asked.popleft()
            if isinstance(asked, _Request):
                asked.settle(error)

    def _take_pong(self) -> bool:
        if not any(isinstance(each, _Ping) for each in self._asked):
            return False
        while True:
            asked = self._asked.popleft()
            if isinstance(asked, _Ping):
                if asked.on_pong is not None:
                    asked.on_pong()
                return asked.is_own
            if asked.is_subscription:
                asked.settle(None)
            else:
                text = "this hub takes no messages of clients"
                asked.settle(PublishRefusedError(asked.channel, "not_served", text))

    def _find(self, request_id: object) -> _Request | None:
        for asked in self._asked:
            if isinstance(asked, _Request) and asked.id == request_id:
                return asked
        return None

    def _find_refused(self, message: Message) -> _Request | None:
        """Return whose refusal it is, if the hub does not say so and only one can be meant."""
        text = str(message.data)
        if message.type != MessageType.ERROR or not text.startswith(_REFUSALS_WITHOUT_ID):
            return None
        waiting = []
        for asked in self._asked:
            if isinstance(asked, _Ping):
                break
            if asked.is_subscription:
                waiting.append(asked)
        return waiting[0] if len(waiting) == 1 else None
