"""The reconnecting client."""

import asyncio
import contextlib
import ssl as tls
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias

from wshub_client.callbacks import CallbackError, Callbacks, run_call
from wshub_client.dialing import Proxy, check_header, check_proxy, check_url, describe, dial
from wshub_client.errors import (
    ClientClosedError,
    ClientError,
    ClosedError,
    DialError,
    DroppedError,
    LostError,
    NotConnectedError,
    RefusedError,
    RetriesExhaustedError,
    SubscriptionRefusedError,
)
from wshub_client.inbox import Inbox, InboxOverflow
from wshub_client.link import Link
from wshub_client.options import Token
from wshub_client.requests import UnclearRefusalError
from wshub_client.send_queue import QueueLimits, SendQueue, Waiting
from wshub_client.waiting import Turn, wait_awake
from wshub_core import (
    JSON,
    Backoff,
    Clock,
    InvalidConfigError,
    Message,
    MessageDecodeError,
    MessageEncodeError,
    MessageTooLargeError,
    MessageType,
    Timer,
    decode_message,
    encode_message,
    validate_channel,
)
from wshub_core.forks import ForkGuard
from wshub_core.logs import get_logger

logger = get_logger("wshub.client")

Received: TypeAlias = tuple[str | bytes, list[Message]]
"""What was read, and the messages in it that are for the application."""


_STAMP_BYTES = 64
"""What hub and client add to a message that is published: a timestamp, and an id."""

_GO_BATCH_BYTES = 257 * 65_537
"""What a hub of go-ws can join in one WebSocket message: a full queue of 256 messages and one more,
each of 65,536 bytes and a newline."""

_MOST_EARLY_BYTES = 16_777_216
"""What may come before the first answer of a hub, which may have much to say on a channel; at least
two of its largest WebSocket messages fit."""

_REPORT_SECONDS = 0.1


class ConnectionState(Enum):
    """How a client stands; the numbers are those of go-ws."""

    DISCONNECTED = 0
    """There is no connection and no dial, as before the start, between dials, and after the end."""
    CONNECTING = 1
    """A dial is on its way."""
    CONNECTED = 2
    """The hub has answered, and all subscriptions are in place."""


class ReconnectingClient:
    """A client of a hub that comes back by itself, with its subscriptions.

    Enter it, subscribe, and iterate over what comes::

        async with ReconnectingClient("ws://localhost:8080/ws", token="secret-key-1") as client:
            await client.subscribe("process:build-42")
            async for message in client:
                print(message.data)

    Or give it callbacks and `run` it. Callbacks may be plain or async; they are called one after
    the other, in the order of what happened. One that raises, whatever that is, is logged and
    counted, and changes nothing; ``KeyboardInterrupt`` and ``SystemExit`` also go to whoever runs
    the event loop. One that takes its time delays those behind it. When ``inbox_size`` messages
    wait for it, no more is read, so that the end of the connection is not noticed either.

    Use it on one event loop; `wshub_client.BlockingClient` is for programs without one. A process
    that is forked after the client was started cannot use it: every call raises
    `wshub_core.ForkedProcessError` there.

    Args:
        url: The hub's address, ``ws://`` or ``wss://``.
        token: Presented as ``Authorization: Bearer`` at every dial.
        headers: More headers of the handshake.
        origin: The ``Origin`` header, for hubs that insist on one.
        ssl: For ``wss://``: a context with other certificates than the system's.
        proxy: The address of a proxy to connect through, ``http://``, ``https://`` or ``socks5://``
            (which needs ``python-socks``); None for none. True takes that of the environment
            (``https_proxy`` and the like), unless the hub is on this machine.
        initial_backoff: The longest wait after the first failure, in seconds.
        max_backoff: The longest wait after any number of failures.
        backoff_multiplier: By what the longest wait grows with each failure.
        max_attempts: How many failures in a row are tolerated; None for any number.
        stable_after: How long a connection must hold before failures are forgotten.
        open_timeout: How long a dial may take, up to the hub's first answer.
        close_timeout: How long the closing handshake may take, and callbacks that still run.
        heartbeat_interval: After how much silence the hub is pinged.
        pong_timeout: How much longer the hub may then be silent.
        max_message_bytes: The most bytes of one WebSocket message from the hub. Hubs of go-ws join
            many messages in one; the default takes what they join at most, 257 messages of 64 KiB.
            At most three of these are held while the application is slow.
        max_send_bytes: The most bytes of one message to the hub; 64 KiB is what hubs take.
        queue: Bounds of what waits to be sent while there is no connection; None for no waiting.
        inbox_size: How many messages may wait for the application.
        overflow: What happens when there are more: ``"wait"`` reads no more until there is room,
            ``"drop_oldest"`` and ``"drop_newest"`` drop, count and report. While the application
            waits for an answer, there is room for sixteen times as many.
        on_connect: Called when the hub is connected for the first time.
        on_reconnect: Called when it is connected again, with the number of dials that it took.
        on_disconnect: Called when a connection has ended.
        on_error: Called with each error that nobody awaits: failed dials, lost connections, refused
            subscriptions, dropped messages, and what ends the client.
        on_message: Called with each message; without it, iterate or `receive`.
        on_raw: Called with each WebSocket message as it was read, several messages of a go-ws hub
            in one.
        clock: What backoff and heartbeat go by; the event loop if None.

    Attributes:
        state: How the client stands.

    Raises:
        InvalidConfigError: The address or a setting cannot work.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        headers: Mapping[str, str] | None = None,
        origin: str | None = None,
        ssl: tls.SSLContext | None = None,
        proxy: Proxy = True,
        initial_backoff: float = 1.0,
        max_backoff: float = 30.0,
        backoff_multiplier: float = 2.0,
        max_attempts: int | None = None,
        stable_after: float = 10.0,
        open_timeout: float = 10.0,
        close_timeout: float = 5.0,
        heartbeat_interval: float = 25.0,
        pong_timeout: float = 10.0,
        max_message_bytes: int = _GO_BATCH_BYTES,
        max_send_bytes: int = 65_536,
        queue: QueueLimits | None = None,
        inbox_size: int = 1_024,
        overflow: InboxOverflow = "wait",
        on_connect: Callable[[], object] | None = None,
        on_reconnect: Callable[[int], object] | None = None,
        on_disconnect: Callable[[], object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        on_message: Callable[[Message], object] | None = None,
        on_raw: Callable[[str | bytes], object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        check_url(url)
        if ssl is not None and not url.lower().startswith("wss:"):
            raise InvalidConfigError("ssl goes with wss:// addresses only")
        _check_positive(
            initial_backoff=initial_backoff,
            max_backoff=max_backoff,
            stable_after=stable_after,
            open_timeout=open_timeout,
            close_timeout=close_timeout,
            heartbeat_interval=heartbeat_interval,
            pong_timeout=pong_timeout,
            max_message_bytes=max_message_bytes,
            max_send_bytes=max_send_bytes,
            inbox_size=inbox_size,
        )
        if not 1 <= backoff_multiplier < float("inf"):
            raise InvalidConfigError(
                f"backoff_multiplier must be 1 or more, not {backoff_multiplier}"
            )
        for name, value in (headers or {}).items():
            check_header(name, value)
        if isinstance(token, str):
            check_header("Authorization", token)
        check_proxy(proxy)
        self.state = ConnectionState.DISCONNECTED
        self._url = url
        self._token = token
        self._headers = dict(headers or {})
        self._origin = origin
        self._tls = ssl
        self._proxy = proxy
        self._backoff = Backoff(initial_backoff, max_backoff, backoff_multiplier)
        self._max_attempts = max_attempts
        self._stable_after = stable_after
        self._open_timeout = open_timeout
        self._close_timeout = close_timeout
        self._heartbeat = heartbeat_interval, pong_timeout
        self._max_message_bytes = max_message_bytes
        self._max_send_bytes = max_send_bytes
        self._queue = None if queue is None else SendQueue(queue)
        self._on_connect = on_connect
        self._on_reconnect = on_reconnect
        self._on_disconnect = on_disconnect
        self._on_error = on_error
        self._on_message = on_message
        self._on_raw = on_raw
        self._clock = clock
        self._callbacks = Callbacks(inbox_size, overflow)
        self._inbox: Inbox[Message] = Inbox(inbox_size, overflow)
        self._early_dropped = 0
        self._unreadable = 0
        self._reported_drops = 0
        self._unsent = 0
        self._reporting: Timer | None = None
        self._wanted: dict[str, _Subscription] = {}
        self._link: Link | None = None
        self._main: asyncio.Task[ClientError] | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._has_connected = False
        self._changed = asyncio.Event()  # set when it is connected, and when it has ended
        self._is_closed = False
        self._end: ClientError | None = None
        self._guard: ForkGuard | None = None  # there is nothing to share before the start

    # Beginning and end.

    async def __aenter__(self) -> Self:
        """Start, and wait until the hub is connected for the first time.

        Raises:
            ClientError: The client has ended instead.
        """
        self._start()
        try:
            await self.wait_connected()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def run(self) -> None:
        """Stay connected until `close` is called, which ends this normally, or until it is over.

        Cancelling it closes the client.

        Raises:
            ClientError: What ended the client: ``RefusedError``, ``ClosedError`` or
                ``RetriesExhaustedError``.
        """
        self._check_process()
        if self._is_closed:
            if self._end is not None:
                raise self._end
            return
        main = self._start()
        try:
            await asyncio.wait({main})
        except asyncio.CancelledError:
            await self.close()
            raise
        await self._callbacks.finish(self._close_timeout)
        if self._end is not None:
            raise self._end

    async def close(self) -> None:
        """End the client, whatever it does just now; repeating it is harmless.

        The hub gets 1000 if it is connected. Callbacks for what has come by then are still called,
        for at most ``close_timeout``. Called from a callback, it does not wait for them.
        """
        self._check_process()
        if self._main is None:
            self._finish()
            return
        if not self._is_closed:
            # Once, so that a second call does not cut short what the first one waits for.
            self._is_closed = True
            self._main.cancel()
            # Whoever waits for a message or a connection need not wait for the closing handshake.
            self._inbox.close()
            self._changed.set()
        await asyncio.wait({self._main})
        await self._callbacks.finish(self._close_timeout)

    async def wait_connected(self) -> None:
        """Wait until the hub is connected, which may be now.

        Raises:
            ClientClosedError: The client has been closed.
            ClientError: What has ended the client.
        """
        self._check_process()
        with self._lifted():
            while not self._is_closed:
                if self._connected_link() is not None:
                    return
                self._changed.clear()
                await self._changed.wait()
        raise self._end or ClientClosedError

    # Channels and messages.

    @property
    def channels(self) -> tuple[str, ...]:
        """The wanted channels, sorted; subscribed to now, or as soon as possible."""
        return tuple(sorted(self._wanted))

    @property
    def dropped_messages(self) -> int:
        """How many messages from the hub were dropped.

        The application was too slow for them, or a dial failed after they had come.
        """
        return self._inbox.dropped + self._callbacks.dropped + self._early_dropped

    @property
    def unreadable_messages(self) -> int:
        """How many parts of what hubs sent are no messages, and were ignored."""
        return self._unreadable + (0 if self._link is None else self._link.unreadable)

    @property
    def callback_errors(self) -> int:
        """How many callbacks have raised something."""
        return self._callbacks.errors

    async def subscribe(self, channel: str, *, confirm: bool = False) -> None:
        """Want a channel, from now on and after every reconnect.

        Args:
            channel: 1 to 256 characters of ``A-Za-z0-9_.:-``.
            confirm: Whether to wait until the hub has confirmed, across reconnects if need be. A
                refusal is otherwise told to ``on_error``.

        Raises:
            InvalidChannelError: The name is not allowed.
            SubscriptionRefusedError: With ``confirm``: the hub does not let this client listen.
            ClientClosedError: The client has been closed, or ends while this waits.
        """
        validate_channel(channel)
        self._check_open()
        subscription = self._wanted.get(channel)
        is_new = subscription is None
        if subscription is None:
            subscription = self._wanted[channel] = _Subscription(channel)
        confirmed: asyncio.Future[None] | None = None
        if confirm and not subscription.is_confirmed:
            confirmed = subscription.wait()
        try:
            if is_new and self._link is not None:
                await self._finish_sending(self._ask_for(self._link, subscription))
            if confirmed is not None:
                with self._lifted():
                    await confirmed
        finally:
            if confirmed is not None:
                subscription.waiting.discard(confirmed)

    async def unsubscribe(self, channel: str) -> None:
        """Want a channel no more; harmless if it was not wanted."""
        self._check_process()
        subscription = self._wanted.pop(channel, None)
        if subscription is None:
            return
        subscription.settle(
            SubscriptionRefusedError(channel, "unsubscribed", "unsubscribed meanwhile")
        )
        if self._link is not None:
            with contextlib.suppress(NotConnectedError):
                await self._link.unsubscribe(channel)

    async def send(self, message: Message) -> None:
        """Send a message as it is.

        Raises:
            MessageEncodeError: The message cannot be written as JSON.
            MessageTooLargeError: The encoded message exceeds ``max_send_bytes``.
            NotConnectedError: There is no connection, and no queue.
            ClientClosedError: The client has been closed.
        """
        self._check_process()
        text = self._encode(message)
        self._check_open()
        link = self._connected_link()
        if self._queue is not None and (link is None or len(self._queue)):
            now = self._time()
            self._count_unsent(self._queue.expire(now))
            self._count_unsent(self._queue.add(Waiting(message, text, now)))
        elif link is None:
            raise NotConnectedError
        elif message.type == MessageType.PING:
            # A ping that is noted and not sent would be taken for the next one.
            await self._finish_sending(link.send_message(message, text))
        else:
            await link.send_message(message, text)

    async def publish(self, channel: str, data: JSON = None) -> None:
        """Publish an event to a channel, if the hub lets this client, and wait for its word.

        Raises:
            InvalidChannelError: The name is not allowed.
            MessageEncodeError: The data cannot be written as JSON.
            MessageTooLargeError: The encoded message exceeds ``max_send_bytes``.
            PublishRefusedError: The hub does not take it.
            NotConnectedError: There is no connection.
            LostError: The connection was lost before the hub answered: it may have published it.
            ClientClosedError: The client has been closed.
        """
        await self.publish_message(Message(type=MessageType.EVENT, channel=channel, data=data))

    async def publish_message(self, message: Message) -> None:
        """Publish a message to its channel, as `publish` does with an event.

        Raises:
            ClientError: As `publish` does.
        """
        self._check_process()
        validate_channel(message.channel)
        self.check_size(message)
        self._check_open()
        link = self._connected_link()
        if link is None:
            raise NotConnectedError
        published: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Somebody may have given up waiting by the time the answer comes.
        published.add_done_callback(_retrieve)

        async def ask() -> None:
            async with link.asking:
                await link.publish(message, partial(_settle, published))
                await link.ping()

        await self._finish_sending(ask())
        with self._lifted():
            await published

    def check_size(self, message: Message) -> None:
        """Check whether a message can be published.

        Raises:
            MessageEncodeError: It cannot be written as JSON.
            MessageTooLargeError: Encoded, with what the hub adds, it exceeds ``max_send_bytes``.
        """
        self._check_process()
        self._encode(message, _STAMP_BYTES)

    async def receive(self) -> Message:
        """Return the next message, when it has come.

        Raises:
            ClientClosedError: The client has been closed, and there are no more.
            ClientError: What ended the client, when there are no more.
        """
        self._check_process()
        message = await self._inbox.get()
        if message is None:
            raise self._end or ClientClosedError
        return message

    def put_back(self, message: Message) -> None:
        """Have `receive` return a message again, the next time, because nobody has got it."""
        self._inbox.put_back(message)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except ClientClosedError:
            raise StopAsyncIteration from None

    # One connection after the other.

    def _start(self) -> asyncio.Task[ClientError]:
        self._check_open()
        if self._main is None:
            self._guard = ForkGuard("client")
            self._main = asyncio.create_task(self._stay_connected())
            # Not by the task itself, which can be cancelled before it has begun.
            self._main.add_done_callback(self._note_end)
        return self._main

    def _note_end(self, main: asyncio.Task[ClientError]) -> None:
        if not main.cancelled():
            error = main.exception()
            if error is None:
                self._end = main.result()
            else:
                logger.error("the client has failed", exc_info=error)
                self._end = ClientError(f"the client has failed: {type(error).__name__}")
                self._end.__cause__ = error
        self._finish()

    def _finish(self) -> None:
        self._is_closed = True
        self.state = ConnectionState.DISCONNECTED
        for subscription in self._wanted.values():
            subscription.settle(self._end or ClientClosedError())
        if self._queue is not None:
            self._unsent += len(self._queue)
        self._report_drops()
        self._inbox.close()
        self._callbacks.close()
        self._changed.set()

    async def _stay_connected(self) -> ClientError:
        """Dial and serve, again and again; return what makes that useless."""
        dials = 0
        while True:
            dials += 1
            self.state = ConnectionState.CONNECTING
            try:
                link, early = await self._open()
            except ClientError as error:
                failure: ClientError = error
            else:
                failure = await self._serve(link, early, dials)
                dials = 0
            self._backoff.fail()
            end = self._judge(failure)
            # What has ended a connection has been told with its end.
            if dials or (end is not None and end is not failure):
                self._report(end or failure)
            self.state = ConnectionState.DISCONNECTED
            if end is not None:
                return end
            await self._sleep(self._backoff.delay(getattr(failure, "retry_after", None)))

    def _judge(self, failure: ClientError) -> ClientError | None:
        """Return what ends the client now; None if it goes on."""
        if isinstance(failure, RefusedError | ClosedError):
            return failure
        if self._max_attempts is None or self._backoff.failures <= self._max_attempts:
            return None
        exhausted = RetriesExhaustedError(self._max_attempts)
        exhausted.__cause__ = failure
        return exhausted

    async def _open(self) -> tuple[Link, list[Received]]:
        """Dial, and wait until the hub has taken the subscriptions.

        Returns:
            The connection, and what has come on it meanwhile.

        Raises:
            ClientError: The dial has failed.
        """
        opening = asyncio.create_task(self._dial_and_restore())
        try:
            await wait_awake(opening, self._open_timeout)
        except asyncio.CancelledError:
            await self._give_up(opening)
            raise
        if not opening.done():
            await self._give_up(opening)
            text = f"{describe(self._url)} has not answered within {self._open_timeout:g} s"
            raise DialError(text)
        return opening.result()

    async def _give_up(self, opening: "asyncio.Task[tuple[Link, list[Received]]]") -> None:
        opening.cancel()
        # The token function is the application's, and may go on for ever.
        await asyncio.wait({opening}, timeout=2 * self._close_timeout)
        if opening.done() and not opening.cancelled() and opening.exception() is None:
            await self._discard(*opening.result())

    async def _dial_and_restore(self) -> tuple[Link, list[Received]]:
        headers = await self._make_headers()
        loop = asyncio.get_running_loop()
        dialed_at = loop.time()
        socket = await dial(
            self._url,
            headers,
            origin=self._origin,
            tls=self._tls,
            proxy=self._proxy,
            max_message_bytes=self._max_message_bytes,
            close_timeout=self._close_timeout,
        )
        dial_seconds = loop.time() - dialed_at
        link = Link(socket, dial_seconds, self._get_clock(), *self._heartbeat, self._wake)
        self._link = link
        early: list[Received] = []
        try:
            await self._restore(link, early)
        except BaseException:
            await self._discard(link, early)
            raise
        return link, early

    async def _discard(self, link: Link, early: list[Received]) -> None:
        """Close a connection that was not opened to the end."""
        self._forget_link(link)
        if dropped := sum(len(messages) for _, messages in early):
            self._early_dropped += dropped
            self._report_drops_soon()
        await link.close(LostError(1006, "not opened"), self._close_timeout)

    async def _make_headers(self) -> dict[str, str]:
        token = self._token
        if callable(token):
            try:
                answer = await run_call(token)
            except CallbackError as error:
                raise _token_error(error.__cause__) from error.__cause__
            try:
                if not isinstance(answer, str) or not answer:
                    raise TypeError("it has returned no text")
                check_header("Authorization", answer)
            except (TypeError, InvalidConfigError) as error:
                raise _token_error(error) from error
            token = answer
        return self._headers | ({} if token is None else {"Authorization": f"Bearer {token}"})

    async def _restore(self, link: Link, early: list[Received]) -> None:
        """Subscribe to what is wanted, and collect what comes until all of that is served."""
        is_open = False

        def note_open() -> None:
            nonlocal is_open
            is_open = True

        with contextlib.suppress(NotConnectedError):  # reading tells why
            async with link.asking:
                if self._wanted:
                    await link.probe()
                for subscription in tuple(self._wanted.values()):
                    if self._is_wanted(subscription):
                        await link.subscribe(
                            subscription.channel, partial(self._settle_subscription, subscription)
                        )
                await link.ping(note_open)
        most = max(_MOST_EARLY_BYTES, 2 * self._max_message_bytes)
        early_bytes = 0
        while not is_open:
            payload = await link.receive()
            messages: list[Message] = []
            early.append((payload, messages))
            turn = Turn()
            for message in link.read(payload):
                await turn.give_way()
                if message is not None:
                    messages.append(message)
            early_bytes += len(payload)
            if early_bytes > most:
                raise DialError(f"{describe(self._url)} sends without end and answers nothing")

    async def _ask_for(self, link: Link, subscription: "_Subscription") -> None:
        settle = partial(self._settle_subscription, subscription)
        with contextlib.suppress(NotConnectedError):  # it is sent again after the reconnect
            async with link.asking:
                if self._is_wanted(subscription):
                    await link.subscribe(subscription.channel, settle)
                    await link.ping()

    def _start_sending(self, sending: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return task

    async def _finish_sending(self, sending: Coroutine[Any, Any, None]) -> None:
        """Send frames that belong together, also if whoever sends them gives up waiting."""
        await asyncio.shield(self._start_sending(sending))

    async def _serve(self, link: Link, early: list[Received], dials: int) -> ClientError:
        """Pass on what comes until the connection ends; return why it has."""
        self.state = ConnectionState.CONNECTED
        stable_at = self._time() + self._stable_after
        stable = self._get_clock().call_at(stable_at, self._backoff.reset)
        if self._has_connected:
            self._emit("on_reconnect", self._on_reconnect, dials)
        else:
            self._emit("on_connect", self._on_connect)
        self._has_connected = True
        self._changed.set()
        link.start_heartbeat()
        flushing = (
            None if self._queue is None else asyncio.create_task(self._flush(link, self._queue))
        )
        failure: ClientError = ClientClosedError()
        try:
            for payload, messages in early:
                await self._deliver(link, payload, messages)
            early.clear()
            while True:
                payload = await link.receive()
                await self._deliver(link, payload, link.read(payload))
        except ClientError as error:
            failure = error
        finally:
            # Also when the client is being closed.
            stable.cancel()
            try:
                if flushing is not None:
                    if isinstance(failure, ClientClosedError):
                        await asyncio.wait({flushing}, timeout=self._close_timeout)
                    flushing.cancel()
            finally:
                self.state = ConnectionState.DISCONNECTED
                self._forget_link(link)
                for subscription in self._wanted.values():
                    subscription.is_confirmed = False
                try:
                    await link.close(failure, self._close_timeout)
                finally:
                    if not isinstance(failure, ClientClosedError):
                        self._report(failure)
                    self._emit("on_disconnect", self._on_disconnect)
        return failure

    async def _deliver(
        self, link: Link, payload: str | bytes, messages: Iterable[Message | None]
    ) -> None:
        link.hold()
        if self._on_raw is not None:
            call = partial(self._on_raw, payload)
            await self._callbacks.put("on_raw", call, link.has_ended)
        turn = Turn()
        for message in messages:
            await turn.give_way()
            if message is None:
                continue
            if self._on_message is not None:
                call = partial(self._on_message, message)
                await self._callbacks.put("on_message", call, link.has_ended)
            elif self._on_raw is None:
                await self._inbox.put(message, link.has_ended)
        link.release()
        if self.dropped_messages > self._reported_drops:
            self._report_drops_soon()

    async def _flush(self, link: Link, queue: SendQueue) -> None:
        """Send what has waited, in order."""
        self._count_unsent(queue.expire(self._time()))
        while len(queue):
            waiting = queue.take()
            try:
                await link.send_message(waiting.message, waiting.text)
            except NotConnectedError:
                queue.put_back(waiting)
                return
            except BaseException:
                queue.put_back(waiting)
                raise

    # Small things.

    def _settle_subscription(
        self, subscription: "_Subscription", error: ClientError | None
    ) -> None:
        # It may have been given up, and wanted again, meanwhile; then the answer is to the old one.
        if not self._is_wanted(subscription):
            return
        if isinstance(error, UnclearRefusalError) and self._link is not None:
            self._start_sending(self._ask_for(self._link, subscription))
        elif error is None:
            subscription.is_confirmed = True
            subscription.settle(None)
        elif isinstance(error, SubscriptionRefusedError):
            del self._wanted[subscription.channel]
            subscription.settle(error)
            self._report(error)

    def _encode(self, message: Message, reserved_bytes: int = 0) -> str:
        payload = encode_message(message)
        try:
            decode_message(payload)
        except MessageDecodeError as error:
            # Such as a channel that is no text, or data that is nested too deeply to be read.
            raise MessageEncodeError(f"the result is {error}") from error
        size = len(payload) + reserved_bytes
        if size > self._max_send_bytes:
            raise MessageTooLargeError(size, self._max_send_bytes)
        return payload.decode()

    @contextlib.contextmanager
    def _lifted(self) -> Iterator[None]:
        """Read on in this block, because what is waited for lies behind messages."""
        with self._inbox.lift(), self._callbacks.lift():
            yield

    def _wake(self) -> None:
        self._inbox.wake()
        self._callbacks.wake()

    def _connected_link(self) -> Link | None:
        is_connected = self.state is ConnectionState.CONNECTED
        return self._link if is_connected and self._link and not self._link.has_ended() else None

    def _is_wanted(self, subscription: "_Subscription") -> bool:
        return self._wanted.get(subscription.channel) is subscription

    def _forget_link(self, link: Link) -> None:
        self._link = None
        self._unreadable += link.unreadable

    def _check_process(self) -> None:
        if self._guard is not None:
            self._guard.check()

    def _check_open(self) -> None:
        self._check_process()
        if self._is_closed:
            raise ClientClosedError

    def _count_unsent(self, dropped: int) -> None:
        if dropped:
            self._unsent += dropped
            self._report_drops_soon()

    def _report_drops_soon(self) -> None:
        # What is dropped in a row is one report, however much that is.
        if self._reporting is None:
            loop = asyncio.get_running_loop()
            self._reporting = loop.call_later(_REPORT_SECONDS, self._report_drops)

    def _report_drops(self) -> None:
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
        unsent, self._unsent = self._unsent, 0
        if unsent:
            self._report(DroppedError(unsent, "there was no connection to send them on"))
        unread = self.dropped_messages - self._reported_drops
        self._reported_drops += unread
        if unread:
            text = "the application is slow, or a dial failed after they had come"
            self._report(DroppedError(unread, text))

    def _report(self, error: ClientError) -> None:
        # A server that flaps must not hide the other errors.
        logger.info("%s", error, extra={"kind": type(error).__name__})
        self._emit("on_error", self._on_error, error)

    def _emit(self, name: str, callback: Callable[..., object] | None, *args: object) -> None:
        if callback is not None:
            self._callbacks.put_event(name, partial(callback, *args))

    def _get_clock(self) -> Clock:
        return self._clock or asyncio.get_running_loop()

    def _time(self) -> float:
        return self._get_clock().time()

    async def _sleep(self, seconds: float) -> None:
        awake = asyncio.Event()
        timer = self._get_clock().call_at(self._time() + seconds, awake.set)
        try:
            await awake.wait()
        finally:
            timer.cancel()


class _Subscription:
    """A channel that is wanted, and those who wait for its confirmation."""

    __slots__ = ("channel", "is_confirmed", "waiting")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.is_confirmed = False
        self.waiting: set[asyncio.Future[None]] = set()

    def wait(self) -> asyncio.Future[None]:
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        confirmed.add_done_callback(_retrieve)
        self.waiting.add(confirmed)
        return confirmed

    def settle(self, error: ClientError | None) -> None:
        for confirmed in self.waiting:
            _settle(confirmed, error)


def _retrieve(settled: asyncio.Future[None]) -> None:
    """Have nobody complain about an error for which nobody waits any more."""
    if not settled.cancelled():
        settled.exception()


def _settle(waiting: asyncio.Future[None], error: ClientError | None) -> None:
    if waiting.done():
        return
    if error is None:
        waiting.set_result(None)
    else:
        waiting.set_exception(error)


def _check_positive(**settings: float) -> None:
    for name, value in settings.items():
        if not value > 0:
            raise InvalidConfigError(f"{name} must be above 0, not {value}")


def _token_error(cause: BaseException | None) -> DialError:
    # The text of the cause may hold the token.
    return DialError(f"the token function failed: {type(cause).__name__}")
