"""The metrics of a hub through the API of OpenTelemetry, read with its SDK."""

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricsData,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.metrics.view import DropAggregation, View
from support import Serve

from wshub_core import Hub
from wshub_core.endpoints.metrics import METRICS
from wshub_core.endpoints.opentelemetry import instrument
from wshub_core.values.measurements import Measurements


def read_points(data: MetricsData | None) -> dict[str, tuple[bool, str, dict[str, float]]]:
    """Return whether each instrument is a counter, its unit, and its values by label value."""
    assert data is not None
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    assert scope.scope.name == "wshub"
    found = {}
    for metric in scope.metrics:
        points = [each for each in metric.data.data_points if isinstance(each, NumberDataPoint)]
        values = {
            "".join(map(str, (each.attributes or {}).values())): each.value for each in points
        }
        is_counter = isinstance(metric.data, Sum) and metric.data.is_monotonic
        found[metric.name] = is_counter, metric.unit or "", values
    return found


async def test_all_metrics_are_instruments_with_the_same_values(serve: Serve) -> None:
    served = await serve(on_message=lambda *_: None)
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    served.hub.instrument(provider)
    reader.get_metrics_data()  # times are measured from now on
    client = await served.connect()
    await client.subscribe("a")
    await client.send(type="x", data="y")
    await client.sync()
    served.hub.publish_event("a", 1)
    await client.receive()
    points = read_points(reader.get_metrics_data())
    measured = served.hub.measure()
    for metric in METRICS:
        values = metric.values(measured)
        if values:
            is_counter, unit, found = points.pop(f"wshub.{metric.name}")
            assert found == values, metric.name
            assert is_counter == (metric.kind == "counter")
            assert unit == {"bytes": "By", "seconds": "s", "": "1"}[metric.unit]
    assert points.pop("wshub.fan_outs") == (True, "1", {"": 1})
    assert points.pop("wshub.fan_out") == (True, "s", {"": measured.fan_outs.sum})
    assert points == {}
    provider.shutdown()


async def test_a_hub_reports_zeros_before_its_start_and_totals_after_its_end() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    hub = Hub()
    hub.instrument(provider)
    assert read_points(reader.get_metrics_data())["wshub.messages"][2] == {"": 0}
    async with hub:
        hub.publish_event("a")
    assert read_points(reader.get_metrics_data())["wshub.messages"][2] == {"": 1}
    provider.shutdown()


def test_an_export_measures_once() -> None:
    moments: list[Measurements] = []

    class Counted:
        def measure(self) -> Measurements:
            moments.append(Measurements())
            return moments[-1]

    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    # Nothing depends on an instrument that a view drops.
    dropped = View(instrument_name=f"wshub.{METRICS[0].name}", aggregation=DropAggregation())
    provider = MeterProvider(readers, views=[dropped], shutdown_on_exit=False)
    instrument(Counted(), provider)
    for count, reader in enumerate([*readers, *readers, readers[1]], 1):
        reader.get_metrics_data()
        assert len(moments) == count
    provider.shutdown()


async def test_without_a_provider_nothing_happens(serve: Serve) -> None:
    served = await serve()
    served.hub.instrument()
    client = await served.connect()
    await client.sync()
