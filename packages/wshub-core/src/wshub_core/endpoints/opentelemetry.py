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


class _Latest:
    """The latest measurement, which all instruments of one export share.

    Args:
        hub: The hub.
    """

    def __init__(self, hub: MeasuredHub) -> None:
        self._hub = hub
        self._measured: Measurements | None = None

    def after(self, seen: Measurements | None) -> Measurements:
        """Return a measurement that an instrument has not seen yet.

        Args:
            seen: The last measurement that the instrument has seen; None before the first one.
        """
        # An instrument that asks again begins the next export.
        if self._measured is None or self._measured is seen:
            self._measured = self._hub.measure()
        return self._measured


def instrument(hub: MeasuredHub, meter_provider: MeterProvider | None) -> None:
    """Create the instruments of a hub, which read its numbers when they are exported.

    Args:
        hub: The hub.
        meter_provider: Creates the meter; the global provider if None.
    """
    meter = get_meter("wshub", meter_provider=meter_provider)
    latest = _Latest(hub)

    def observe(
        read: Callable[[Measurements], Mapping[str, float]], label: str = ""
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        seen: Measurements | None = None

        def callback(_: CallbackOptions) -> Iterable[Observation]:
            nonlocal seen
            seen = latest.after(seen)
            for value, number in read(seen).items():
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
