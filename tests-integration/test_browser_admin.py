"""The admin view in a real browser: on a desktop, on a phone, in the dark, by keyboard."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from browsers import launch_browser, open_page
from playwright.async_api import Browser, Locator, Page, expect
from websockets.asyncio.client import ClientConnection, connect

from wshub_core import AdminApp, AuthResult, Hub, HubConfig, Request

KEY = "a-key-with-more-than-16-characters"


def authenticate(request: Request) -> AuthResult:
    return AuthResult(True, request.query)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with launch_browser() as browser:
        yield browser


class AdminSite:
    """A hub with an admin view in a browser, and clients."""

    def __init__(self, hub: Hub, page: Page, port: int, stack: AsyncExitStack) -> None:
        self.hub = hub
        self.page = page
        self.port = port
        self._stack = stack

    async def connect(self, user_id: str, *channels: str) -> ClientConnection:
        address = f"ws://localhost:{self.port}/ws?{user_id}"
        client = await self._stack.enter_async_context(connect(address, proxy=None))
        for number, channel in enumerate(channels):
            await client.send(json.dumps({"type": "subscribe", "channel": channel, "id": number}))
            await client.recv()
        return client

    def row(self, text: str) -> Locator:
        return self.page.locator("tbody tr", has_text=text)

    def frame(self, text: str) -> Locator:
        return self.page.locator("#frames li", has_text=text)


@asynccontextmanager
async def open_admin(browser: Browser, fragment: str = f"#key={KEY}") -> AsyncIterator[AdminSite]:
    complaints: list[str] = []
    async with AsyncExitStack() as stack:
        config = HubConfig(authenticator=authenticate, max_outbox_bytes=50_000_000)
        hub = await stack.enter_async_context(Hub(config))
        server = await stack.enter_async_context(
            hub.serve("localhost", 0, http_app=AdminApp(hub, KEY))
        )
        page = await open_page(browser, f"http://localhost:{server.port}/{fragment}", complaints)
        yield AdminSite(hub, page, server.port, stack)
        await page.close()
    # The browser reports each answer with an error, and a wrong key is one.
    assert [each for each in complaints if "401" not in each and "400" not in each] == []


async def test_the_view_shows_connections_channels_and_rates(browser: Browser) -> None:
    async with open_admin(browser) as site:
        await site.connect("alice", "news", "log")
        await site.connect("bob", "news")
        await expect(site.page.locator("#state")).to_have_text("live")
        assert "key" not in site.page.url
        await expect(site.row("alice").locator("td").nth(3)).to_have_text("2")
        await expect(site.row("news").locator("td").nth(1)).to_have_text("2")
        tile = site.page.locator("#tiles div", has_text="Messages / s").locator("dd")
        await expect(tile).to_have_text("0")

        async def publish() -> None:
            while True:
                site.hub.publish_event("news", "x")
                await asyncio.sleep(0.02)

        publishing = asyncio.create_task(publish())
        await expect(tile).not_to_have_text("0")
        publishing.cancel()
        await site.page.locator("#search").fill("bob")
        await expect(site.row("alice")).to_have_count(0)
        await expect(site.row("bob")).to_have_count(1)


async def test_a_slow_consumer_is_marked(browser: Browser) -> None:
    async with open_admin(browser) as site:
        slow = await site.connect("slow", "news")
        slow.transport.pause_reading()
        for _ in range(100):
            site.hub.publish_event("news", "x" * 50_000)
        await expect(site.row("slow").locator("td.slow").first).to_contain_text("MiB")


async def test_the_key_is_asked_for(browser: Browser) -> None:
    async with open_admin(browser, "") as site:
        page = site.page
        await expect(page.locator("#key")).to_be_focused()
        await page.keyboard.type("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text("This key is wrong.")
        await page.locator("#key").fill(KEY)
        await page.keyboard.press("Enter")
        await expect(page.locator("#state")).to_have_text("live")
        await page.reload()
        await expect(page.locator("#state")).to_have_text("live")


async def test_a_user_is_traced(browser: Browser) -> None:
    async with open_admin(browser) as site:
        client = await site.connect("alice", "news")
        await site.page.locator("#kind").select_option("user")
        await site.page.locator("#traced").fill("alice")
        await site.page.keyboard.press("Enter")
        await expect(site.page.locator("#tracing")).to_have_text("tracing user alice")
        await client.send('{"type":"ping","id":"<b>7</b>"}')
        await expect(site.frame("→ hub")).to_contain_text('"id":"<b>7</b>"')
        await expect(site.frame("← hub")).to_contain_text("pong")
        site.hub.publish_event("news", "for all")
        await expect(site.frame("for all")).to_have_count(1)
        await site.page.locator("#stop").click()
        await expect(site.page.locator("#tracing")).to_have_text("stopped")
        site.hub.publish_event("news", "not traced")
        await client.send('{"type":"ping"}')
        await expect(site.frame("not traced")).to_have_count(0)


async def test_a_channel_is_traced_and_published_to(browser: Browser) -> None:
    async with open_admin(browser) as site:
        client = await site.connect("alice", "news")
        await site.page.get_by_role("button", name="Trace news").click()
        await expect(site.page.locator("#tracing")).to_have_text("tracing channel news")
        await site.page.get_by_role("button", name="Publish news").click()
        await site.page.locator("#data").fill('{"n": 1}')
        await site.page.locator("#publish button").click()
        await expect(site.page.locator("#published")).to_have_text("Published.")
        assert json.loads(await client.recv())["data"] == {"n": 1}
        await expect(site.frame('"n":1')).to_have_count(1)
        await site.page.locator("#channel").fill("no way")
        await site.page.locator("#publish button").click()
        await expect(site.page.locator("#published")).to_contain_text("no way")


async def test_disconnecting_asks_first(browser: Browser) -> None:
    async with open_admin(browser) as site:
        client = await site.connect("alice")
        button = site.row("alice").get_by_role("button", name="Disconnect")
        await button.click()
        await expect(button).to_have_text("Sure?")
        assert site.hub.stats().clients == 1
        await button.click()
        await client.wait_closed()
        await expect(site.row("alice")).to_have_count(0)


async def test_the_view_works_by_keyboard(browser: Browser) -> None:
    async with open_admin(browser) as site:
        client = await site.connect("alice")
        page = site.page
        await expect(site.row("alice")).to_have_count(1)
        await page.locator("#search").focus()
        for _ in range(3):  # the region of the table, Trace, Disconnect
            await page.keyboard.press("Tab")
        await expect(site.row("alice").get_by_role("button", name="Disconnect")).to_be_focused()
        # A snapshot comes between the two, and the focus stays.
        await page.keyboard.press("Enter")
        await asyncio.sleep(1.2)
        await page.keyboard.press("Enter")
        await client.wait_closed()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_view_fits_a_phone(browser: Browser, scheme: str) -> None:
    async with open_admin(browser) as site:
        page = site.page
        await page.set_viewport_size({"width": 360, "height": 740})
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        await site.connect("a-user-with-a-very-long-name-" * 3, "channel-" * 30)
        # Chromium measures the tiles again only with the next change.
        await page.reload()
        await expect(site.row("a-user-with")).to_have_count(1)
        width = "document.documentElement.scrollWidth"
        assert await page.evaluate(width) <= 360
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(20, 23, 28)" if scheme == "dark" else "rgb(246, 247, 249)")


async def test_the_view_says_when_the_hub_is_gone(browser: Browser) -> None:
    complaints: list[str] = []
    async with Hub() as hub:
        async with hub.serve("localhost", 0, http_app=AdminApp(hub, KEY)) as server:
            address = f"http://localhost:{server.port}/#key={KEY}"
            page = await open_page(browser, address, complaints)
            await expect(page.locator("#state")).to_have_text("live")
        await expect(page.locator("#state")).to_contain_text("no answer")
        await page.close()
