"""What clients ask for, and what they are answered (wire protocol, "Client frames")."""

from asyncio import Future
from collections.abc import Awaitable, Coroutine
from inspect import isawaitable
from typing import TYPE_CHECKING

from wshub_core.logs import get_logger
from wshub_core.runtime.session import Session, Work
from wshub_core.state.client_frames import (
    Malformed,
    Other,
    Ping,
    RequestID,
    Subscribe,
    Unsubscribe,
    read_client_frame,
)
from wshub_core.values.channels import is_for_hubs, validate_channel
from wshub_core.values.config import PublishAuthorizer
from wshub_core.values.errors import (
    InvalidChannelError,
    InvalidProcessIDError,
    MessageEncodeError,
    MessageTooLargeError,
    PublishDeniedError,
    SubscriptionDeniedError,
    SubscriptionLimitError,
    WSHubError,
)
from wshub_core.values.messages import Message, MessageType, Reply

if TYPE_CHECKING:
    from wshub_core.runtime.manager import ConnectionManager

logger = get_logger("wshub.connections")

REFUSAL_TEXTS: dict[type[WSHubError], str] = {
    InvalidChannelError: "Subscribe: invalid channel name",
    InvalidProcessIDError: "Subscribe: invalid process ID",
    SubscriptionDeniedError: "Subscribe: subscription unauthorised",
    SubscriptionLimitError: "subscription limit exceeded",
}
"""What a client reads when a subscription is refused. Clients compare these texts."""

REFUSAL_CODES: dict[type[WSHubError], str] = {
    InvalidChannelError: "invalid_channel",
    InvalidProcessIDError: "invalid_process_id",
    MessageEncodeError: "invalid_message",
    MessageTooLargeError: "message_too_large",
    PublishDeniedError: "publish_denied",
    SubscriptionDeniedError: "subscription_denied",
    SubscriptionLimitError: "subscription_limit",
}
"""The same for programs, in answers to frames that carry an ``id``."""

_PUBLISHABLE = {MessageType.EVENT, MessageType.PROCESS_OUTPUT, MessageType.PROCESS_STATUS}
"""What clients publish, if they may."""


_LONGEST_NAME = 256


class Requests:
    """Serves the frames of clients.

    Args:
        manager: Does what they ask for.
    """

    def __init__(self, manager: "ConnectionManager") -> None:
        self._manager = manager
        self._config = manager.config
        self._unconfirmed: dict[str, dict[Session, RequestID]] = {}

    def serve(self, session: Session, payload: bytes | bytearray) -> Work:
        """Do what a frame asks for; one that the hub is closing has nothing more to ask."""
        if session.ending is not None:
            return None
        match read_client_frame(payload):
            case Ping(frame_id):
                self._reply(session, frame_id, Message(type=MessageType.PONG), always=True)
            case Unsubscribe(channel, frame_id):
                self._manager.registry.unsubscribe(session, channel)
                # A name that cannot be one may be as long as a message.
                message = Message(type=MessageType.UNSUBSCRIBED, channel=channel[:_LONGEST_NAME])
                self._reply(session, frame_id, message)
            case Subscribe(channel, frame_id):
                return self._serve_subscribe(session, channel, frame_id)
            case Other(message, frame_id):
                return self._serve_message(session, message, frame_id)
            case Malformed(why, frame_id):
                self._manager.counters.ignored_frames += 1
                message = Message(type=MessageType.ERROR, data=f"malformed frame: {why}")
                self._reply(session, frame_id, message, "malformed_frame")
            case None:
                self._manager.counters.ignored_frames += 1
        return None

    def _serve_message(self, session: Session, message: Message, frame_id: RequestID) -> Work:
        match message:
            case Message(type=MessageType.AUTHENTICATE, data=str(token)) if (
                self._manager.door.takes_tokens
            ):
                return self._serve_authenticate(session, token, frame_id)
            case Message(type=type, channel=channel) if (
                type in _PUBLISHABLE and channel and self._config.publish_authorizer is not None
            ):
                authorizer = self._config.publish_authorizer
                return self._serve_publish(session, message, frame_id, authorizer)
        if self._config.on_message is not None:
            return self._manager.tell("on_message", self._config.on_message, session, message)
        text = f"{message.type[:80]}: not served here"
        self._reply(session, frame_id, Message(type=MessageType.ERROR, data=text), "not_served")
        return None

    def _reply(
        self,
        session: Session,
        frame_id: RequestID,
        message: Message,
        code: str = "",
        *,
        always: bool = False,
    ) -> None:
        """Answer a frame that carries an ``id``; one without gets what go-ws sends, if ``always``.

        Newer answers reach only clients that ask for them.
        """
        if frame_id is not None:
            fields = {field: getattr(message, field) for field in message.__struct_fields__}
            message = Reply(id=frame_id, code=code, **fields)
        elif not always:
            return
        try:
            self._manager.send(session, message)
        except MessageTooLargeError:
            logger.warning("an answer to %r exceeds max_message_bytes and is not sent", session)

    def _serve_subscribe(self, session: Session, channel: str, frame_id: RequestID) -> Work:
        # One that has ended may still have frames that wait; they must not take root.
        if session not in self._manager.registry:
            return None
        try:
            validate_channel(channel)
            is_allowed = self._manager.authorize(session, channel)
            if isinstance(is_allowed, Coroutine):
                return self._finish_subscribe(session, channel, frame_id, is_allowed)
            carried = self._manager.add_subscription(session, channel, is_allowed)
        except WSHubError as exc:
            self._refuse_subscription(session, channel, frame_id, exc)
            return None
        if carried is not None:
            return self._confirm_carried(session, channel, frame_id, carried)
        self._confirm_subscription(session, channel, frame_id)
        return None

    async def _finish_subscribe(
        self,
        session: Session,
        channel: str,
        frame_id: RequestID,
        is_allowed: Awaitable[bool],
    ) -> None:
        try:
            carried = self._manager.add_subscription(session, channel, await is_allowed)
        except WSHubError as exc:
            self._refuse_subscription(session, channel, frame_id, exc)
        else:
            await self._confirm_carried(session, channel, frame_id, carried)

    async def _confirm_carried(
        self, session: Session, channel: str, frame_id: RequestID, carried: Future[None] | None
    ) -> None:
        """Confirm a subscription when messages of other hubs arrive too, however late that is."""
        if await self._manager.bridging.confirm(carried):
            self._confirm_subscription(session, channel, frame_id)
        elif frame_id is not None and carried is not None:
            # The last one counts for all, so that a client cannot pile them up.
            self._confirm_when(carried, channel, {session: frame_id})

    def _confirm_when(
        self, carried: Future[None], channel: str, waiting: dict[Session, RequestID]
    ) -> None:
        if channel not in self._unconfirmed:
            self._unconfirmed[channel] = {}
            carried.add_done_callback(lambda _: self._confirm_late(channel))
        self._unconfirmed[channel] |= waiting

    def _confirm_late(self, channel: str) -> None:
        waiting = {
            session: frame_id
            for session, frame_id in self._unconfirmed.pop(channel).items()
            # It may have changed its mind.
            if channel in session.subscriptions
        }
        # The connection may have been lost again.
        carried = self._manager.bridging.carry(channel) if waiting else None
        if carried is not None:
            self._confirm_when(carried, channel, waiting)
            return
        for session, frame_id in waiting.items():
            self._confirm_subscription(session, channel, frame_id)

    def forget(self, session: Session) -> None:
        """Owe no answer to a session that is about to leave."""
        if self._unconfirmed:
            for channel in session.subscriptions:
                self._unconfirmed.get(channel, {}).pop(session, None)

    def _confirm_subscription(self, session: Session, channel: str, frame_id: RequestID) -> None:
        self._reply(session, frame_id, Message(type=MessageType.SUBSCRIBED, channel=channel))

    def _refuse_subscription(
        self, session: Session, channel: str, frame_id: RequestID, error: WSHubError
    ) -> None:
        text, code = REFUSAL_TEXTS[type(error)], REFUSAL_CODES[type(error)]
        # go-ws does not name the channel; who sends an id gets it back with all that is known.
        named = "" if frame_id is None else channel[:_LONGEST_NAME]
        message = Message(type=MessageType.ERROR, channel=named, data=text)
        self._reply(session, frame_id, message, code, always=True)

    # Messages that clients publish.

    def _serve_publish(
        self,
        session: Session,
        message: Message,
        frame_id: RequestID,
        authorizer: PublishAuthorizer,
    ) -> Work:
        # Also of one that has left since: what it sent before was sent.
        try:
            validate_channel(message.channel)
            if is_for_hubs(message.channel):
                raise PublishDeniedError(message.channel)
        except WSHubError as exc:
            self._refuse_publish(session, message, frame_id, exc)
            return None
        is_allowed = self._manager.callbacks.call(
            "publish_authorizer", False, authorizer, session, message.channel
        )
        if isinstance(is_allowed, Coroutine):
            return self._finish_publish(session, message, frame_id, is_allowed)
        self._publish_for(session, message, frame_id, is_allowed)
        return None

    async def _finish_publish(
        self, session: Session, message: Message, frame_id: RequestID, is_allowed: Awaitable[bool]
    ) -> None:
        self._publish_for(session, message, frame_id, await is_allowed)

    def _publish_for(
        self, session: Session, message: Message, frame_id: RequestID, is_allowed: bool
    ) -> None:
        channel = message.channel
        try:
            if is_allowed is not True:
                raise PublishDeniedError(channel)
            stamped, prepared = self._manager.prepare(message, channel, local_only=False)
        except WSHubError as exc:
            self._refuse_publish(session, message, frame_id, exc)
            return
        self._manager.publish(channel, stamped, prepared, local_only=False)
        self._reply(session, frame_id, Message(type=MessageType.PUBLISHED, channel=channel))

    def _refuse_publish(
        self, session: Session, message: Message, frame_id: RequestID, error: WSHubError
    ) -> None:
        code = REFUSAL_CODES[type(error)]
        text = f"Publish: {code.replace('_', ' ')}"
        refusal = Message(
            type=MessageType.ERROR, channel=message.channel[:_LONGEST_NAME], data=text
        )
        self._reply(session, frame_id, refusal, code)

    # Tokens that come later.

    async def _serve_authenticate(self, session: Session, token: str, frame_id: RequestID) -> None:
        result = await self._manager.door.authenticate_token(token, session.context)
        # A connection stays whose it was: its subscriptions and its past are that user's.
        if not result.valid or result.user_id != session.user_id:
            logger.info("refused a new token of %r", session)
            refusal = Message(type=MessageType.ERROR, data="Authenticate: token refused")
            self._reply(session, frame_id, refusal, "token_refused", always=True)
            return
        if session not in self._manager.registry:
            return
        session.claims = result.claims
        self._manager.expiry.set(session, result.expires_at)
        for channel in session.subscriptions:
            is_allowed = self._manager.authorize(session, channel)
            if isawaitable(is_allowed):
                is_allowed = await is_allowed
            if is_allowed is not True:
                self._manager.registry.unsubscribe(session, channel)
                text = REFUSAL_TEXTS[SubscriptionDeniedError]
                self._manager.send(
                    session, Message(type=MessageType.ERROR, channel=channel, data=text)
                )
        data = {"expiresAt": result.expires_at}
        message = Message(type=MessageType.AUTHENTICATED, data=data)
        self._reply(session, frame_id, message, always=True)
