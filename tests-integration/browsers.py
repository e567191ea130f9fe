"""A real browser, for the tests that look at pages."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from chromium import CHROMIUMS, OPTIONS, find_chromium
from playwright.async_api import Browser, Page, async_playwright


@asynccontextmanager
async def launch_browser() -> AsyncIterator[Browser]:
    path = find_chromium()
    if path is None:
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
