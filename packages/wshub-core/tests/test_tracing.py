"""Traces through messages, with the SDK of OpenTelemetry."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from support import Serve

from wshub_core import (
    Connection,
    HistoryLimits,
    Hub,
    HubConfig,
    InvalidConfigError,
    Message,
    MessageEncodeError,
    decode_message,
    encode_message,
)
from wshub_core.protocol.forwarded import normalize_forwarded
from wshub_core.testing import (
    MemoryBridge,
    MemoryClient,
    MemoryExchange,
    MemoryHistory,
    connect,
)

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

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {each.name: each for each in self._exporter.get_finished_spans()}


def id_of(span: Any) -> str:
    return format_span_id(span.get_span_context().span_id)


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
async def test_on_message_continues_the_trace_of_the_client(serve: Serve, is_async: bool) -> None:
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
    assert consumer.parent is not None
    assert format_trace_id(consumer.parent.trace_id) == "a" * 32
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
    assert received[:36] == CONTEXT[:36]
    assert received[36:52] == id_of(traces.spans["publish"])


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
