"""The metrics of a hub for OpenTelemetry; needs the extra ``wshub-core[otel]``."""

from collections.abc import Callable, Iterable, Mapping

try:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
except ImportError as error:
    raise ImportError("instrument needs opentelemetry-api: install wshub-core[otel]") from error

from wshub_core.endpoints.metrics import FAN_OUTS, METRICS, MeasuredHub
from wshub_core.values.measurements import Measurements

_UNITS = {"bytes": "By", "seconds": "s", "": "1"}
"""The units of the metrics, as OpenTelemetry writes them (UCUM)."""


def instrument(hub: MeasuredHub, meter_provider: MeterProvider | None) -> None:
    """Create the instruments of a hub, which read its numbers when they are exported.

    Args:
        hub: The hub.
        meter_provider: Creates the meter; the global provider if None.
    """
    meter = get_meter("wshub", meter_provider=meter_provider)

    def observe(
        read: Callable[[Measurements], Mapping[str, float]], label: str = ""
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(_: CallbackOptions) -> Iterable[Observation]:
            for value, number in read(hub.measure()).items():
                yield Observation(number, {label: value} if label else None)

        return callback

    for metric in METRICS:
        callbacks = [observe(metric.values, metric.label)]
        definition = f"wshub.{metric.name}", callbacks, _UNITS[metric.unit], metric.meaning
        if metric.kind == "counter":
            meter.create_observable_counter(*definition)
        else:
            meter.create_observable_gauge(*definition)
    # OpenTelemetry has no observable histogram. The sum and the number give the mean.
    meter.create_observable_counter(
        "wshub.fan_out", [observe(lambda m: {"": m.fan_outs.sum})], "s", FAN_OUTS
    )
    meter.create_observable_counter(
        "wshub.fan_outs", [observe(lambda m: {"": sum(m.fan_outs.counts)})], "1", "Fan-outs."
    )
