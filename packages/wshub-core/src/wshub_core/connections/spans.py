"""Spans of OpenTelemetry for messages whose publisher or client has begun a trace."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from wshub_core.values.config import HubConfig
from wshub_core.values.messages import Message
from wshub_core.values.trace_context import is_traceparent

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider


def make_spans(config: HubConfig) -> "Spans | None":
    """Return the spans of a hub; None without a `HubConfig.tracer_provider`."""
    return None if config.tracer_provider is None else Spans(config.tracer_provider)


class Spans:
    """Continues traces through messages. It begins none: most messages have no trace.

    Args:
        provider: The tracer provider of OpenTelemetry.
    """

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry import trace  # an extra
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._tracer = provider.get_tracer("wshub")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def publish(self, message: Message, channel: str | None) -> Iterator[Message]:
        """Create the span of a publish, if there is a trace; yield the message with its context.

        The trace is that of the caller, or else that of the message, which a client has sent.

        Args:
            message: The message.
            channel: The channel; None for a broadcast.
        """
        parent: Context | None = None
        if not self._trace.get_current_span().get_span_context().is_valid:
            parent = self._extract(message)
            if parent is None:
                yield message
                return
        kind, attributes = self._trace.SpanKind.PRODUCER, _attributes(channel)
        with self._tracer.start_as_current_span("publish", parent, kind, attributes) as span:
            carrier: dict[str, str] = {}
            # Each client gets these bytes, so a trace that is not recorded adds none.
            if span.get_span_context().trace_flags.sampled:
                self._propagator.inject(carrier)
            # The other field of the context, ``tracestate``, has no bound on its bytes.
            traceparent = carrier.get("traceparent", message.traceparent)
            yield replace(message, traceparent=traceparent)

    def continue_in(
        self, name: str, message: Message, callback: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Return a callback that runs in a span of the trace of a message, if there is one."""
        parent = self._extract(message)
        if parent is None:
            return callback

        def traced(*args: object) -> object:
            kind = self._trace.SpanKind.CONSUMER
            span = self._tracer.start_span(name, parent, kind, _attributes(message.channel))
            try:
                with self._trace.use_span(span):
                    result = callback(*args)
            except BaseException:
                span.end()
                raise
            if isawaitable(result):
                return self._finish(span, result)
            span.end()
            return result

        return traced

    def _extract(self, message: Message) -> "Context | None":
        if not is_traceparent(message.traceparent):
            return None
        return self._propagator.extract({"traceparent": message.traceparent})

    async def _finish(self, span: "Span", result: Awaitable[object]) -> object:
        with self._trace.use_span(span, end_on_exit=True):
            return await result


def _attributes(channel: str | None) -> dict[str, str]:
    """Return the attributes of a span (semantic conventions of OpenTelemetry, "Messaging")."""
    destination = {"messaging.destination.name": channel} if channel else {}
    return {"messaging.system": "wshub", **destination}
