"""The metrics of a hub: real scrapes, read with the official parsers."""

import asyncio
import gc
import socket
import sys
import threading
import weakref
from typing import Any

import pytest
from asgi_servers import hypercorn_server
from hypothesis import given
from hypothesis import strategies as st
from metrics_site import OPENMETRICS, ask, read_samples, scrape, serve_metrics, value
from prometheus_client import CollectorRegistry, generate_latest
from support import PATIENCE_SECONDS, Serve, eventually, wshub
from websockets.asyncio.client import connect as dial
from websockets.exceptions import InvalidStatus

from wshub_core import (
    AuthResult,
    BridgeState,
    BridgeStats,
    Connection,
    HistoryLimits,
    Hub,
    HubConfig,
    Message,
    PresenceSettings,
)
from wshub_core.protocol.histogram import Histogram
from wshub_core.testing import MemoryBridge, MemoryExchange, connect


async def test_a_scrape_counts_connections_messages_and_bytes() -> None:
    async with serve_metrics(on_message=lambda *_: None) as served:
        await scrape(served.server.port)  # times are measured from now on
        client = await served.connect()
        await client.subscribe("news")
        await client.send(type="hello", data="x" * 100)
        await client.sync()
        served.hub.publish_event("news", 1)
        await client.receive()
        samples = await scrape(served.server.port)
        stats = served.hub.stats()
        assert value(samples, "wshub_connections") == 1
        assert value(samples, "wshub_channels") == 1
        assert value(samples, "wshub_subscriptions") == 1
        assert value(samples, "wshub_connects_total") == 1
        assert value(samples, "wshub_messages_total") == 1
        assert value(samples, "wshub_received_messages_total") == 4
        assert value(samples, "wshub_received_bytes_total") > 100
        assert value(samples, "wshub_deliveries_total") == stats.deliveries == 3
        assert value(samples, "wshub_delivered_bytes_total") == stats.delivered_bytes
        assert value(samples, "wshub_outbox_bytes") == 0
        assert value(samples, "wshub_callback_calls_total", callback="on_message") == 1
        assert value(samples, "wshub_callback_errors_total", callback="on_message") == 0
        assert 0 < value(samples, "wshub_callback_seconds_total", callback="on_message") < 30
        assert value(samples, "wshub_fan_out_seconds_count") == 1
        assert value(samples, "wshub_fan_out_seconds_bucket", le="+Inf") == 1
        assert 0 < value(samples, "wshub_fan_out_seconds_sum") < 30
        assert value(samples, "process_resident_memory_bytes") > 0


async def test_ends_are_counted_by_their_cause() -> None:
    async with serve_metrics() as served:
        samples = await scrape(served.server.port)
        # Each series begins with 0, so that the first event is an increase.
        assert value(samples, "wshub_disconnects_total", cause="pong_timeout") == 0
        assert value(samples, "wshub_evictions_total", cause="slow_consumer") == 0
        assert value(samples, "wshub_refusals_total", status="503") == 0
        assert value(samples, "wshub_recoveries_total", outcome="trimmed") == 0
        polite, lost = await served.connect(), await served.connect()
        await polite.socket.close()
        lost.socket.transport.abort()
        await eventually(lambda: served.hub.stats().clients == 0)
        samples = await scrape(served.server.port)
        assert value(samples, "wshub_disconnects_total", cause="client_closed") == 1
        assert value(samples, "wshub_disconnects_total", cause="lost") == 1
        assert value(samples, "wshub_disconnects_total", cause="server_closed") == 0


async def test_neither_refused_nor_lost_clients_distort_the_number_of_connections() -> None:
    async with serve_metrics(max_connections=2) as served:
        clients = [await served.connect() for _ in range(2)]
        for _ in range(3):
            with pytest.raises(InvalidStatus):
                await served.connect()
        assert value(await scrape(served.server.port), "wshub_connections") == 2
        for client in clients:
            client.socket.transport.abort()
        await eventually(lambda: served.hub.stats().clients == 0)
        samples = await scrape(served.server.port)
        assert value(samples, "wshub_connections") == 0
        assert value(samples, "wshub_connects_total") == 2
        assert value(samples, "wshub_refusals_total", status="503") == 3


async def test_bytes_that_wait_for_a_slow_client_are_shown_until_it_is_evicted() -> None:
    async with serve_metrics(max_outbox_bytes=200_000) as served:
        client = await served.connect(max_queue=1)
        await client.subscribe("a")
        client.socket.transport.pause_reading()
        for _ in range(10_000):
            served.hub.publish_event("a", "x" * 50_000)
            await asyncio.sleep(0)
            if served.hub.measure().outbox_bytes > 100_000:
                break
        samples = await scrape(served.server.port)
        assert value(samples, "wshub_outbox_bytes") > 100_000
        while served.hub.stats().clients:
            served.hub.publish_event("a", "x" * 50_000)
            await asyncio.sleep(0)
        samples = await scrape(served.server.port)
        assert value(samples, "wshub_evictions_total", cause="slow_consumer") == 1
        assert value(samples, "wshub_evictions_total", cause="write_timeout") == 0
        assert value(samples, "wshub_outbox_bytes") == 0
        client.socket.transport.abort()


async def test_refusals_are_counted_by_their_status() -> None:
    def authenticate(request: Any) -> AuthResult:
        return AuthResult(request.header("x-token") is None, "alice")

    async with serve_metrics(authenticator=authenticate) as served:
        for name in ("Origin", "X-Token"):
            with pytest.raises(InvalidStatus):
                await served.connect(additional_headers={name: "https://foreign.example"})
        _, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
        writer.write(b"\x16\x03\x01\n\n")
        await eventually(lambda: served.hub.stats().refused_handshakes == 3)
        writer.close()
        samples = await scrape(served.server.port)
        assert value(samples, "wshub_refusals_total", status="403") == 1
        assert value(samples, "wshub_refusals_total", status="401") == 1
        assert value(samples, "wshub_refusals_total", status="none") == 1


async def test_histories_recoveries_and_members_are_counted() -> None:
    limits, presence = HistoryLimits(messages=2), PresenceSettings()
    async with serve_metrics(history={"h": limits}, presence={"h": presence}) as served:
        for number in range(5):
            served.hub.publish_event("h", number)
        client = await served.connect()
        for history in ({"since": 5}, {"since": 0}, {"since": 9}, {"since": 1, "epoch": "x"}):
            await client.send(type="subscribe", channel="h", id=1, history=history)
            while (await client.receive()).get("type") != "subscribed":
                pass
        samples = await scrape(served.server.port)
        outcomes = {"recovered": 1, "trimmed": 1, "future_offset": 1, "foreign_epoch": 1}
        for outcome, count in outcomes.items():
            assert value(samples, "wshub_recoveries_total", outcome=outcome) == count
        assert value(samples, "wshub_histories") == 1
        assert value(samples, "wshub_history_bytes") > 0
        assert value(samples, "wshub_members") == 1


async def test_no_name_of_a_channel_user_or_client_is_in_the_metrics() -> None:
    async with serve_metrics(
        authenticator=lambda _: AuthResult(True, user_id="alice-7"),
        history={"*": HistoryLimits(messages=9)},
        presence={"*": PresenceSettings()},
        on_message=lambda *_: None,
    ) as served:
        client = await served.connect()
        await client.send(type="subscribe", channel="secret-channel", id=1, history={"last": 1})
        await client.receive()
        await client.send(type="secret-type", channel="secret-channel", data="secret-data")
        await client.sync()
        served.hub.publish_event("secret-channel", "secret-data")
        before = len(await scrape(served.server.port))
        for number in range(50):
            await served.hub.subscribe(served.hub.connections[0], f"secret-{number}")
            served.hub.publish_event(f"secret-{number}")
        _, _, text = await asyncio.to_thread(ask, served.server.port)
        assert "secret" not in text
        assert "alice" not in text
        assert "127.0.0.1" not in text
        assert len(read_samples(text)) <= before + 1


async def test_the_scraper_chooses_the_format() -> None:
    async with serve_metrics() as served:
        port = served.server.port
        plain = await asyncio.to_thread(ask, port)
        assert plain[1].startswith("text/plain; version=0.0.4")
        status, kind, text = await asyncio.to_thread(ask, port, accept=OPENMETRICS)
        assert (status, kind.partition(";")[0]) == (200, "application/openmetrics-text")
        assert text.endswith("# EOF\n")
        assert read_samples(text, is_open=True).keys() == read_samples(plain[2]).keys()
        assert await asyncio.to_thread(ask, port, "HEAD") == (200, plain[1], "")
        for method in ("POST", "DELETE", "OPTIONS"):
            assert (await asyncio.to_thread(ask, port, method))[0] == 405


HEADERS = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"))
VERSIONS = st.builds(
    "{}; version={}; escaping={}".format,
    st.sampled_from(["text/plain", "application/openmetrics-text"]),
    HEADERS,
    HEADERS,
)


async def respond(*arguments: Any) -> None:
    await Hub().metrics()(*arguments)


@given(st.one_of(HEADERS, VERSIONS))
def test_no_accept_header_makes_a_scrape_fail(accept: str) -> None:
    sent = []

    async def receive() -> Any:
        raise AssertionError("a scrape has no body")

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/metrics",
        "query_string": b"",
        "headers": [(b"accept", accept.encode("latin-1"))],
    }
    asyncio.run(respond(scope, receive, send))
    assert sent[0]["status"] == 200
    for name, content in sent[0]["headers"]:
        # No header of the client may reach the response.
        assert name != b"content-type" or content.isascii()


async def test_scrapes_at_the_same_time_and_clients_do_not_disturb_each_other() -> None:
    async with serve_metrics() as served:
        client = await served.connect()
        await client.subscribe("a")
        scrapes = [asyncio.create_task(scrape(served.server.port)) for _ in range(20)]
        for number in range(100):
            served.hub.publish_event("a", number)
            assert (await client.receive())["data"] == number
        for samples in await asyncio.gather(*scrapes):
            assert value(samples, "wshub_connections") == 1


async def test_a_scraper_that_reads_nothing_delays_no_one() -> None:
    async with serve_metrics(write_timeout=0.2) as served:
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_024)
            lazy.connect(("127.0.0.1", served.server.port))
            lazy.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
            client = await served.connect()
            await client.sync()
            assert value(await scrape(served.server.port), "wshub_connections") == 1
            await eventually(lambda: len(served.sockets) == 1)


async def test_the_metrics_and_the_health_checks_serve_http_alone() -> None:
    async with Hub() as hub:
        for app in (hub.metrics(), hub.health(), hub.sse()):
            # The server offers the lifespan events, and goes on without them.
            async with hypercorn_server(app) as port:
                with pytest.raises(InvalidStatus, match="403"):
                    await dial(f"ws://127.0.0.1:{port}/healthz", proxy=None)
                status, _, _ = await asyncio.to_thread(ask, port, "HEAD", "/healthz")
                assert status == 200


async def test_metrics_exist_before_the_hub_is_entered_and_after_its_end() -> None:
    hub = Hub()
    registry = CollectorRegistry()
    registry.register(hub.collector())
    assert value(read_samples(generate_latest(registry).decode()), "wshub_messages_total") == 0
    async with hub:
        hub.publish_event("a")
    samples = read_samples(generate_latest(registry).decode())
    assert value(samples, "wshub_messages_total") == 1
    assert value(samples, "wshub_connections") == 0


@pytest.mark.parametrize("auto_describe", [False, True])
async def test_a_registry_refuses_a_second_hub(auto_describe: bool) -> None:
    registry = CollectorRegistry(auto_describe=auto_describe)
    registry.register(Hub().collector())
    with pytest.raises(ValueError, match="wshub_messages"):
        registry.register(Hub().collector())


class NumberedBridge(MemoryBridge):
    """A bridge that reports its numbers, or fails."""

    def stats(self) -> Any:
        if self.result is None:
            raise RuntimeError("no numbers")
        return self.result

    result: Any = None


async def test_the_numbers_of_a_bridge_are_among_the_metrics() -> None:
    async with serve_metrics() as served:
        exchange, port = MemoryExchange(), served.server.port
        async with MemoryBridge(served.hub, exchange):
            samples = await scrape(port)
            assert value(samples, "wshub_bridge_state", state="up") == 1
            assert value(samples, "wshub_bridge_state", state="down") == 0
            assert ("wshub_bridge_lost_total", ()) not in samples
        async with NumberedBridge(served.hub, exchange) as bridge:
            bridge.result = BridgeStats(lost=3, queued_bytes=5, lag_seconds=0.25)
            bridge.state = BridgeState.DEGRADED
            samples = await scrape(port)
            assert value(samples, "wshub_bridge_state", state="up") == 0
            assert value(samples, "wshub_bridge_state", state="degraded") == 1
            assert value(samples, "wshub_bridge_lost_total") == 3
            assert value(samples, "wshub_bridge_queued_bytes") == 5
            assert value(samples, "wshub_bridge_lag_seconds") == 0.25
        assert not any(name.startswith("wshub_bridge") for name, _ in await scrape(port))


@pytest.mark.parametrize("result", [None, {"lost": 1}])
async def test_a_bridge_without_usable_numbers_hides_only_its_own(result: Any) -> None:
    async with serve_metrics() as served, NumberedBridge(served.hub, MemoryExchange()) as bridge:
        bridge.result = result
        samples = await scrape(served.server.port)
        assert value(samples, "wshub_connections") == 0
        assert value(samples, "wshub_bridge_state", state="up") == 1
        assert ("wshub_bridge_lost_total", ()) not in samples


async def test_a_registry_collects_in_another_thread_while_clients_come_and_go() -> None:
    async with Hub(HubConfig(presence={"*": PresenceSettings()})) as hub:
        registry = CollectorRegistry()
        registry.register(hub.collector())
        errors: list[BaseException] = []
        is_over = threading.Event()

        def collect() -> None:
            try:
                while not is_over.is_set():
                    generate_latest(registry)
            except BaseException as error:
                errors.append(error)

        # Threads take turns much more often than usual.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        thread = threading.Thread(target=collect)
        thread.start()
        try:
            for number in range(300):
                client = await connect(hub)
                client.subscribe(f"room-{number}")
                await client.sync()
                hub.publish_event(f"room-{number}")
                if number % 2:
                    client.close()
        finally:
            is_over.set()
            await asyncio.to_thread(thread.join, PATIENCE_SECONDS)
            sys.setswitchinterval(interval)
        assert errors == []


async def test_times_are_measured_from_the_first_look_on(serve: Serve) -> None:
    def fail(connection: Connection, message: Message) -> None:
        raise ValueError

    served = await serve(on_message=fail)
    client = await served.connect()
    await client.send(type="x")
    await client.sync()
    calls = served.hub.measure().callbacks["on_message"]
    assert (calls.calls, calls.errors) == (0, 1)
    await client.send(type="x")
    await client.sync()
    calls = served.hub.measure().callbacks["on_message"]
    assert (calls.calls, calls.errors) == (1, 2)


async def test_the_time_of_an_async_callback_includes_its_waits(serve: Serve) -> None:
    may_go = asyncio.Event()

    async def wait(connection: Connection, message: Message) -> None:
        await may_go.wait()

    served = await serve(on_message=wait)
    served.hub.measure()
    client = await served.connect()
    await client.send(type="x")
    await eventually(lambda: served.hub.connections[0].is_callback_running)  # type: ignore[attr-defined]
    await asyncio.sleep(0.05)
    assert served.hub.measure().callbacks == {}
    may_go.set()
    await client.sync()
    calls = served.hub.measure().callbacks["on_message"]
    assert calls.calls == 1
    assert calls.seconds >= 0.045


BOUNDS = (0.001, 0.01, 0.1, 1.0)


@given(st.lists(st.one_of(st.floats(0, 10), st.sampled_from(BOUNDS))))
def test_a_histogram_counts_each_value_in_its_range(values: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    for each in values:
        histogram.observe(each)
    for index, bound in enumerate(BOUNDS):
        up_to_bound = sum(each <= bound for each in values)
        assert sum(histogram.counts[: index + 1]) == up_to_bound
    assert sum(histogram.counts) == len(values)
    assert histogram.sum == pytest.approx(sum(values))


async def test_a_hub_that_nobody_holds_is_freed_in_spite_of_its_metrics() -> None:
    hub = Hub()
    app = hub.metrics()
    reference = weakref.ref(hub)
    del hub, app
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize(
    ("module", "call", "extra"),
    [
        ("prometheus_client", "metrics", "metrics"),
        ("prometheus_client", "collector", "metrics"),
        ("opentelemetry", "instrument", "otel"),
    ],
)
async def test_without_its_package_a_method_names_the_extra(
    module: str, call: str, extra: str
) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None\nimport wshub_core; wshub_core.Hub().{call}()"
    )
    async with wshub(code=code) as process:
        _, errors = await process.communicate()
        assert errors.decode().rstrip().endswith(f"install wshub-core[{extra}]")
