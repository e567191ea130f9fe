"""A hub with its live page in a browser, for the tests that look at the page."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from browsers import open_page
from playwright.async_api import Browser, Locator, Page, expect

from wshub_core import Hub, HubConfig, LivePage

NO_HISTORY: dict[str, Any] = {"process:*": None}
"""The setting `HubConfig.history` without which the page makes the hub keep histories."""


async def subscribed(hub: Hub, channel: str, count: int = 1) -> None:
    async with asyncio.timeout(10):
        while hub.subscriber_count(channel) < count:  # noqa: ASYNC110 - the browser does it
            await asyncio.sleep(0.01)


async def unsubscribed(hub: Hub, channel: str) -> None:
    async with asyncio.timeout(10):
        while hub.subscriber_count(channel) > 0:  # noqa: ASYNC110 - the browser does it
            await asyncio.sleep(0.01)


def line(page: Page, text: str | re.Pattern[str]) -> Locator:
    """Return the lines in sight that have a text."""
    return page.locator(".line", has_text=text)


async def download(page: Page) -> list[str]:
    """Return all lines of the log, in sight or not, as the reader can save them."""
    # Messages are drawn at the next frame, and the log has them before.
    async with page.expect_download() as downloading:
        await page.get_by_role("button", name="Download").click()
    path = await (await downloading.value).path()
    return Path(path).read_text().splitlines()  # noqa: ASYNC240 - a small file


class Site:
    """A hub, and its page in a browser."""

    def __init__(self, hub: Hub, page: Page, port: int) -> None:
        self.hub = hub
        self.page = page
        self.port = port

    async def lines(self) -> list[str]:
        """Return the lines of the log, without their times."""
        return await download(self.page)

    async def open(self, channel: str) -> None:
        await self.page.get_by_role("link", name=channel, exact=False).first.click()
        await expect(self.page.locator("#name")).to_have_text(channel)

    async def publish(self, process_id: str, count: int, prefix: str = "line") -> None:
        """Publish numbered lines, in turns that leave the hub the time to send them."""
        for number in range(count):
            self.hub.send_process_output(process_id, f"{prefix} {number}")
            if number % 100 == 99:
                await self.hub.drain()
                await asyncio.sleep(0)


@asynccontextmanager
async def open_site(browser: Browser, fragment: str = "", **settings: Any) -> AsyncIterator[Site]:
    """Serve a hub and open its page; fail if the browser's console has errors at the end."""
    complaints: list[str] = []
    async with Hub(HubConfig(**settings)) as hub:
        live_page = LivePage(hub)
        async with hub.serve("localhost", 0, process_request=live_page.process_request) as server:
            address = f"http://localhost:{server.port}/{fragment}"
            page = await open_page(browser, address, complaints)
            await expect(page.locator("#state")).to_have_text("connected")
            yield Site(hub, page, server.port)
            assert complaints == []
            await page.close()
