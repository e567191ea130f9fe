"""The metrics of a hub for Prometheus; needs the extra ``wshub-core[metrics]``."""

from collections.abc import Iterator
from itertools import accumulate

try:
    from prometheus_client import CollectorRegistry, Metric, ProcessCollector
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError("the metrics need prometheus-client: install wshub-core[metrics]") from error

from wshub_core.endpoints.metrics import FAN_OUTS, METRICS, MeasuredHub
from wshub_core.transports.asgi_messages import (
    Receive,
    Scope,
    Send,
    is_http,
    read_request,
    send_response,
)
from wshub_core.values.http import METHOD_NOT_ALLOWED, Response
from wshub_core.values.measurements import Measurements

_OPENMETRICS = "application/openmetrics-text"


class HubCollector(Collector):
    """A collector of the metrics of a hub; made by `Hub.collector`.

    The numbers are read when a registry collects them, in any thread. Between two collections, they
    cost nothing.

    Args:
        hub: The hub.
    """

    def __init__(self, hub: MeasuredHub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of this moment."""
        return _make_families(self._hub.measure())

    def describe(self) -> Iterator[Metric]:
        """Return the metrics without numbers, so that a registry refuses the names of a second hub.

        Without this method, only the default registry refuses them.
        """
        return _make_families(Measurements())


def _make_families(measured: Measurements) -> Iterator[Metric]:
    """Yield the metrics of a measurement."""
    for metric in METRICS:
        make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        labels = [metric.label] if metric.label else []
        family = make(metric.full_name, metric.meaning, labels=labels)
        for value, number in metric.values(measured).items():
            family.add_metric([value] if metric.label else [], number)
        yield family
    times = measured.fan_outs
    bounds = (*(str(bound) for bound in times.bounds), "+Inf")
    # Prometheus counts the values up to a bound, not those of a range.
    buckets = list(zip(bounds, accumulate(times.counts), strict=True))
    yield HistogramMetricFamily("wshub_fan_out_seconds", FAN_OUTS, buckets, times.sum)


class MetricsApp:
    """An ASGI application that serves metrics for Prometheus; made by `Hub.metrics`.

    Args:
        collector: The collector of the hub's metrics. Those of the process are added: CPU time,
            memory and file descriptors.
    """

    def __init__(self, collector: Collector) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, as ASGI specifies; refuse a WebSocket."""
        if not await is_http(scope, receive, send):
            return
        request = read_request(scope)
        if request.method not in ("GET", "HEAD"):
            await send_response(send, "http", METHOD_NOT_ALLOWED)
            return
        accepted = ",".join(request.headers.get("accept", ())).split(",")
        is_open = any(each.partition(";")[0].strip() == _OPENMETRICS for each in accepted)
        # Not the header itself: prometheus-client 0.26 fails for some versions in it, and repeats
        # others in the response.
        encode, content_type = choose_encoder(_OPENMETRICS if is_open else "")
        response = Response(200, encode(self._registry), content_type=content_type)
        await send_response(send, "http", response)
