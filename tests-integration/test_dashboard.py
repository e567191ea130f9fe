"""The dashboard for Grafana: its expressions, sent to a real Prometheus with real numbers."""

import asyncio
import json
import math
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from demo_process import free_port
from redis_servers import run_server
from websockets.asyncio.client import connect

from wshub_core import Connection, HistoryLimits, Hub, HubConfig, Message, PresenceSettings
from wshub_core.endpoints.metrics import METRICS
from wshub_redis import RedisBridge

ROOT = Path(__file__).parents[1]
DASHBOARD = json.loads((ROOT / "docs/examples/grafana/wshub.json").read_text())
PANELS = DASHBOARD["panels"]

CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - {{job_name: wshub, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}
"""


def expressions() -> Iterator[tuple[str, str]]:
    """Yield the title of each panel with its expressions, as Grafana sends them."""
    for panel in PANELS:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for variable, text in (
                ("$job", ".*"),
                ("$instance", ".*"),
                ("$__rate_interval", "10s"),
            ):
                expression = expression.replace(variable, text)
            yield panel["title"], expression


def test_the_dashboard_shows_every_metric_of_a_hub_that_clients_can_change() -> None:
    used = {name for _, text in expressions() for name in re.findall(r"wshub_\w+", text)}
    known = {each.full_name + "_total" * (each.kind == "counter") for each in METRICS}
    known |= {"wshub_fan_out_seconds_bucket"}
    assert used <= known
    assert known - used == {
        "wshub_bridge_queued_messages",
        "wshub_channels",
        "wshub_histories",
        "wshub_ignored_messages_total",
        "wshub_subscriptions",
    }


def test_the_panels_have_their_own_places() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        assert panel["x"] + panel["w"] <= 24
        is_beside = panel["x"] + panel["w"] <= other["x"] or other["x"] + other["w"] <= panel["x"]
        is_above = panel["y"] + panel["h"] <= other["y"] or other["y"] + other["h"] <= panel["y"]
        assert is_beside or is_above


def test_a_number_is_red_only_when_there_is_a_reason_to_look() -> None:
    """Without thresholds in a panel, Grafana paints any number from 80 on red."""
    red = {}
    for panel in PANELS:
        if panel["type"] == "stat":
            base, *others = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert base == {"color": "green", "value": None}
            red[panel["title"]] = [(step["color"], step["value"]) for step in others]
    assert red == {
        "Connections": [],
        "Deliveries": [],
        "Fan-out, 99th percentile": [("red", 0.1)],
        "Bytes in outboxes": [],
        "Evictions in an hour": [("red", 1)],
        "Bridges that are not up": [("red", 1)],
    }


def test_the_number_of_evictions_is_whole() -> None:
    """Prometheus estimates an increase: 4 evictions can be 4.04."""
    (panel,) = [each for each in PANELS if each["title"] == "Evictions in an hour"]
    defaults = panel["fieldConfig"]["defaults"]
    assert (defaults["unit"], defaults["decimals"]) == ("none", 0)


def test_a_silent_hub_does_not_keep_the_fan_out_of_its_last_message() -> None:
    """The quantile of no fan-outs is NaN, which lastNotNull of Grafana skips."""
    (panel,) = [each for each in PANELS if each["title"] == "Fan-out, 99th percentile"]
    assert panel["options"]["reduceOptions"]["calcs"] == ["last"]
    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
    assert mapping["options"] == {"match": "null+nan", "result": {"text": "-"}}


def test_the_guide_scrapes_as_often_as_grafana_expects() -> None:
    """Grafana asks for rates over 1 min, for which a scrape each minute has no two values."""
    guide = (ROOT / "docs/howto/monitor.md").read_text()
    (config,) = re.findall(r"^```yaml\n(scrape_configs:.*?)^```", guide, re.DOTALL | re.MULTILINE)
    assert "scrape_interval: 15s" in config


@asynccontextmanager
async def run_prometheus(folder: Path, hub_port: int) -> AsyncIterator[int]:
    path = shutil.which("prometheus")
    if path is None:
        pytest.skip("no prometheus on PATH")
    config, port = folder / "prometheus.yml", free_port()
    config.write_text(CONFIG.format(port=hub_port))
    process = await asyncio.create_subprocess_exec(
        path,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield port
    finally:
        process.terminate()
        await process.wait()


async def query(port: int, expression: str) -> list[Any]:
    """Return the samples of an expression; none while Prometheus starts."""
    address = f"http://127.0.0.1:{port}/api/v1/query"
    data = urllib.parse.urlencode({"query": expression}).encode()

    def ask() -> Any:
        with urllib.request.urlopen(address, data) as response:
            return json.load(response)

    with suppress(ConnectionError, urllib.error.URLError):
        answer = await asyncio.to_thread(ask)
        assert answer["status"] == "success"
        return [
            each for each in answer["data"]["result"] if not math.isnan(float(each["value"][1]))
        ]
    return []


async def use(hub: Hub, address: str) -> None:
    """Subscribe, publish, send and leave, again and again."""
    while True:
        async with connect(address, proxy=None) as client:
            request = {"type": "subscribe", "channel": "room", "id": 1, "history": {"last": 3}}
            await client.send(json.dumps(request))
            await client.send('{"type": "hello"}')
            for number in range(20):
                hub.publish_event("room", number)
                await client.recv()
        await asyncio.sleep(0.05)


def fail(connection: Connection, message: Message) -> None:
    raise ValueError("a failing callback")


async def test_every_expression_has_data_in_a_real_prometheus(tmp_path: Path) -> None:
    config = HubConfig(
        on_message=fail,
        history={"room": HistoryLimits(messages=10)},
        presence={"room": PresenceSettings()},
    )
    with run_server() as redis:
        async with (
            Hub(config) as hub,
            RedisBridge(hub, redis.url),
            hub.serve("127.0.0.1", 0, http_app=hub.metrics()) as server,
            run_prometheus(tmp_path, server.port) as port,
        ):
            using = asyncio.create_task(use(hub, f"ws://127.0.0.1:{server.port}/ws"))
            waiting = dict.fromkeys(f"{title}: {text}" for title, text in expressions())
            async with asyncio.timeout(60):
                while waiting:
                    assert not using.done()
                    for each in tuple(waiting):
                        if await query(port, each.partition(": ")[2]):
                            del waiting[each]
                    await asyncio.sleep(0.2)
            using.cancel()
            with suppress(asyncio.CancelledError):
                await using
