"""The opening of a connection: the dial, the restored subscriptions, and the first answer."""

import asyncio

from wshub_client.addresses import check_header, redact_url
from wshub_client.callbacks import CallbackError, run_callback
from wshub_client.dialing import dial
from wshub_client.errors import ClientError, DialError, LostError
from wshub_client.hub_connection import Confirmation, HubConnection
from wshub_client.receiving import EarlyPayload, Receiver
from wshub_client.settings import DialSettings, HeartbeatSettings
from wshub_client.subscriptions import Subscriptions
from wshub_client.waiting import TimeSlice, wait_awake
from wshub_core import InvalidConfigError, Message

_MAX_EARLY_BYTES = 16_777_216
"""The bytes that may come before the first answer of a hub, which may first deliver messages of a
channel that was just restored. At least two messages of ``max_message_bytes`` fit."""


class Opener:
    """Opens connections that are ready for use.

    Args:
        settings: The settings of the dial.
        heartbeat: The settings of the heartbeat.
        subscriptions: The subscriptions to restore.
        receiver: Counts the messages of a connection that could not be opened.
    """

    __slots__ = (
        "_heartbeat",
        "_receiver",
        "_settings",
        "_subscriptions",
    )

    def __init__(
        self,
        settings: DialSettings,
        heartbeat: HeartbeatSettings,
        subscriptions: Subscriptions,
        receiver: Receiver,
    ) -> None:
        self._settings = settings
        self._heartbeat = heartbeat
        self._subscriptions = subscriptions
        self._receiver = receiver

    async def open(self) -> tuple[HubConnection, list[EarlyPayload]]:
        """Dial, and wait until the hub has served the restored subscriptions.

        Returns:
            The connection, and the payloads that have come meanwhile.

        Raises:
            ClientError: The dial has failed.
        """
        settings = self._settings
        opening = asyncio.create_task(self._dial_and_restore())
        try:
            await wait_awake(opening, settings.open_timeout)
        except asyncio.CancelledError:
            await self._cancel(opening)
            raise
        if not opening.done():
            await self._cancel(opening)
            text = f"{redact_url(settings.url)} has not answered within {settings.open_timeout:g} s"
            raise DialError(text)
        return opening.result()

    async def _cancel(
        self, opening: "asyncio.Task[tuple[HubConnection, list[EarlyPayload]]]"
    ) -> None:
        opening.cancel()
        # The token function belongs to the application and may ignore the cancellation, so the wait
        # has a bound. Twice the timeout leaves the task time to close its connection.
        await asyncio.wait({opening}, timeout=2 * self._settings.close_timeout)
        if opening.done() and not opening.cancelled() and opening.exception() is None:
            # The task was done in the moment in which it was cancelled.
            await self._discard(*opening.result())

    async def _dial_and_restore(self) -> tuple[HubConnection, list[EarlyPayload]]:
        headers = await self._make_headers()
        loop = asyncio.get_running_loop()
        dialed_at = loop.time()
        socket = await dial(self._settings, headers)
        connection = HubConnection(
            socket,
            loop.time() - dialed_at,
            self._heartbeat,
            on_ended=self._receiver.wake,
            on_unreadable=self._receiver.count_unreadable,
        )
        # Before the restore, so that a channel that is added meanwhile is requested, too.
        self._subscriptions.attach(connection)
        early: list[EarlyPayload] = []
        try:
            await self._restore(connection, early)
        except BaseException:
            await self._discard(connection, early)
            raise
        return connection, early

    async def _make_headers(self) -> dict[str, str]:
        settings = self._settings
        token = settings.token
        if callable(token):
            try:
                answer = await run_callback(token)
            except CallbackError as error:
                raise _make_token_error(error.__cause__) from error.__cause__
            try:
                if not isinstance(answer, str) or not answer:
                    raise TypeError("the token function has returned no text")
                check_header("Authorization", answer)
            except (TypeError, InvalidConfigError) as error:
                raise _make_token_error(error) from error
            token = answer
        authorization = {} if token is None else {"Authorization": f"Bearer {token}"}
        return {**settings.headers, **authorization}

    async def _restore(self, connection: HubConnection, early: list[EarlyPayload]) -> None:
        """Request all subscriptions, and read until the hub has served the requests."""
        is_served = asyncio.Event()
        await self._subscriptions.restore(connection, is_served.set)
        limit = max(_MAX_EARLY_BYTES, 2 * self._settings.max_message_bytes)
        early_bytes = 0
        while not is_served.is_set():
            payload = await connection.receive()
            items: list[Message | Confirmation] = []
            # Added before it is processed, so that all of its messages count if the dial fails.
            early.append(EarlyPayload(payload, items))
            time_slice = TimeSlice()
            for item in connection.process_payload(payload):
                await time_slice.give_way()
                if item is not None:
                    items.append(item)
            early_bytes += len(payload)
            if early_bytes > limit:
                url = redact_url(self._settings.url)
                raise DialError(f"{url} sends without end and answers nothing")

    async def _discard(self, connection: HubConnection, early: list[EarlyPayload]) -> None:
        """Close a connection that could not be opened completely."""
        self._subscriptions.detach()
        self._receiver.drop_early(early)
        await connection.close(LostError(1006, "not opened"), self._settings.close_timeout)


def _make_token_error(cause: BaseException | None) -> ClientError:
    # Only the class of the cause is shown, because its text may contain the token.
    return DialError(f"the token function failed: {type(cause).__name__}")
