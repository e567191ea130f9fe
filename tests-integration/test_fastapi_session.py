"""The FastAPI example as a process, from outside: with an HTTP client and with a browser."""

import asyncio
import json

import httpx
import pytest
from browsers import launch_browser, open_page
from example_sites import run_site
from playwright.async_api import expect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin


async def receive(socket: ClientConnection) -> str:
    async with asyncio.timeout(5):
        text: str = json.loads(await socket.recv())["data"]
        return text


async def test_a_session_a_ticket_and_neither() -> None:
    async with run_site("fastapi_session") as site, httpx.AsyncClient(base_url=site.address) as web:
        with pytest.raises(InvalidStatus, match="401"):
            await connect(site.hub, proxy=None)
        assert (await web.post("/ticket")).status_code == 401
        assert (await web.post("/login", data={"user": "alice"})).status_code == 303
        cookie = {"Cookie": f"session={web.cookies['session']}"}
        forged = {"Cookie": f"session={web.cookies['session'][:-2]}xx"}
        with pytest.raises(InvalidStatus, match="401"):
            await connect(site.hub, proxy=None, additional_headers=forged)
        with pytest.raises(InvalidStatus, match="403"):
            await connect(
                site.hub,
                proxy=None,
                additional_headers=cookie,
                origin=Origin("https://evil.example"),
            )
        ticket = (await web.post("/ticket")).json()
        async with (
            connect(site.hub, proxy=None, additional_headers=cookie) as first,
            connect(f"{site.hub}?ticket={ticket}", proxy=None) as second,
        ):
            for socket in (first, second):
                for channel in ("user:bob", "user:alice"):
                    await socket.send(json.dumps({"type": "subscribe", "channel": channel}))
                assert await receive(socket) == "Subscribe: subscription unauthorised"
                await socket.send(json.dumps({"type": "ping"}))
                await socket.recv()
            assert (await web.post("/news", data={"text": "hello"})).status_code == 200
            assert [await receive(first), await receive(second)] == ["hello", "hello"]
        with pytest.raises(InvalidStatus, match="401"):
            await connect(f"{site.hub}?ticket={ticket}", proxy=None)
    assert "ticket=***" in site.log
    assert ticket not in site.log
    assert "Traceback" not in site.log


async def test_a_browser_logs_in_and_hears_its_news() -> None:
    async with launch_browser() as browser, run_site("fastapi_session") as site:
        complaints: list[str] = []
        page = await open_page(browser, site.address, complaints)
        await page.fill("input[name=user]", "alice")
        await page.click("button")
        await expect(page.locator("#state")).to_have_text("connected as alice")
        await page.fill("input[name=text]", "it works")
        await page.click("button")
        await expect(page.locator("#news li")).to_have_text(["it works"])
        assert [each for each in complaints if "favicon" not in each and "404" not in each] == []
