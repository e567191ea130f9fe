"""The methods of a hub about its numbers: the part of `Hub` for monitoring."""

from typing import TYPE_CHECKING

from wshub_core.connections.running_hub import RunningHub
from wshub_core.transports.asgi_messages import ASGIApp
from wshub_core.values.measurements import Measurements

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from prometheus_client.registry import Collector


class HubMonitoring:
    """The base of `Hub` with the methods for monitoring.

    All methods work before the hub is entered, with zeros, and after its end, with the last totals.
    """

    _running: RunningHub | None

    def measure(self) -> Measurements:
        """Return the numbers for monitoring.

        The call takes time in proportion to the connections: about a millisecond for 10,000. The
        first call switches the measurement of times on.
        """
        return Measurements() if self._running is None else self._running.measure()

    def metrics(self) -> ASGIApp:
        """Return an ASGI application that serves the metrics of this hub and of its process.

        It answers ``GET`` on every path, in the formats of Prometheus and of OpenMetrics. It has no
        access control. It needs ``wshub-core[metrics]``.

        Raises:
            ImportError: The package prometheus-client is not installed.
        """
        from wshub_core.endpoints.prometheus import MetricsApp  # an extra

        return MetricsApp(self.collector())

    def collector(self) -> "Collector":
        """Return a collector of the metrics of this hub, for a registry of prometheus-client.

        Use it if your application serves metrics of its own. It needs ``wshub-core[metrics]``.

        Raises:
            ImportError: The package prometheus-client is not installed.
        """
        from wshub_core.endpoints.prometheus import HubCollector  # an extra

        return HubCollector(self)

    def instrument(self, meter_provider: "MeterProvider | None" = None) -> None:
        """Report the metrics of this hub to OpenTelemetry; call it once.

        It needs ``wshub-core[otel]``.

        Args:
            meter_provider: Creates the meter; the global provider if None.

        Raises:
            ImportError: The package opentelemetry-api is not installed.
        """
        from wshub_core.endpoints.opentelemetry import instrument  # an extra

        instrument(self, meter_provider)
