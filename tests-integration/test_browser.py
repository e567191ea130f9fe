"""The live page in a real browser."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from browsers import launch_browser, open_page
from demo_process import free_port, start_demo
from playwright.async_api import Browser, expect

from wshub_core import Hub, HubConfig, LivePage, Message

# Prints colours and a count, and exits with 3.
COUNT = (
    "import sys, time\n"
    "print('\\x1b[31;1mred and bold\\x1b[0m plain', flush=True)\n"
    "for number in range(20): print('line', number, flush=True); time.sleep(0.05)\n"
    "sys.exit(3)\n"
)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with launch_browser() as browser:
        yield browser


async def test_a_process_is_followed_live_in_two_tabs_and_through_a_restart(
    browser: Browser,
) -> None:
    port = free_port()
    command = (sys.executable, "-c", COUNT)
    complaints: list[str] = []
    async with start_demo(port, *command) as demo:
        await demo.wait_ready()
        page = await open_page(browser, f"http://localhost:{port}/", complaints)
        await expect(page.locator("#state")).to_have_text("connected")
        await expect(page.get_by_role("link", name="process:demo")).to_be_visible()
        await expect(page.locator(".line", has_text="line 19").first).to_be_visible()
        await expect(page.locator(".line", has_text="exited with 3").first).to_be_visible()
        await expect(page.locator(".fg1.bold").first).to_have_text("red and bold")
        await expect(page.locator("#status")).to_have_text("running")

        later = await open_page(browser, f"http://localhost:{port}/", complaints)
        before = await page.locator(".line").count()
        await expect(later.locator(".line", has_text="line 19").first).to_be_visible()
        assert await page.locator(".line").count() > before

        assert complaints == []
        await demo.interrupt()
        await expect(page.locator("#state")).to_have_text("connection lost, trying again")
        await expect(page.locator(".line", has_text="connection lost").first).to_be_visible()

    lines = await page.locator(".line", has_text="line 19").count()
    async with start_demo(port, *command) as demo:
        await demo.wait_ready()
        for tab in (page, later):
            await expect(tab.locator("#state")).to_have_text("connected", timeout=30_000)
        await expect(page.locator(".line", has_text="line 19")).to_have_count(
            lines + 1, timeout=30_000
        )
        assert (await demo.interrupt())[0] == 0


async def test_the_page_of_a_hub(browser: Browser) -> None:
    complaints: list[str] = []
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(Hub())
        page_of_hub = LivePage(hub)
        server = await stack.enter_async_context(
            hub.serve("localhost", 0, process_request=page_of_hub.process_request)
        )
        page = await open_page(browser, f"http://localhost:{server.port}/", complaints)
        await expect(page.locator("#state")).to_have_text("connected")

        # Following a channel that nothing has been published to yet.
        await page.get_by_label("Follow another channel").fill("process:x")
        await page.get_by_role("button", name="Follow").click()
        await expect(page.locator("#name")).to_have_text("process:x")
        await subscribed(hub, "process:x")

        # What a process prints is text, never markup.
        hub.send_process_status("x", "running")
        hub.send_process_output("x", "<img src=/missing onerror=alert(1)> \x1b[38;2;1;2;3mrgb")
        line = page.locator(".line", has_text="<img")
        await expect(line).to_have_count(1)
        assert await page.locator("#log img").count() == 0
        assert "rgb(1, 2, 3)" in str(
            await line.locator("span span").last.evaluate("each => getComputedStyle(each).color")
        )
        hub.send_process_status("x", "exited", -9)
        await expect(page.locator("#status")).to_have_text("exited with -9")
        await expect(page.get_by_role("link", name="process:x")).to_contain_text("exit -9")

        # A late tab knows how it ended.
        late = await open_page(browser, f"http://localhost:{server.port}/", complaints)
        await expect(late.locator("#status")).to_have_text("exited with -9")

        # Broadcasts and other messages are shown as they are.
        hub.send_event("deploy", {"env": "production"})
        await page.get_by_role("link", name="(broadcasts)").click()
        await expect(page.locator(".line").last).to_contain_text('"env":"production"')

        # A burst far beyond what the page keeps stays bounded, ends with the newest, and the
        # connection takes it.
        await page.get_by_role("link", name="process:x").click()
        for number in range(6_000):
            hub.send_process_output("x", f"burst {number}")
            if number % 100 == 0:
                await asyncio.sleep(0)
        await expect(page.locator(".line").last).to_contain_text("burst 5999", timeout=30_000)
        assert await page.locator(".line").count() <= 5_000
        await expect(page.locator("#state")).to_have_text("connected")
        assert complaints == []


async def test_the_log_stays_at_its_end_unless_the_reader_scrolls_up(browser: Browser) -> None:
    complaints: list[str] = []
    async with Hub() as hub:
        live_page = LivePage(hub)
        async with hub.serve("localhost", 0, process_request=live_page.process_request) as server:
            page = await open_page(browser, f"http://localhost:{server.port}/#x", complaints)
            await page.set_viewport_size({"width": 380, "height": 600})
            await expect(page.locator("#state")).to_have_text("connected")
            await subscribed(hub, "x")
            for number in range(300):
                hub.publish("x", Message(type="process_output", data=f"{number} {'long ' * 60}"))
            await expect(page.locator(".line").last).to_contain_text("299 long")
            await expect(page.locator(".line").last).to_be_in_viewport()
            await expect(page.locator("#newest")).to_be_hidden()

            await page.locator("#log").hover()
            await page.mouse.wheel(0, -3_000)
            await expect(page.locator("#newest")).to_be_visible()
            hub.publish("x", Message(type="process_output", data="unseen"))
            await expect(page.locator(".line", has_text="unseen")).to_have_count(1)
            await expect(page.locator(".line", has_text="unseen")).not_to_be_in_viewport()
            await page.locator("#newest").click()
            await expect(page.locator(".line", has_text="unseen")).to_be_in_viewport()
    assert complaints == []


async def test_a_refused_channel_says_so_and_can_be_left(browser: Browser) -> None:
    complaints: list[str] = []
    config = HubConfig(channel_authorizer=lambda _, channel: channel != "secret")
    async with Hub(config) as hub:
        live_page = LivePage(hub)
        async with hub.serve("localhost", 0, process_request=live_page.process_request) as server:
            page = await open_page(browser, f"http://localhost:{server.port}/#secret", complaints)
            refusal = page.locator(".line.bad", has_text="subscription unauthorised")
            await expect(refusal).to_have_count(1)
            await page.get_by_label("Follow another channel").fill("open")
            await page.keyboard.press("Enter")
            await subscribed(hub, "open")
            await expect(page.get_by_role("link", name="open")).to_have_attribute(
                "aria-current", "true"
            )
            await page.get_by_role("button", name="Stop following").click()
            async with asyncio.timeout(10):
                while hub.channels:  # noqa: ASYNC110 - the browser brings it about
                    await asyncio.sleep(0.01)
            await expect(page.get_by_role("link", name="open")).to_have_count(0)
            # Nothing opens by itself any more, now that somebody has chosen.
            hub.publish("news", Message(type="event"))
            await expect(page.get_by_role("link", name="news")).to_be_visible()
            await expect(page.locator("#name")).to_have_text("Choose a channel")
            # A fragment that is no text is no channel, and no error either.
            await page.goto(f"http://localhost:{server.port}/#%E0%A4%A")
            await expect(page.locator("#state")).to_have_text("connected")
    assert complaints == []


async def subscribed(hub: Hub, channel: str) -> None:
    async with asyncio.timeout(10):
        while channel not in hub.channels:  # noqa: ASYNC110 - the browser brings it about
            await asyncio.sleep(0.01)
