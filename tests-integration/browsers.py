"""A real browser, for the tests that look at pages."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, async_playwright

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Chromium's own traffic to its maker is off: these tests talk to this machine only.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, CHROMIUMS)), None)


@asynccontextmanager
async def launch_browser() -> AsyncIterator[Browser]:
    path = find_chromium()
    if path is None:
        import pytest  # benchmarks run without it

        if "WSHUB_REQUIRE_BROWSER" in os.environ:
            pytest.fail("no Chromium on PATH, and WSHUB_REQUIRE_BROWSER is set")
        pytest.skip(f"no Chromium on PATH (looked for {', '.join(CHROMIUMS)})")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        await browser.close()


async def open_page(browser: Browser, address: str, complaints: list[str]) -> Page:
    page = await browser.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    await page.goto(address)
    return page
