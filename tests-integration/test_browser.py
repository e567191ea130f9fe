"""The live page in a real browser."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from browsers import launch_browser, open_page
from demo_process import free_port, start_demo
from page_site import NO_HISTORY, download, open_site, subscribed, unsubscribed
from playwright.async_api import Browser, expect

from wshub_core import Connection, Hub, HubConfig, LivePage, Message, run_process

# A program that prints colors and a count, and exits with 3.
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
        await expect(later.locator(".line", has_text="line 19").first).to_be_visible()
        # Both have the log from its beginning.
        lines = await download(page)
        assert lines[:2] == ["running", "red and bold plain"]
        async with asyncio.timeout(10):
            while (await download(later))[: len(lines)] != lines:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

        assert complaints == []
        await demo.interrupt()
        await expect(page.locator("#state")).to_have_text("connection lost, trying again")

    async with start_demo(port, *command) as demo:
        await demo.wait_ready()
        for tab in (page, later):
            await expect(tab.locator("#state")).to_have_text("connected", timeout=30_000)
            await expect(tab.locator(".line", has_text="line 19").first).to_be_visible()
            assert (await download(tab))[:2] == ["The hub has begun a new log.", "running"]
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

        # The page follows a channel to which nothing has been published yet.
        await page.get_by_label("Follow another channel").fill("process:x")
        await page.get_by_role("button", name="Follow").click()
        await expect(page.locator("#name")).to_have_text("process:x")
        await subscribed(hub, "process:x")

        # The output of a process is text and never markup.
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

        # A tab that is opened later shows the exit code.
        late = await open_page(browser, f"http://localhost:{server.port}/", complaints)
        await expect(late.locator("#status")).to_have_text("exited with -9")

        # Broadcasts and messages of other types are shown as they are.
        hub.send_event("deploy", {"env": "production"})
        await page.get_by_role("link", name="(broadcasts)").click()
        await expect(page.locator(".line").last).to_contain_text('"env":"production"')

        # The page keeps the newest lines of a burst, and the connection survives it.
        await page.get_by_role("link", name="process:x").click()
        for number in range(6_000):
            hub.send_process_output("x", f"burst {number}")
            if number % 100 == 0:
                await asyncio.sleep(0)
        await expect(page.locator(".line").last).to_contain_text("burst 5999", timeout=30_000)
        await expect(page.locator("#count")).to_have_text("6,001 lines")
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
            await expect(page.locator("#count")).to_have_text("301 lines")
            await expect(page.locator(".line", has_text="unseen")).not_to_be_in_viewport()
            await page.locator("#newest").click()
            await expect(page.locator(".line", has_text="unseen")).to_be_in_viewport()
    assert complaints == []


async def test_a_refused_channel_shows_the_refusal_and_can_be_left(browser: Browser) -> None:
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
            await page.get_by_role("button", name="Unfollow").click()
            await unsubscribed(hub, "open")
            await expect(page.get_by_role("link", name="open")).to_have_count(0)
            # After the reader has chosen a channel, the page opens no other channel by itself.
            hub.publish("news", Message(type="event"))
            await expect(page.get_by_role("link", name="news")).to_be_visible()
            await expect(page.locator("#name")).to_have_text("Choose a channel")
            # A fragment that is no valid text is ignored.
            await page.goto(f"http://localhost:{server.port}/#%E0%A4%A")
            await expect(page.locator("#state")).to_have_text("connected")
    assert complaints == []


# The channels and lines of an open page.


@pytest.mark.parametrize("history", [{}, NO_HISTORY], ids=["history", "live"])
async def test_a_process_that_starts_and_ends_at_once_shows_all_its_lines(
    browser: Browser, history: dict[str, Any]
) -> None:
    code = "for number in range(50): print('line', number)"
    expected = ["running", *(f"line {number}" for number in range(50)), "exited with 0"]
    async with open_site(browser, history=history) as site:
        runs = [run_process(site.hub, f"p{n}", sys.executable, "-c", code) for n in range(3)]
        assert await asyncio.gather(*runs) == [0, 0, 0]
        for number in range(3):
            await site.open(f"process:p{number}")
            await expect(site.page.locator(".line", has_text="exited with 0")).to_have_count(1)
            assert await site.lines() == expected
        # The same process runs once more.
        await run_process(site.hub, "p2", sys.executable, "-c", code)
        await expect(site.page.locator("#count")).to_have_text("100 lines")
        await expect(site.page.locator("#status")).to_have_text("exited with 0")
        assert await site.lines() == expected * 2


async def test_a_page_that_is_opened_meanwhile_follows_the_running_process(
    browser: Browser,
) -> None:
    async with open_site(browser, history=NO_HISTORY) as site:
        for name in ("a", "b"):
            site.hub.send_process_status(name, "running")
        site.hub.send_process_status("c", "running")
        site.hub.send_process_status("c", "exited", 1)
        complaints: list[str] = []
        late = await open_page(browser, f"http://localhost:{site.port}/", complaints)
        await expect(late.locator("#name")).to_have_text("process:a")
        await subscribed(site.hub, "process:b", 2)
        assert site.hub.subscriber_count("process:c") == 1
        # The reader has not looked at this process yet.
        site.hub.send_process_output("b", "unseen")
        site.hub.send_process_output("c", "here again")
        for name, text in (("b", "unseen"), ("c", "here again")):
            await late.get_by_role("link", name=f"process:{name}").click()
            await expect(late.locator(".line", has_text=text)).to_have_count(1)
        assert complaints == []


@pytest.mark.parametrize("history", [{}, NO_HISTORY], ids=["history", "live"])
async def test_lines_that_come_while_another_channel_is_shown_are_kept(
    browser: Browser, history: dict[str, Any]
) -> None:
    async with open_site(browser, history=history) as site:
        page = site.page
        for name in ("a", "b"):
            site.hub.send_process_status(name, "running")
        for number in range(30):
            for name in ("a", "b"):
                site.hub.send_process_output(name, f"{name} {number}")
            await site.open(f"process:{'ab'[number % 2]}")
        site.hub.send_process_status("b", "exited", 2)
        for name in ("a", "b", "a", "b"):
            await site.open(f"process:{name}")
            await expect(page.locator(".line", has_text=f"{name} 29")).to_have_count(1)
            output = [line for line in await site.lines() if line.startswith(name)]
            assert output == [f"{name} {number}" for number in range(30)]
            # Notes do not count as lines of output.
            await expect(page.locator("#count")).to_have_text("30 lines")
        await expect(page.locator("#status")).to_have_text("exited with 2")
        await expect(page.get_by_role("link", name="process:b")).to_contain_text("exit 2")
        await page.get_by_role("button", name="Clear").click()
        await expect(page.locator("#count")).to_have_text("0 lines")
        assert await site.lines() == []
        await expect(page.locator("#status")).to_have_text("exited with 2")


async def test_the_list_and_the_title_agree_on_the_status(browser: Browser) -> None:
    # The script compares them in every frame of the screen.
    watch = """() => {
      globalThis.disagreements = [];
      const look = () => {
        const title = document.getElementById("status").textContent;
        const badge = document.querySelector("[aria-current] .badge");
        const listed = badge === null || badge.hidden ? "" : badge.textContent;
        const expected = title.replace("exited with", "exit");
        if (listed !== expected) disagreements.push([title, listed]);
        requestAnimationFrame(look);
      };
      look();
    }"""
    async with open_site(browser) as site:
        site.hub.send_process_status("a", "running")
        await expect(site.page.locator("#status")).to_have_text("running")
        await site.page.evaluate(watch)
        for number in range(100):
            site.hub.send_process_status("a", "exited" if number % 2 else "running", number)
            await asyncio.sleep(0.005)
        await expect(site.page.locator("#status")).to_have_text("exited with 99")
        await expect(site.page.get_by_role("link", name="process:a")).to_contain_text("exit 99")
        assert await site.page.evaluate("disagreements") == []


async def test_a_line_that_overwrites_replaces_the_line_before(browser: Browser) -> None:
    async with open_site(browser) as site:
        hub = site.hub
        hub.send_process_output("a", "first", overwrites=True)
        hub.send_process_status("a", "running")
        hub.send_process_output("a", "building", overwrites=True)
        hub.send_process_output("a", "0 %")
        hub.send_process_output("b", "of another", overwrites=True)
        for percent in range(10, 101, 10):
            hub.send_process_output("a", f"{percent} %", overwrites=True)
            await asyncio.sleep(0.01)  # so that the page draws some of the lines separately
        hub.publish("process:a", Message(type="event", data=1))
        hub.send_process_output("a", "\x1b[32mdone", overwrites=True)
        hub.send_process_output("a", "last")
        await expect(site.page.locator(".line", has_text="last")).to_have_count(1)
        assert await site.lines() == ["first", "running", "building", "done", "event 1", "last"]
        await expect(site.page.locator("#count")).to_have_text("5 lines")
        await expect(site.page.locator(".fg2").first).to_have_text("done")
        # Lines of a channel that is not shown are replaced, too.
        await site.open("process:b")
        hub.send_process_output("a", "over", overwrites=True)
        await site.open("process:a")
        await expect(site.page.locator(".line", has_text="over")).to_have_count(1)
        assert (await site.lines())[-2:] == ["event 1", "over"]


def odd_messages() -> list[dict[str, Any]]:
    """Return unusual messages that the protocol allows."""
    channel = "process:a"
    datas: list[Any] = [
        *(None, True, 0, -1.5, 2**70, "", " ", [], {}, [None], {"status": None}),
        {"status": "exited"},
        {"status": "exited", "exitCode": "3"},
        {"status": "exited", "exitCode": 2**70},
        {"status": ["exited"], "exitCode": {}},
        {"status": "x" * 60_000},
        {"toString": 1, "valueOf": 1, "toJSON": 1, "__proto__": {"status": "exited"}},
        json.loads("[" * 500 + "]" * 500),
        "x" * 65_000,
        "\n\r\t\v\x00\x7f\u2028\u202e\ufeff\ufffd",
        "\x1b",
        "\x1b[",
        "\x1b[" * 20_000,
        "\x1b]8;;http://x" + "y" * 1_000,
        "\x1b[38;5;999m\x1b[38;2m\x1b[48;2;999999999999;-1;zm\x1b[38:2::1:2:3m?",
        "\x1b[" + "1;" * 20_000 + "m.",
        "\x1b[1mx" * 8_000,
        "<script>globalThis.hacked = true</script>",
    ]
    types = (
        *("process_output", "process_status", "event", "error", "page", "pong", "unknown", " "),
        *("history_cleared", "history_position"),
    )
    frames: list[dict[str, Any]] = [
        {"type": each, "channel": channel, "data": data} for each in types for data in datas
    ]
    frames += [{"type": each, "channel": channel} for each in types]
    timestamps: list[Any] = ["", "never", "0001-01-01T00:00:00Z", "9999-99-99T00:00:00Z", 5, 1e300]
    for timestamp in [*timestamps, {}]:
        frames.append({"type": "process_output", "channel": channel, "timestamp": timestamp})
    for name in ("", "(broadcasts)", "not a name", "x" * 60_000, "wshub:page", "process:a:b", "__"):
        frames.append({"type": "event", "channel": name, "data": {"channels": [None, 5, {}]}})
        frames.append({"type": "process_status", "channel": name, "data": {"status": "exited"}})
    entries: list[Any] = [None, 5, [], {"channel": 5}, {"channel": "a b"}]
    for entry in [*entries, {"channel": "x", "status": 5}]:
        data = {"channels": [entry]}
        frames.append({"type": "page", "channel": "wshub:page", "data": data})
    overwritings: list[Any] = ["yes", 1, {}, None, True]
    for overwrites in overwritings:
        frames.append({"type": "process_output", "channel": channel, "overwrites": overwrites})
    frames.append({"type": "process_output", "channel": channel, "processId": "b", "id": {}})
    positions: list[Any] = [0, -1, 1.5, 2**70, "1", None, {}]
    for offset in positions:
        for epoch in ("abcdefgh", "", 5, None):
            frames.append(
                {"type": "process_output", "channel": channel, "offset": offset, "epoch": epoch}
            )
    return frames


async def test_the_page_survives_every_message(browser: Browser) -> None:
    frames = [json.dumps({"type": "event", "channel": "process:a"})]
    frames += [json.dumps(frame) for frame in odd_messages()]
    async with open_site(browser, max_outbox_bytes=2**28) as site:
        # The frames bypass the checks of the hub, because a page must survive every server.
        send = """(frames) => {
          for (const data of frames) for (const socket of sockets) {
            socket.dispatchEvent(new MessageEvent("message", { data }));
          }
        }"""
        await site.page.add_init_script(
            """{
              const Native = WebSocket;
              globalThis.sockets = [];
              globalThis.WebSocket = class extends Native {
                constructor(...given) { super(...given); sockets.push(this); }
              };
            }"""
        )
        await site.page.reload()
        await expect(site.page.locator("#state")).to_have_text("connected")
        await site.page.evaluate(send, frames)
        site.hub.send_process_output("a", "good")
        site.hub.send_process_status("a", "exited", 0)
        await site.open("process:a")
        await expect(site.page.locator(".line").last).to_contain_text("exited with 0")
        assert (await site.lines())[-2] == "good"
        await expect(site.page.locator("#status")).to_have_text("exited with 0")
        for name in ("(broadcasts)", "__", "process:a"):
            await site.open(name)
        assert await site.page.evaluate("globalThis.hacked") is None


async def test_the_channels_and_lines_of_a_page_are_bounded(browser: Browser) -> None:
    async with open_site(browser, history=NO_HISTORY, max_outbox_bytes=2**28) as site:
        hub = site.hub
        hub.send_process_output("shown", "first")
        await site.open("process:shown")
        for number in range(120):
            hub.send_process_output(f"p{number:03}", "line")
            await asyncio.sleep(0)
        # The page unsubscribes from the channels that have been silent longest.
        await unsubscribed(hub, "process:p020")
        assert hub.subscriber_count("process:shown") == 1
        assert hub.subscriber_count("process:p119") == 1
        assert sum(name.startswith("process:") for name in hub.channels) == 100
        # These channels stay in the list, and can be chosen.
        await site.open("process:p000")
        await subscribed(hub, "process:p000")
        hub.send_process_output("p000", "again")
        await expect(site.page.locator(".line", has_text="again")).to_have_count(1)
        # A few long lines reach the bound in characters.
        for _ in range(400):
            hub.send_process_output("p000", "x" * 60_000)
            await hub.drain()
            await asyncio.sleep(0)
        hub.send_process_output("p000", "end")
        await expect(site.page.locator(".line", has_text="end")).to_have_count(1, timeout=30_000)
        kept = len(await site.lines())
        assert 0.98 < kept / (20_000_000 / 60_000) <= 1
        await expect(site.page.locator("#count")).to_have_text(f"last {kept} of 402 lines")


async def test_messages_of_a_channel_that_was_left_are_ignored(browser: Browser) -> None:
    async with open_site(browser, history=NO_HISTORY) as site:
        site.hub.send_process_status("a", "running")
        await site.open("process:a")
        # These messages are on their way when the reader leaves the channel.
        flooding = asyncio.create_task(flood(site.hub, "a"))
        await site.page.get_by_role("button", name="Unfollow").click()
        await unsubscribed(site.hub, "process:a")
        flooding.cancel()
        site.hub.send_process_status("a", "exited", 0)
        site.hub.send_process_status("a", "running")
        await expect(site.page.locator("#name")).to_have_text("Choose a channel")
        await site.open("process:a")
        site.hub.send_process_output("a", "here again")
        await expect(site.page.locator(".line", has_text="here again")).to_have_count(1)
        assert await site.lines() == [
            "the log begins here: the hub keeps no history of this channel",
            "here again",
        ]


async def flood(hub: Hub, process_id: str) -> None:
    while True:
        hub.send_process_output(process_id, "x")
        await asyncio.sleep(0.001)


async def test_a_page_that_was_disconnected_follows_processes_that_began_meanwhile(
    browser: Browser,
) -> None:
    async with open_site(browser, history=NO_HISTORY) as site:
        site.hub.send_process_output("a", "before")
        await site.open("process:a")
        [connection] = site.hub.connections
        await connection.close(1012)
        for name in ("b", "c"):
            site.hub.send_process_status(name, "running")
        await subscribed(site.hub, "process:c")
        site.hub.send_process_output("c", "after")
        site.hub.send_process_output("a", "after")
        await expect(site.page.locator(".line", has_text="after")).to_have_count(1)
        assert await site.lines() == [
            *("before", "connection lost", "connected, following from here", "after")
        ]
        # Notes do not count as lines.
        await expect(site.page.locator("#count")).to_have_text("2 lines")
        await site.open("process:c")
        await expect(site.page.locator(".line", has_text="after")).to_have_count(1)


async def test_a_page_without_permission_for_the_news_channel_polls_the_list(
    browser: Browser,
) -> None:
    def authorize(_: Connection, channel: str) -> bool:
        return not channel.startswith("wshub:")

    async with open_site(browser, history=NO_HISTORY, channel_authorizer=authorize) as site:
        await expect(site.page.locator("#name")).to_have_text("No channels yet")
        site.hub.send_process_status("a", "running")
        await expect(site.page.locator("#name")).to_have_text("process:a")
        await subscribed(site.hub, "process:a")
        site.hub.send_process_status("b", "running")
        await subscribed(site.hub, "process:b")


async def test_an_invalid_channel_name_is_not_followed(browser: Browser) -> None:
    async with open_site(browser, f"#{'x' * 70_000}") as site:
        await expect(site.page.locator("#name")).to_have_text("No channels yet")
        assert site.hub.channels == ("wshub:page",)
