"""Spans of OpenTelemetry for messages with a trace context, and for publishing within a trace."""

from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from inspect import isawaitable
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from wshub_core.logs import get_logger
from wshub_core.values.channels import validate_channel
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import WSHubError
from wshub_core.values.messages import Message
from wshub_core.values.trace_context import is_traceparent

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind, TracerProvider

logger = get_logger("wshub.tracing")

T = TypeVar("T")


def make_spans(config: HubConfig) -> "Spans | None":
    """Return the spans of a hub; None without a `HubConfig.tracer_provider`."""
    return None if config.tracer_provider is None else Spans(config.tracer_provider)


class Spans:
    """Creates the spans of a hub, for messages that belong to a trace.

    A publish in a span of the application is a child of that span. The context in a message may
    come from a client, which can write anything, so it only becomes a link of a new trace: the
    sampler decides as without it.

    A tracer that fails costs spans, and no message. Its exceptions are logged.

    Args:
        provider: The tracer provider of OpenTelemetry.
    """

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry import context, trace  # an extra
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._context = context
        self._trace = trace
        self._tracer = provider.get_tracer("wshub")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def publish(self, message: Message, channel: str | None) -> Iterator[Message]:
        """Create the span of a publish, if there is a trace; yield the message to send.

        A message gets the context of the span if the caller is in a recorded span. Otherwise it is
        not changed.

        Args:
            message: The message.
            channel: The channel; None for a broadcast.
        """
        started = _attempt(self._start_publish, message, channel)
        if started is None:
            yield message
            return
        span, traced = started
        with self._recording(span), self._attached(span):
            yield traced

    def link_to(
        self, name: str, message: Message, callback: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Return a callback that runs in a span, which links to the context of a message."""

        def traced(*args: object) -> object:
            kind, channel = self._trace.SpanKind.CONSUMER, message.channel
            span = _attempt(self._start_linked, name, kind, message, channel)
            if span is None:
                return callback(*args)
            with ExitStack() as recording:
                recording.enter_context(self._recording(span))
                with self._attached(span):
                    result = callback(*args)
                if not isawaitable(result):
                    return result
                return self._finish(recording.pop_all(), span, result)

        return traced

    def _start_publish(
        self, message: Message, channel: str | None
    ) -> "tuple[Span, Message] | None":
        kind = self._trace.SpanKind.PRODUCER
        if not self._trace.get_current_span().get_span_context().is_valid:
            linked = self._start_linked("publish", kind, message, channel)
            return None if linked is None else (linked, message)
        span = self._tracer.start_span("publish", None, kind, _attributes(channel))
        # Each client gets these bytes, so a trace that is not recorded adds none.
        if not span.get_span_context().trace_flags.sampled:
            return span, message
        carrier: dict[str, str] = {}
        # The other field of the context, ``tracestate``, has no bound on its bytes.
        self._propagator.inject(carrier, self._trace.set_span_in_context(span))
        return span, replace(message, traceparent=carrier["traceparent"])

    def _start_linked(
        self, name: str, kind: "SpanKind", message: Message, channel: str | None
    ) -> "Span | None":
        if not is_traceparent(message.traceparent):
            return None
        origin = self._propagator.extract({"traceparent": message.traceparent})
        link = self._trace.Link(self._trace.get_current_span(origin).get_span_context())
        # The empty context makes it the first span of its trace.
        root = self._context.Context()
        return self._tracer.start_span(name, root, kind, _attributes(channel), [link])

    @contextmanager
    def _recording(self, span: "Span") -> Iterator[None]:
        """End a span after a block, with the exception that the block raises."""
        try:
            yield
        except Exception as error:
            status = self._trace.Status(self._trace.StatusCode.ERROR, type(error).__name__)
            _attempt(span.record_exception, error)
            _attempt(span.set_status, status)
            raise
        finally:
            # Also when a coroutine that has never run is discarded.
            _attempt(span.end)

    @contextmanager
    def _attached(self, span: "Span") -> Iterator[None]:
        token = self._context.attach(self._trace.set_span_in_context(span))
        try:
            yield
        finally:
            self._context.detach(token)

    async def _finish(
        self, recording: ExitStack, span: "Span", result: Awaitable[object]
    ) -> object:
        with recording:
            return await self._run_attached(self._trace.set_span_in_context(span), result)

    @coroutine
    def _run_attached(
        self, context: "Context", result: Awaitable[object]
    ) -> Generator[Any, Any, object]:
        """Await a result in a context of OpenTelemetry.

        The context is attached only while code of the result runs. The callbacks of a connection
        share their context variables, and a callback that never ends must not keep its span there.
        """
        work = _wait(result)
        proceed = partial(work.send, None)
        while True:
            token = self._context.attach(context)
            try:
                waiting = proceed()
            except StopIteration as end:
                return end.value
            finally:
                # The code may be in a span of its own.
                context = self._context.get_current()
                self._context.detach(token)
            try:
                value = yield waiting
            except BaseException as error:
                proceed = partial(work.throw, error)
            else:
                proceed = partial(work.send, value)


async def _wait(result: Awaitable[T]) -> T:
    return await result


def _attempt(function: Callable[..., T], *args: object) -> T | None:
    """Call a function of the tracer, whose samplers and processors may raise any exception."""
    try:
        return function(*args)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # no cancellation of the caller, because nothing is awaited
        logger.exception("the tracer failed")
        return None


def _attributes(channel: str | None) -> dict[str, str]:
    """Return the attributes of a span (semantic conventions of OpenTelemetry, "Messaging")."""
    attributes = {"messaging.system": "wshub"}
    # The channel may be any text of a client, or a wrong argument.
    with suppress(WSHubError, TypeError):
        validate_channel(channel)  # type: ignore[arg-type]
        attributes["messaging.destination.name"] = channel  # type: ignore[assignment]
    return attributes
