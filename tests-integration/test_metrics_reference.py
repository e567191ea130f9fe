"""The reference of the metrics agrees with a real scrape."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from wshub_core import (
    BridgeStats,
    CallbackStats,
    Distribution,
    Hub,
    HubConfig,
    Measurements,
)
from wshub_core.endpoints.prometheus import HubCollector

PAGE = Path(__file__).parents[1] / "docs/reference/metrics.md"
ROW = re.compile(r"^\| `(wshub_\w+)` \| (\w+) \| (?:`(\w+)`)? ?\| (.*) \|$", re.M)


class MeasuredHub:
    """A hub that has everything, so that each metric has a value."""

    def measure(self) -> Measurements:
        return Measurements(
            refusals={403: 1},
            disconnects={"lost": 1},
            evictions={"slow_consumer": 1},
            callbacks={"publish listener": CallbackStats(1, 1, 1.0)},
            fan_outs=Distribution((0.1,), (1, 1), 1.0),
            recoveries={"recovered": 1},
            bridge_state="up",
            bridge=BridgeStats(),
        )


def test_the_reference_lists_every_metric_with_its_type_label_and_meaning() -> None:
    registry = CollectorRegistry()
    registry.register(HubCollector(MeasuredHub()))
    scraped = []
    for family in registry.collect():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = family.name + "_total" * (family.type == "counter")
        assert family.samples, name
        scraped.append((name, family.type, "".join(labels), family.documentation))
    assert ROW.findall(PAGE.read_text()) == scraped


async def test_the_reference_lists_the_values_of_the_labels() -> None:
    page = PAGE.read_text()
    async with Hub(HubConfig()) as hub:
        measured = hub.measure()
        for values in (measured.recoveries, measured.evictions):
            assert all(f"`{value}`" in page for value in values)
