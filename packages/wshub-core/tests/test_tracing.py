"""Traces through messages, with the SDK of OpenTelemetry."""

import asyncio
import contextlib
import gc
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
    get_current_span,
    use_span,
)
from support import Serve, eventually

from wshub_core import (
    Connection,
    HistoryLimits,
    Hub,
    HubConfig,
    InvalidConfigError,
    Message,
    MessageEncodeError,
    MessageTooLargeError,
    decode_message,
    encode_message,
)
from wshub_core.connections.spans import Spans
from wshub_core.protocol.forwarded import normalize_forwarded
from wshub_core.testing import (
    MemoryBridge,
    MemoryClient,
    MemoryExchange,
    MemoryHistory,
    connect,
)

STAMPED = Message(type="event", channel="a", timestamp=datetime(2026, 1, 1, 0, 0, 0, 1, UTC))
CONTEXT = f"00-{'a' * 32}-{'b' * 16}-01"
INVALID = [
    "",
    "x",
    CONTEXT.upper(),
    CONTEXT + "-x",
    CONTEXT.replace("b", "0"),
    CONTEXT.replace("a", "0"),
    "ff" + CONTEXT[2:],
    CONTEXT[:-1],
    f"{CONTEXT}\n",
]


class Traces:
    """A tracer provider, and the spans that have ended."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {each.name: each for each in self._exporter.get_finished_spans()}


def id_of(span: Any) -> str:
    return format_span_id(span.get_span_context().span_id)


def links_of(span: ReadableSpan) -> list[tuple[str, str]]:
    contexts = [each.context for each in span.links]
    return [(format_trace_id(each.trace_id), format_span_id(each.span_id)) for each in contexts]


async def listen(hub: Hub) -> MemoryClient:
    client = await connect(hub)
    client.subscribe("a")
    await client.sync()
    return client


async def test_a_publish_in_a_span_carries_the_trace_to_clients_of_all_hubs() -> None:
    traces, exchange = Traces(), MemoryExchange()
    traced = HubConfig(tracer_provider=traces.provider)
    async with (
        Hub(traced) as here,
        Hub() as there,
        MemoryBridge(here, exchange),
        MemoryBridge(there, exchange),
    ):
        clients = [await listen(here), await listen(there)]
        with traces.tracer.start_as_current_span("order") as order:
            here.publish_event("a", 1)
            here.send_event("all")
        for client in clients:
            message = await client.receive()
            trace_id = format_trace_id(order.get_span_context().trace_id)
            publish = traces.spans["publish"]
            assert message.traceparent.startswith(f"00-{trace_id}-")
            assert (await client.receive()).traceparent[3:35] == trace_id
        assert publish.kind is SpanKind.PRODUCER
        assert publish.parent is not None
        assert format_span_id(publish.parent.span_id) == id_of(order)
        assert message.traceparent[36:52] in {
            id_of(each) for each in traces._exporter.get_finished_spans()
        }


async def test_a_span_names_the_channel() -> None:
    traces = Traces()
    async with Hub(HubConfig(tracer_provider=traces.provider)) as hub:
        with traces.tracer.start_as_current_span("order"):
            hub.publish_event("a", 1)
    assert traces.spans["publish"].attributes == {
        "messaging.system": "wshub",
        "messaging.destination.name": "a",
    }


async def test_the_trace_is_kept_in_a_history() -> None:
    traces = Traces()
    for exchange in (MemoryExchange(), MemoryExchange(MemoryHistory())):
        config = HubConfig(
            tracer_provider=traces.provider, history={"a": HistoryLimits(messages=5)}
        )
        async with Hub(config) as hub, MemoryBridge(hub, exchange):
            client = await listen(hub)
            with traces.tracer.start_as_current_span("order"):
                hub.publish_event("a", 1)
            message = await client.receive()
            (kept,) = (await hub.history("a")).messages
            assert kept.traceparent == message.traceparent != ""


async def test_without_a_trace_no_span_and_no_byte_is_added() -> None:
    traces = Traces()
    async with Hub(HubConfig(tracer_provider=traces.provider)) as hub:
        client = await listen(hub)
        hub.publish_event("a", 1)
        assert (await client.receive()).traceparent == ""
    assert traces.spans == {}
    assert b"traceparent" not in encode_message(Message(type="event"))


async def test_a_trace_that_is_not_recorded_adds_no_bytes() -> None:
    provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    async with Hub(HubConfig(tracer_provider=provider)) as hub:
        client = await listen(hub)
        with provider.get_tracer("test").start_as_current_span("order"):
            hub.publish_event("a", 1)
        assert (await client.receive()).traceparent == ""


async def test_a_refused_publish_is_an_error_of_its_span() -> None:
    traces = Traces()
    async with Hub(HubConfig(tracer_provider=traces.provider)) as hub:
        with traces.tracer.start_as_current_span("order"):
            with pytest.raises(MessageEncodeError):
                hub.publish_event("a", object())
            with pytest.raises(TypeError):
                hub.publish("a", {"type": "event"})  # type: ignore[arg-type]
    assert traces.spans["publish"].status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("is_async", [False, True])
async def test_on_message_runs_in_a_span_linked_to_the_client(serve: Serve, is_async: bool) -> None:
    traces = Traces()
    seen: list[str] = []

    def note(connection: Connection, message: Message) -> None:
        with traces.tracer.start_as_current_span("work") as span:
            seen.append(id_of(span))

    async def note_later(connection: Connection, message: Message) -> None:
        await asyncio.sleep(0)
        note(connection, message)

    on_message = note_later if is_async else note
    served = await serve(tracer_provider=traces.provider, on_message=on_message)
    client = await served.connect()
    await client.send(type="hello", traceparent=CONTEXT)
    await client.sync()
    consumer, work = traces.spans["on_message"], traces.spans["work"]
    assert consumer.kind is SpanKind.CONSUMER
    assert consumer.parent is None
    assert links_of(consumer) == [("a" * 32, "b" * 16)]
    assert work.parent is not None
    assert format_span_id(work.parent.span_id) == id_of(consumer)
    assert seen == [id_of(work)]
    # The context of the connection is as before.
    await client.send(type="hello")
    await client.sync()
    assert traces.spans["work"].parent is None


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_exception_in_on_message_ends_its_span(serve: Serve, is_async: bool) -> None:
    traces = Traces()

    def fail(connection: Connection, message: Message) -> None:
        raise ValueError("broken")

    async def fail_later(connection: Connection, message: Message) -> None:
        raise ValueError("broken")

    on_message = fail_later if is_async else fail
    served = await serve(tracer_provider=traces.provider, on_message=on_message)
    client = await served.connect()
    await client.send(type="hello", traceparent=CONTEXT)
    await client.sync()
    assert traces.spans["on_message"].status.status_code is StatusCode.ERROR
    assert served.hub.stats().callback_errors == 1


async def test_a_message_that_a_client_publishes_keeps_its_trace(serve: Serve) -> None:
    traces = Traces()
    served = await serve(tracer_provider=traces.provider, publish_authorizer=lambda *_: True)
    client = await served.connect()
    await client.subscribe("a")
    await client.send(type="event", channel="a", data=1, traceparent=CONTEXT)
    received = (await client.receive())["traceparent"]
    assert received == CONTEXT
    assert traces.spans["publish"].parent is None
    assert links_of(traces.spans["publish"]) == [("a" * 32, "b" * 16)]


async def test_clients_do_not_decide_what_is_recorded(serve: Serve) -> None:
    traces = Traces(ParentBased(ALWAYS_OFF))
    hubs: list[Hub] = []
    served = await serve(
        tracer_provider=traces.provider,
        publish_authorizer=lambda *_: True,
        on_message=lambda *_: hubs[0].publish_event("b", 1),
    )
    hubs.append(served.hub)
    client = await served.connect()
    await client.subscribe("b")
    await client.send(type="event", channel="a", traceparent=CONTEXT)
    await client.send(type="hello", traceparent=CONTEXT)
    assert "traceparent" not in await client.receive()
    assert traces.spans == {}


@pytest.mark.parametrize("channel", ["", "a\nb", "a" * 40_000])
async def test_a_span_names_no_invalid_channel(serve: Serve, channel: str) -> None:
    traces = Traces()
    served = await serve(tracer_provider=traces.provider, on_message=lambda *_: None)
    client = await served.connect()
    await client.send(type="hello", channel=channel, traceparent=CONTEXT)
    await client.sync()
    assert traces.spans["on_message"].attributes == {"messaging.system": "wshub"}


class Broken(Sampler, SpanProcessor):
    """A sampler and a processor of which one method raises."""

    def __init__(self, method: str, error: BaseException) -> None:
        self._error = error
        setattr(self, method, self._fail)

    def _fail(self, *_: object, **__: object) -> Any:
        raise self._error

    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        return ALWAYS_ON.should_sample(*args, **kwargs)

    def get_description(self) -> str:
        return "broken"


@pytest.mark.parametrize("error", [ValueError(), MemoryError(), asyncio.CancelledError()], ids=repr)
@pytest.mark.parametrize("method", ["should_sample", "on_start", "on_end"])
async def test_a_tracer_that_raises_costs_no_message(
    serve: Serve, caplog: pytest.LogCaptureFixture, method: str, error: BaseException
) -> None:
    broken = Broken(method, error)
    provider = TracerProvider(broken, shutdown_on_exit=False)
    provider.add_span_processor(broken)
    received: list[Any] = []

    async def on_message(connection: Connection, message: Message) -> None:
        received.append(message.data)

    served = await serve(
        tracer_provider=provider, publish_authorizer=lambda *_: True, on_message=on_message
    )
    client = await served.connect()
    await client.subscribe("a")
    await client.send(type="event", channel="a", data=1, traceparent=CONTEXT)
    assert (await client.receive())["data"] == 1
    await client.send(type="hello", data=2, traceparent=CONTEXT)
    await client.sync()
    parent = NonRecordingSpan(SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(1)))
    with use_span(parent):
        served.hub.publish_event("a", 3)
    assert (await client.receive())["data"] == 3
    assert received == [2]
    assert served.hub.stats().callback_errors == 0
    assert {each.name for each in caplog.records} == {"wshub.tracing"}
    assert 1 <= len(caplog.records) <= 5


async def test_a_message_without_room_for_a_context_is_published_without_one() -> None:
    traces = Traces()
    async with Hub(HubConfig(tracer_provider=traces.provider, max_message_bytes=1_024)) as hub:
        client = await listen(hub)
        size = len(encode_message(replace(STAMPED, data="")))
        with traces.tracer.start_as_current_span("order"):
            for spare in range(80):
                hub.publish_event("a", "x" * (1_024 - size - spare))
            with pytest.raises(MessageTooLargeError):
                hub.publish_event("a", "x" * (1_025 - size))
        contexts = [(await client.receive()).traceparent != "" for _ in range(80)]
        assert contexts == [spare >= 72 for spare in range(80)]


async def test_a_callback_that_is_cancelled_before_it_runs_ends_its_span() -> None:
    traces = Traces()
    spans = Spans(traces.provider)
    waiting = asyncio.get_running_loop().create_future()
    message = Message(type="hello", traceparent=CONTEXT)
    task = asyncio.ensure_future(spans.link_to("on_message", message, lambda: waiting)())
    task.cancel()
    await asyncio.wait([task])
    del task
    gc.collect()
    assert "on_message" in traces.spans


async def test_a_callback_that_never_ends_does_not_keep_its_span(serve: Serve) -> None:
    traces = Traces()
    spans: list[bool] = []
    released = asyncio.Event()

    async def hang(connection: Connection, message: Message) -> None:
        with traces.tracer.start_as_current_span("work") as work:
            while not released.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await released.wait()
                assert get_current_span() is work

    served = await serve(
        tracer_provider=traces.provider,
        on_message=hang,
        on_disconnect=lambda *_: spans.append(get_current_span().get_span_context().is_valid),
        close_timeout=0.1,
    )
    client = await served.connect()
    await client.send(type="hello", traceparent=CONTEXT)
    await client.socket.close()
    try:
        await eventually(lambda: spans == [False])
    finally:
        released.set()
    await eventually(lambda: "on_message" in traces.spans)
    assert traces.spans["on_message"].status.status_code is StatusCode.UNSET
    assert traces.spans["work"].parent is not None


@pytest.mark.parametrize("context", INVALID)
async def test_an_invalid_context_counts_as_none(serve: Serve, context: str) -> None:
    messages: list[Message] = []
    traces = Traces()
    served = await serve(
        tracer_provider=traces.provider, on_message=lambda _, message: messages.append(message)
    )
    client = await served.connect()
    await client.subscribe("a")
    await client.send(type="hello", traceparent=context)
    payload = {"type": "event", "channel": "a", "traceparent": context}
    served.hub.deliver("a", json.dumps(payload).encode())
    assert "traceparent" not in await client.receive()
    await client.sync()
    assert [message.traceparent for message in messages] == [""]
    assert traces.spans == {}
    if context:
        with pytest.raises(MessageEncodeError, match="traceparent is no W3C trace context"):
            served.hub.publish("a", Message(type="event", traceparent=context))


@given(st.text("0123456789abcdefABCDEF-\n\x00ü", max_size=60))
def test_only_valid_contexts_pass(text: str) -> None:
    payload = json.dumps({"type": "event", "channel": "a", "traceparent": text}).encode()
    assert decode_message(payload).traceparent in (text, "")
    now = decode_message(b'{"type":"event","timestamp":"2026-01-01T00:00:00Z"}').timestamp
    assert now is not None
    forwarded = normalize_forwarded(payload, "a", now)
    assert decode_message(forwarded).traceparent == decode_message(payload).traceparent
    assert (b"traceparent" in forwarded) == bool(decode_message(payload).traceparent)


@pytest.mark.parametrize("context", [None, 0, 7, b"x"])
def test_a_context_of_a_wrong_type_is_refused(context: Any) -> None:
    with pytest.raises(MessageEncodeError, match="traceparent is no W3C trace context"):
        encode_message(Message(type="event", traceparent=context))


def test_a_provider_of_a_wrong_type_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="must be a TracerProvider of OpenTelemetry"):
        HubConfig(tracer_provider="otlp")
