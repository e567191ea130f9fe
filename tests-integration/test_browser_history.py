"""The live page that is opened in the middle of a process, or has lost its connection."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from browsers import launch_browser, open_page
from page_site import Site, download, line, open_site, subscribed
from playwright.async_api import Browser, Page, expect

from wshub_core import Hub, HubConfig, LivePage, run_process
from wshub_core.values.history import HistoryLimits


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with launch_browser() as browser:
        yield browser


def history(messages: int = 200_000) -> dict[str, Any]:
    return {"process:*": HistoryLimits(messages=messages, bytes=2**26)}


async def reload(site: Site, complaints: list[str] | None = None) -> Page:
    """Open the page of a site in another tab."""
    address = f"http://localhost:{site.port}/"
    page = await open_page(site.page.context.browser, address, complaints or [])  # type: ignore[arg-type]
    await expect(page.locator("#state")).to_have_text("connected")
    return page


async def test_a_page_that_is_opened_in_the_middle_shows_the_log_without_a_seam(
    browser: Browser,
) -> None:
    total = 12_000
    expected = ["running", *(f"line {number}" for number in range(total)), "exited with 0"]
    async with open_site(browser, history=history()) as site:
        site.hub.send_process_status("b", "running")
        publishing = asyncio.create_task(site.publish("b", total))
        pages = [site.page]
        for _ in range(2):
            await asyncio.sleep(0.3)
            pages.append(await reload(site))
        await site.page.reload()
        await publishing
        site.hub.send_process_status("b", "exited", 0)
        for page in pages:
            await expect(page.locator("#name")).to_have_text("process:b")
            await expect(line(page, "exited with 0")).to_be_visible(timeout=30_000)
            assert await download(page) == expected
            await expect(page.locator("#count")).to_have_text("12,000 lines")
            await expect(page.locator("#beginning")).to_be_hidden()


async def test_the_page_says_how_many_lines_are_no_longer_kept(browser: Browser) -> None:
    async with open_site(browser, history=history(500)) as site:
        await site.publish("b", 2_000)
        page = await reload(site)
        await expect(line(page, "line 1999")).to_be_visible()
        assert await download(page) == [f"line {number}" for number in range(1_500, 2_000)]
        await page.locator("#log").press("Home")
        await expect(page.locator("#beginning")).to_be_in_viewport()
        await expect(page.locator("#beginning")).to_have_text(
            "The first 1,500 lines are no longer kept."
        )
        await expect(line(page, "line 1500")).to_be_in_viewport()


async def test_lines_that_were_missed_come_after_a_lost_connection(browser: Browser) -> None:
    async with open_site(browser, history=history()) as site:
        site.hub.send_process_output("b", "before")
        await expect(line(site.page, "before")).to_be_visible()
        for connection in site.hub.connections:
            await connection.close(1012)
        await site.publish("b", 300)
        await expect(line(site.page, "line 299")).to_be_visible()
        # Nothing is missing, so the log says nothing of the connection.
        assert await site.lines() == ["before", *(f"line {number}" for number in range(300))]


async def test_a_gap_is_noted_in_the_log_at_its_place(browser: Browser) -> None:
    async with open_site(browser, history=history(100)) as site:
        await site.publish("b", 50, "early")
        await expect(line(site.page, "early 49")).to_be_visible()
        for connection in site.hub.connections:
            await connection.close(1013, "retry-after: 1")
        await site.publish("b", 400)
        await expect(line(site.page, "line 399")).to_be_visible(timeout=15_000)
        assert await site.lines() == [
            *(f"early {number}" for number in range(50)),
            "300 lines missing here: the hub no longer keeps them",
            *(f"line {number}" for number in range(300, 400)),
        ]


async def test_a_hub_that_has_begun_anew_begins_a_new_log(browser: Browser) -> None:
    complaints: list[str] = []
    port = 0
    page: Page | None = None
    for text in ("old", "new"):
        async with Hub(HubConfig(history=history())) as hub:
            live_page = LivePage(hub)
            answer = live_page.process_request
            async with hub.serve("localhost", port, process_request=answer) as server:
                port = server.port
                for number in range(3):
                    hub.send_process_output("b", f"{text} {number}")
                if page is None:
                    page = await open_page(browser, f"http://localhost:{port}/", complaints)
                await expect(line(page, f"{text} 2")).to_be_visible(timeout=30_000)
                lines = await download(page)
    assert lines == ["The hub has begun a new log.", "new 0", "new 1", "new 2"]


async def test_a_history_that_is_cleared_clears_the_log(browser: Browser) -> None:
    async with open_site(browser, history=history()) as site:
        await site.publish("b", 10)
        await expect(line(site.page, "line 9")).to_be_visible()
        await site.hub.clear_history("process:b")
        await expect(line(site.page, "The log was cleared.")).to_be_visible()
        await site.publish("b", 2, "after")
        await expect(line(site.page, "after 1")).to_be_visible()
        assert await site.lines() == ["The log was cleared.", "after 0", "after 1"]


async def test_only_the_shown_channel_is_sent_to_the_page(browser: Browser) -> None:
    async with open_site(browser, history=history()) as site:
        for name in ("a", "b", "c"):
            site.hub.send_process_status(name, "running")
            await site.publish(name, 5, name)
        await expect(site.page.locator("#name")).to_have_text("process:a")
        await expect(site.page.get_by_role("link", name="process:c")).to_be_visible()
        assert site.hub.channels == ("process:a", "wshub:page")
        await site.open("process:c")
        await expect(line(site.page, "c 4")).to_be_visible()
        assert await site.lines() == ["running", *(f"c {number}" for number in range(5))]


async def test_without_a_history_the_log_says_that_it_begins_here(browser: Browser) -> None:
    async with open_site(browser, history={"process:*": None}) as site:
        site.hub.send_process_status("b", "running")
        await expect(line(site.page, "running")).to_be_visible()
        # The page has received all lines so far.
        assert await site.lines() == ["running"]
        late = await reload(site)
        await subscribed(site.hub, "process:b", 2)
        await expect(line(late, "the hub keeps no history of this channel")).to_be_visible()
        site.hub.send_process_output("b", "next")
        await expect(line(late, "next")).to_be_visible()
        assert await download(late) == [
            "the log begins here: the hub keeps no history of this channel",
            "next",
        ]


async def test_finished_processes_are_listed_with_exit_status_and_duration(
    browser: Browser,
) -> None:
    async with open_site(browser, history=history()) as site:
        page = site.page
        code = "import time; time.sleep(1.2); raise SystemExit(3)"
        site.hub.send_process_status("runs", "running")
        await run_process(site.hub, "first", sys.executable, "-c", code)
        await run_process(site.hub, "second", sys.executable, "-c", "")
        site.hub.publish_event("news", 1)
        late = await reload(site)
        for each in (page, late):
            finished = each.locator("#finished a")
            await expect(finished).to_have_count(2)
            # The last one comes first.
            await expect(finished.first).to_contain_text(re.compile(r"process:second\d\.\d s"))
            await expect(finished.last).to_contain_text(
                re.compile(r"process:first[1-9]\.\d sexit 3")
            )
            await expect(each.locator("#running a")).to_have_text(["process:runsrunning"])
            await expect(each.locator("#others a")).to_have_text(["news"])
        await late.get_by_role("link", name="process:first").click()
        await expect(late.locator("#status")).to_have_text("exited with 3")
        await expect(late.locator("#duration")).to_have_text(re.compile(r"^[1-9]\.\d s$"))
        # A process that runs shows the time since its start.
        await late.get_by_role("link", name="process:runs").click()
        await expect(late.locator("#duration")).to_have_text(re.compile(r"^\d+ s$"))
        # The same process runs again.
        site.hub.send_process_status("first", "running")
        await expect(page.locator("#running a")).to_have_count(2)
        await expect(page.locator("#finished a")).to_have_count(1)
