"""The requests of clients to subscribe, also with a history (wire protocol, "History")."""

from collections.abc import Coroutine
from functools import partial
from typing import Any

from wshub_core.connections.answers import (
    MAX_NAME_LENGTH,
    REFUSAL_CODES,
    REFUSAL_TEXTS,
    Answers,
)
from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.inbound import Work
from wshub_core.connections.recovery import Recovery
from wshub_core.connections.subscriptions import Bridged, Subscriptions
from wshub_core.history.histories import Histories
from wshub_core.protocol.client_frames import RequestID, Subscribe
from wshub_core.protocol.recovery import HistoryRequest, decode_history_request
from wshub_core.values.errors import WSHubError
from wshub_core.values.messages import Message, MessageType


class SubscribeCommands:
    """Serves subscribe frames.

    Args:
        subscriptions: Subscribes connections to channels.
        histories: The histories of the hub.
        recovery: Sends histories to subscribers.
        answers: Sends the answers.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        histories: Histories,
        recovery: Recovery,
        answers: Answers,
    ) -> None:
        self._subscriptions = subscriptions
        self._histories = histories
        self._recovery = recovery
        self._answers = answers

    def serve(self, connection: ServerConnection, frame: Subscribe) -> Work:
        """Serve one frame; see `Commands.serve`."""
        request = None
        try:
            if frame.id is not None:
                request = decode_history_request(frame.history)
            bridged = self._subscriptions.subscribe(connection, frame.channel)
        except WSHubError as exc:
            self._refuse(connection, frame, exc)
            return None
        if isinstance(bridged, Coroutine):
            return self._finish(connection, frame, request, bridged)
        return self._confirm(connection, frame, request, bridged)

    async def _finish(
        self,
        connection: ServerConnection,
        frame: Subscribe,
        request: HistoryRequest | None,
        adding: Coroutine[Any, Any, Bridged],
    ) -> None:
        try:
            bridged = await adding
        except WSHubError as exc:
            self._refuse(connection, frame, exc)
            return
        work = self._confirm(connection, frame, request, bridged)
        if work is not None:
            await work

    def _confirm(
        self,
        connection: ServerConnection,
        frame: Subscribe,
        request: HistoryRequest | None,
        bridged: Bridged,
    ) -> Work:
        channel, frame_id = frame.channel, frame.id
        if frame_id is None:
            # A frame without an ``id`` gets no confirmation. The following frames still wait until
            # the channel is bridged, as they do behind a frame with an ``id``.
            if bridged is None:
                return None
            return self._subscriptions.confirm(connection, channel, bridged, None)
        answer = partial(self._answer, connection, channel, frame_id)
        limits = self._histories.limits_of(channel)
        if limits is not None:
            # At once, so that no live message comes before the history.
            self._recovery.pause(connection, channel)
            start = partial(self._recovery.start, connection, channel, limits, request, answer)
            return self._subscriptions.confirm(connection, channel, bridged, start)
        data = None if request is None else {"recovered": False, "reason": "no_history"}
        if bridged is not None:
            confirm = partial(answer, data)
            return self._subscriptions.confirm(connection, channel, bridged, confirm)
        answer(data)
        return None

    def _answer(
        self,
        connection: ServerConnection,
        channel: str,
        frame_id: RequestID,
        data: dict[str, Any] | None,
    ) -> None:
        message = Message(type=MessageType.SUBSCRIBED, channel=channel, data=data or None)
        self._answers.send(connection, frame_id, message)

    def _refuse(self, connection: ServerConnection, frame: Subscribe, error: WSHubError) -> None:
        text, code = REFUSAL_TEXTS.get(type(error), str(error)), REFUSAL_CODES[type(error)]
        # go-ws does not name the channel in a refusal. Answers to frames with an ``id`` do.
        named = "" if frame.id is None else frame.channel[:MAX_NAME_LENGTH]
        message = Message(type=MessageType.ERROR, channel=named, data=text)
        self._answers.send(connection, frame.id, message, code, always=True)
