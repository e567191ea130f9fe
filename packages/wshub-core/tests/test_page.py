import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from time import time
from typing import Any

import pytest

from wshub_core import Hub, HubConfig, LivePage, Message, MessageType, Request
from wshub_core.page import page as page_module
from wshub_core.testing import ManualClock, MemoryBridge, MemoryClient, MemoryExchange
from wshub_core.testing import connect as connect_client

EVENT = Message(type=MessageType.EVENT)
NO_HISTORY = HubConfig(history={"process:*": None})


def get(page: LivePage, path: str) -> bytes:
    response = page.process_request(Request("GET", path))
    assert response is not None
    assert response.status == 200
    return response.body


def listed(page: LivePage) -> dict[str, tuple[int, str | None, int | None]]:
    channels = json.loads(get(page, "/channels"))["channels"]
    return {
        each["channel"]: (each["messages"], each["status"], each["exitCode"]) for each in channels
    }


async def test_every_file_of_the_page_is_served_and_has_no_external_links() -> None:
    async with Hub() as hub:
        page = LivePage(hub)
        folder = files("wshub_core") / "page" / "files"
        shipped = {f"page/files/{entry.name}" for entry in folder.iterdir()}
        served = {name for name, _ in page_module._FILES.values()}
        assert served == {*shipped, "browser/wshub.js", "browser/wshub-sse.js"}
        for path in page_module._FILES:
            assert b"http://" not in get(page, path)
            assert b"https://" not in get(page, path)


async def test_responses_forbid_foreign_scripts() -> None:
    async with Hub() as hub:
        response = LivePage(hub).process_request(Request("GET", "/"))
        assert response is not None
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_list_has_the_channels_with_published_messages() -> None:
    async with Hub() as hub:
        page = LivePage(hub)
        hub.publish("news", Message(type="event", data=1))
        hub.send_process_status("build-42", "exited", 2)
        hub.send_event("broadcasts are in no channel")
        news, process = json.loads(get(page, "/channels"))["channels"]
        assert news == {
            "channel": "news",
            "subscribers": 0,
            "messages": 1,
            "status": None,
            "exitCode": None,
            "statusAt": None,
            "startedAt": None,
            "history": False,
        }
        assert abs(process.pop("statusAt") - time()) < 60
        assert process == {
            "channel": "process:build-42",
            "subscribers": 0,
            "messages": 1,
            "status": "exited",
            "exitCode": 2,
            "startedAt": None,
            "history": True,
        }


async def test_the_list_has_the_duration_of_a_finished_process() -> None:
    async with Hub() as hub:
        page = LivePage(hub)
        hub.send_process_status("b", "running")
        hub.send_process_output("b", "line")
        [running] = json.loads(get(page, "/channels"))["channels"]
        assert running["startedAt"] == running["statusAt"]
        hub.send_process_status("b", "exited", 0)
        [finished] = json.loads(get(page, "/channels"))["channels"]
        assert finished["startedAt"] == running["startedAt"] <= finished["statusAt"]


async def test_a_hub_that_does_not_run_has_an_empty_list() -> None:
    hub = Hub()
    page = LivePage(hub)
    assert listed(page) == {}
    async with hub:
        hub.send_process_status("b", "running")
    assert list(listed(page)) == ["process:b"]


async def test_the_list_is_bounded_and_omits_the_channels_of_wshub() -> None:
    async with Hub(HubConfig(max_subscriptions=5_000)) as hub:
        page = LivePage(hub)
        client = await connect_client(hub)
        [connection] = hub.connections
        for number in range(2_500):
            hub.subscribe_nowait(connection, f"followed-{number}")
        client.subscribe("wshub:page")
        for number in range(1_500):
            hub.publish(f"published-{number}", EVENT)
        names = listed(page)
        assert len(names) == 2_000
        assert sum(name.startswith("published-") for name in names) == 1_000
        assert not any(name.startswith("wshub:") for name in names)
        client.close()


@pytest.mark.parametrize("path", ["/", "/page.js", "/channels"])
async def test_head_is_answered_as_get_and_other_methods_are_not_allowed(path: str) -> None:
    async with Hub() as hub:
        page = LivePage(hub)
        assert page.process_request(Request("HEAD", path)) == page.process_request(
            Request("GET", path)
        )
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW"):
            response = page.process_request(Request(method, path))
            assert response is not None
            assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("path", ["/other", "/../x", "", "//", "/page.js/", "/channels/"])
async def test_other_paths_are_not_answered(method: str, path: str) -> None:
    async with Hub() as hub:
        assert LivePage(hub).process_request(Request(method, path)) is None


# Open pages.


async def test_a_page_reads_a_process_from_its_history_when_it_shows_it() -> None:
    async with Hub() as hub:
        LivePage(hub)
        client = await connect_client(hub)
        client.subscribe("wshub:page")
        hub.send_process_status("b", "running")
        hub.send_process_output("b", "line")
        await receive_news(client, 1)
        assert hub.channels == ("wshub:page",)
        page = await hub.history("process:b")
        assert [each.data for each in page.messages] == [
            {"exitCode": 0, "status": "running"},
            "line",
        ]
        client.close()


async def test_without_a_history_an_open_page_follows_each_run_of_a_process() -> None:
    async with Hub(NO_HISTORY) as hub:
        LivePage(hub)
        client = await connect_client(hub)
        client.subscribe("wshub:page")
        for _ in range(2):
            hub.send_process_status("b", "running")
            hub.send_process_output("b", "all there is")
            hub.send_process_status("b", "exited", 0)
            received = await receive_messages(client, 3)
            assert [each.data for each in received] == [
                {"exitCode": 0, "status": "running"},
                "all there is",
                {"exitCode": 0, "status": "exited"},
            ]
        # Other channels need a subscription.
        hub.publish("news", EVENT)
        hub.send_process_output("c", "next")
        assert [each.channel for each in await receive_messages(client, 1)] == ["process:c"]
        client.close()


async def test_a_page_that_left_a_channel_follows_the_next_run_of_its_process() -> None:
    async with Hub(NO_HISTORY) as hub:
        LivePage(hub)
        client = await connect_client(hub)
        client.subscribe("wshub:page")
        hub.send_process_output("b", "first")
        await receive_messages(client, 1)
        client.unsubscribe("process:b")
        hub.send_process_output("b", "unheard")
        hub.send_process_status("b", "exited", 0)
        hub.send_process_output("b", "heard")
        assert [each.data for each in await receive_messages(client, 1)] == ["heard"]
        client.close()


async def test_a_page_follows_only_channels_that_the_hub_allows() -> None:
    config = HubConfig(
        channel_authorizer=lambda _, channel: channel != "process:secret",
        history={"process:*": None},
    )
    async with Hub(config) as hub:
        LivePage(hub)
        client = await connect_client(hub)
        client.subscribe("wshub:page")
        hub.send_process_output("secret", "x")
        hub.send_process_output("open", "y")
        assert [each.data for each in await receive_messages(client, 1)] == ["y"]
        assert hub.channels == ("process:open", "wshub:page")
        client.close()


async def test_a_new_channel_is_reported_at_once_and_statuses_in_batches() -> None:
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        LivePage(hub)
        client = await connect_client(hub)
        client.subscribe("wshub:page")
        hub.publish("news", EVENT)
        assert [reported(each) for each in await receive_news(client, 1)] == [
            [("news", None, None)]
        ]
        for process_id in ("a", "b"):
            hub.send_process_status(process_id, "running")
        await receive_news(client, 2)
        for exit_code in range(3):
            for process_id in ("a", "b"):
                hub.send_process_status(process_id, "exited", exit_code)
        hub.publish("news", EVENT)
        clock.advance(0.2)
        [changes] = await receive_news(client, 1)
        assert sorted(reported(changes)) == [("process:a", "exited", 2), ("process:b", "exited", 2)]
        clock.advance(10)
        hub.publish("last", EVENT)
        assert [reported(each) for each in await receive_news(client, 1)] == [
            [("last", None, None)]
        ]
        client.close()


async def test_many_changes_are_split_into_several_messages() -> None:
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        LivePage(hub)
        names = [f"{number:0>120}" for number in range(120)]
        for process_id in names:
            hub.send_process_output(process_id, "")
        client = await connect_client(hub)
        client.subscribe("wshub:page")
        for process_id in names:
            hub.send_process_status(process_id, '"' * 64, 2**53)
        clock.advance(0.2)
        parts = [reported(each) for each in await receive_news(client, 3)]
        assert [len(part) for part in parts] == [50, 50, 20]
        client.close()


async def test_a_hub_with_a_small_message_limit_sends_no_news() -> None:
    async with Hub(HubConfig(max_message_bytes=100)) as hub:
        page = LivePage(hub)
        client = await connect_client(hub)
        client.subscribe("wshub:page")
        hub.publish("news", Message(type="x"))
        assert hub.stats().callback_errors == 0
        assert list(listed(page)) == ["news"]
        client.close()


async def receive_messages(client: MemoryClient, count: int) -> list[Message]:
    """Return the next messages that are not news."""
    return await _receive(client, count, lambda message: message.channel != "wshub:page")


async def receive_news(client: MemoryClient, count: int) -> list[Message]:
    return await _receive(client, count, lambda message: message.channel == "wshub:page")


async def _receive(
    client: MemoryClient, count: int, fits: Callable[[Message], bool]
) -> list[Message]:
    received: list[Message] = []
    async with asyncio.timeout(5):
        while len(received) < count:
            message = await client.receive()
            if fits(message):
                received.append(message)
    return received


def reported(news: Message) -> list[tuple[str, str | None, int | None]]:
    assert news.type == "page"
    return [(each["channel"], each["status"], each["exitCode"]) for each in news.data["channels"]]


# Pages of several hubs.


async def test_pages_of_several_hubs_show_the_channels_of_all() -> None:
    exchange = MemoryExchange()
    clock = ManualClock()
    async with Hub(clock=clock) as here, Hub(clock=clock) as there:
        pages = [LivePage(here), LivePage(there)]
        here.send_process_status("before", "running")
        here.publish("before", EVENT)
        async with MemoryBridge(here, exchange), MemoryBridge(there, exchange):
            for page in pages:
                await page.join()
            here.publish("news", EVENT)
            there.publish("news", EVENT)
            there.send_process_status("b", "exited", 3)
            clock.advance(0.5)
            expected = {
                "before": (1, None, None),
                "news": (2, None, None),
                "process:b": (1, "exited", 3),
                "process:before": (1, "running", 0),
            }
            for page in pages:
                assert listed(page) == expected
            # A hub that joins late learns of earlier messages.
            async with Hub(clock=clock) as late, MemoryBridge(late, exchange):
                page = LivePage(late)
                await page.join()
                assert listed(page) == {}
                late.send_process_status("before", "exited", 0)
                clock.advance(0.5)
                expected["process:before"] = (2, "exited", 0)
                assert listed(pages[0]) == expected
                # The late hub has the most recent status. Its count is not compared.
                expected["process:before"] = (1, "exited", 0)
                merged = listed(page)
                assert merged.pop("process:before")[1:] == ("exited", 0)
                del expected["process:before"]
                assert merged == expected
        here.publish("after", EVENT)
    clock.advance(1)


async def test_open_pages_receive_news_of_other_hubs() -> None:
    exchange = MemoryExchange()
    clock = ManualClock()
    async with Hub(NO_HISTORY, clock=clock) as here, Hub(NO_HISTORY, clock=clock) as there:
        old = LivePage(here)
        here.send_process_status("b", "running")
        async with MemoryBridge(here, exchange), MemoryBridge(there, exchange):
            await old.join()
            new = LivePage(there)
            client = await connect_client(there)
            client.subscribe("wshub:page")
            await new.join()
            clock.advance(0.5)
            assert [reported(each) for each in await receive_news(client, 1)] == [
                [("process:b", "running", 0)]
            ]
            # The process goes on, and the page follows its output from here.
            here.send_process_output("b", "line")
            assert [each.data for each in await receive_messages(client, 1)] == ["line"]
            client.close()


def junk() -> Iterator[object]:
    source = "somebody"
    yield from (None, 5, "text", [], {}, {"source": 5}, {"source": "x" * 65, "ask": True})
    yield {"source": source, "ask": "yes"}
    yield {"source": source, "channels": 5}
    for name in ("", "not a name", "x" * 257, "process:a:b", "process:"):
        yield {"source": source, "channels": {"good": {"messages": 1}, name: {"messages": 1}}}
    for activity in (
        None,
        {},
        {"messages": -1},
        {"messages": 2**60},
        {"messages": 1.5},
        {"messages": 1, "status": "x" * 65},
        {"messages": 1, "status": 5},
        {"messages": 1, "exit_code": 2**60},
        {"messages": 1, "status_at": "now"},
    ):
        yield {"source": source, "channels": {"good": {"messages": 1}, "bad": activity}}
    yield {"source": source, "channels": {f"c{number}": {"messages": 1} for number in range(51)}}
    yield {"source": source, "channels": {"wshub:page": {"messages": 1}}}


async def test_malformed_messages_between_pages_are_ignored() -> None:
    exchange = MemoryExchange()
    async with (
        Hub() as here,
        Hub() as there,
        MemoryBridge(here, exchange),
        MemoryBridge(there, exchange),
    ):
        page = LivePage(here)
        await page.join()
        for data in junk():
            there.publish("wshub:private:page", Message(type="page", data=data))
            assert listed(page) == {}, data
        assert here.stats().callback_errors == 0


async def test_answers_are_accepted_only_after_a_request_and_in_limited_number() -> None:
    exchange = MemoryExchange()
    clock = ManualClock()
    async with Hub(clock=clock) as here, Hub(clock=clock) as there:

        def answer(*channels: str, **activity: Any) -> None:
            entries: Mapping[str, Any] = {name: {"messages": 1, **activity} for name in channels}
            data = {"source": "somebody", "channels": entries}
            there.publish("wshub:private:page", Message(type="page", data=data))

        async with MemoryBridge(here, exchange), MemoryBridge(there, exchange):
            page = LivePage(here)
            await here.subscribe_all()
            answer("before")
            assert listed(page) == {}
            await page.join()
            # A status time from a clock that is ahead: a real status still replaces it.
            answer("process:a", status="running", status_at=1e12)
            assert listed(page) == {"process:a": (1, "running", None)}
            there.send_process_status("a", "exited", 1)
            answer("process:a", status="running", status_at=1e3)
            assert listed(page)["process:a"] == (2, "exited", 1)
            for part in range(330):
                answer(*(f"c{part}-{number}" for number in range(2)))
            # Two answers were accepted before.
            assert len(listed(page)) == 1 + 2 * (320 - 2)
            await page.join()
            clock.advance(10)
            answer("late")
            assert "late" not in listed(page)


async def test_many_requests_get_one_common_answer() -> None:
    exchange = MemoryExchange()
    clock = ManualClock()
    answers: list[Message] = []
    async with Hub(clock=clock) as here, Hub(clock=clock) as there:
        there.add_publish_listener(lambda _, message: answers.append(message))
        async with MemoryBridge(here, exchange), MemoryBridge(there, exchange):
            page = LivePage(here)
            await page.join()
            for number in range(120):
                here.publish(f"c{number}", EVENT)
            await there.subscribe_all()
            for number in range(100):
                data = {"source": f"s{number}", "ask": True}
                there.publish("wshub:private:page", Message(type="page", data=data))
            answers.clear()
            clock.advance(1)
            assert [len(each.data["channels"]) for each in answers] == [50, 50, 20]
