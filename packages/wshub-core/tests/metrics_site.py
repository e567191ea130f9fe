"""A hub whose server serves its metrics, and scrapes of them with the parsers of Prometheus."""

import asyncio
import http.client
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from support import Served

from wshub_core import Hub, HubConfig

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


@asynccontextmanager
async def serve_metrics(**settings: Any) -> AsyncIterator[Served]:
    """Serve a hub with its metrics at every path but its own."""
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(Hub(HubConfig(**settings)))
        server = hub.serve("127.0.0.1", 0, http_app=hub.metrics())
        yield Served(hub, await stack.enter_async_context(server), stack)


def ask(
    port: int, method: str = "GET", path: str = "/metrics", **headers: str
) -> tuple[int, str, str]:
    """Send a request; return the status, the content type and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.getheader("content-type") or "", response.read().decode()
    finally:
        connection.close()


async def scrape(port: int, **headers: str) -> Samples:
    """Return the samples of one scrape, by name and labels."""
    status, kind, text = await asyncio.to_thread(ask, port, **headers)
    assert status == 200
    is_open = kind.startswith("application/openmetrics-text")
    return read_samples(text, is_open=is_open)


def read_samples(text: str, *, is_open: bool = False) -> Samples:
    """Parse an exposition with the parser of its format."""
    read = openmetrics.text_string_to_metric_families if is_open else text_string_to_metric_families
    samples = {}
    for family in read(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in samples
            samples[key] = sample.value
    return samples


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return the value of a sample."""
    return samples[name, tuple(sorted(labels.items()))]
