import json
from importlib.resources import files

import pytest

from wshub_core import Hub, LivePage, Message, MessageType, Request
from wshub_core.edges import page as page_module
from wshub_core.testing import ManualClock, MemoryBridge, MemoryExchange


def get(page: LivePage, path: str) -> bytes:
    response = page.process_request(Request("GET", path))
    assert response is not None
    assert response.status == 200
    return response.body


async def test_every_file_of_the_page_is_served_and_links_only_to_others() -> None:
    async with Hub() as hub:
        page = LivePage(hub)
        folder = files("wshub_core") / "edges" / "page_files"
        shipped = {f"edges/page_files/{entry.name}" for entry in folder.iterdir()}
        served = {name for name, _ in page_module._FILES.values()}
        assert served == {*shipped, "browser/wshub.js"}
        for path in page_module._FILES:
            assert b"http://" not in get(page, path)
            assert b"https://" not in get(page, path)


async def test_responses_forbid_foreign_scripts() -> None:
    async with Hub() as hub:
        response = LivePage(hub).process_request(Request("GET", "/"))
        assert response is not None
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_list_holds_channels_that_were_published_to() -> None:
    async with Hub() as hub:
        page = LivePage(hub)
        hub.publish("news", Message(type="event", data=1))
        hub.send_process_status("build-42", "exited", 2)
        hub.send_event("broadcasts are in no channel")
        assert json.loads(get(page, "/channels")) == {
            "channels": [
                {
                    "channel": "news",
                    "subscribers": 0,
                    "messages": 1,
                    "status": None,
                    "exitCode": None,
                },
                {
                    "channel": "process:build-42",
                    "subscribers": 0,
                    "messages": 1,
                    "status": "exited",
                    "exitCode": 2,
                },
            ]
        }


@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("GET", "/other"), ("GET", "/../x")])
async def test_other_requests_are_not_the_pages(method: str, path: str) -> None:
    async with Hub() as hub:
        assert LivePage(hub).process_request(Request(method, path)) is None


async def test_pages_of_several_hubs_show_the_channels_of_all() -> None:
    exchange = MemoryExchange()
    clock = ManualClock()
    async with Hub(clock=clock) as here, Hub(clock=clock) as there:
        pages = [LivePage(here), LivePage(there)]
        here.publish("before", Message(type=MessageType.EVENT))
        async with MemoryBridge(here, exchange), MemoryBridge(there, exchange):
            for page in pages:
                await page.join()
            here.publish("news", Message(type=MessageType.EVENT))
            there.publish("news", Message(type=MessageType.EVENT))
            there.send_process_status("b", "exited", 3)
            clock.advance(0.5)
            for page in pages:
                channels = json.loads(get(page, "/channels"))["channels"]
                found = [(each["channel"], each["messages"], each["status"]) for each in channels]
                assert found == [("before", 1, None), ("news", 2, None), ("process:b", 1, "exited")]
            # One that comes late learns what was published before it was there.
            async with Hub(clock=clock) as late, MemoryBridge(late, exchange):
                page = LivePage(late)
                await page.join()
                clock.advance(0.5)
                names = [each["channel"] for each in json.loads(get(page, "/channels"))["channels"]]
                assert names == ["before", "news", "process:b"]
            # What nobody but a page says is junk from anybody else.
            here.publish("wshub:page", Message(type="page", data={"source": 5}))
            here.publish("wshub:page", Message(type="page", data=None))
        here.publish("after", Message(type=MessageType.EVENT))
    clock.advance(1)
