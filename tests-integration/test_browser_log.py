"""The log of the live page: long logs, the search, errors, links to lines, copies."""

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from browsers import launch_browser, open_page
from page_site import Site, download, line, open_site
from playwright.async_api import Browser, Page, expect

from wshub_core import HistoryLimits, Message

# The rows of the lines in sight, from top to bottom: the text, the top and the height of each.
ROWS = """() => {
  const log = document.getElementById("log").getBoundingClientRect();
  return [...document.querySelectorAll(".line")]
    .map((row) => [row.querySelector(".text").textContent, row.getBoundingClientRect()])
    .filter(([, box]) => box.bottom > log.top && box.top < log.bottom)
    .map(([text, box]) => [text, box.top - log.top, box.height]);
}"""
HISTORY: dict[str, Any] = {
    "process:*": HistoryLimits(messages=200_000, bytes=2**26),
    "x": HistoryLimits(),
}


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with launch_browser() as browser:
        yield browser


async def rows(page: Page) -> list[tuple[str, float, float]]:
    found: list[tuple[str, float, float]] = await page.evaluate(ROWS)
    return found


async def first_row(page: Page) -> str:
    return (await rows(page))[0][0]


async def frame(page: Page) -> None:
    """Wait until the page has been painted again."""
    await page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => "
        "requestAnimationFrame(() => setTimeout(done))))"
    )


async def shown(site: Site, process_id: str, last: str, timeout: float = 30_000) -> None:
    """Wait until a line is at the end of the log."""
    await expect(site.page.locator("#name")).to_have_text(f"process:{process_id}")
    await expect(line(site.page, last).last).to_be_in_viewport(timeout=timeout)


# Long logs.


async def test_a_log_of_100_000_lines_has_few_elements_and_the_keyboard_scrolls_it(
    browser: Browser,
) -> None:
    async with open_site(browser, history=HISTORY) as site:
        page = site.page
        await site.publish("b", 101_500)
        await shown(site, "b", "line 101499", 60_000)
        # The page keeps the last lines, and says so.
        await expect(page.locator("#count")).to_have_text(
            re.compile(r"^last (99|100),\d{3} of 101,500 lines$")
        )
        assert await page.locator(".line").count() < 300
        log = page.locator("#log")
        await log.press("Home")
        await expect(page.locator("#beginning")).to_be_in_viewport()
        beginning = await page.locator("#beginning").inner_text()
        found = re.fullmatch(r"The first (\d,\d{3}) lines are no longer kept\.", beginning)
        assert found is not None
        first = int(found[1].replace(",", ""))
        assert 1_500 <= first <= 2_500
        await expect(line(page, f"line {first}").first).to_be_in_viewport()
        await log.press("PageDown")
        await expect(line(page, f"line {first}").first).not_to_be_in_viewport()
        await log.press("End")
        await expect(line(page, "line 101499")).to_be_in_viewport()
        await expect(page.locator("#newest")).to_be_hidden()
        assert await page.locator(".line").count() < 300


async def test_lines_of_all_heights_follow_each_other_without_holes(browser: Browser) -> None:
    texts = [
        "short",
        "long " * 100,
        "",
        "日本語のログ " * 40,
        "a\tb\tc" * 30,
        "two\nlines",
        "👩‍👩‍👧 " * 60,
        "\x1b[1mbold\x1b[0m " * 50,
        " " * 300,
        "ﷺ" * 90,
        "x" * 500,
    ]
    async with open_site(browser, history=HISTORY) as site:
        page = site.page
        await page.set_viewport_size({"width": 800, "height": 500})
        for number in range(60):
            for text in texts:
                site.hub.send_process_output("b", f"{number} {text}")
        site.hub.send_process_output("b", "last")
        await shown(site, "b", "last")
        assert_no_holes(await rows(page))
        for step in (0.5, 0.3, 0.9, 0.0, 0.77):
            await page.evaluate(
                "(step) => { const log = document.getElementById('log');"
                " log.scrollTop = step * log.scrollHeight; }",
                step,
            )
            await frame(page)
            assert_no_holes(await rows(page))
        # A narrow screen, and no wrapping.
        before = await first_row(page)
        await page.set_viewport_size({"width": 400, "height": 500})
        await frame(page)
        assert await first_row(page) == before
        assert_no_holes(await rows(page))
        await page.get_by_role("button", name="Wrap").click()
        await frame(page)
        assert await first_row(page) == before
        assert_no_holes(await rows(page))
        one_row = [text for text, _, height in await rows(page) if height < 25]
        assert any(len(text) > 300 for text in one_row)


def assert_no_holes(found: list[tuple[str, float, float]]) -> None:
    assert len(found) > 1
    for (_, top, height), (text, following, _) in pairwise(found):
        assert following == pytest.approx(top + height, abs=1), text


async def test_the_lines_in_sight_stay_while_others_arrive_and_are_dropped(
    browser: Browser,
) -> None:
    async with open_site(browser, history=HISTORY) as site:
        page = site.page
        await site.publish("b", 99_000)
        await shown(site, "b", "line 98999", 60_000)
        await page.evaluate("() => { document.getElementById('log').scrollTop = 20_000 * 19; }")
        await frame(page)
        before = await rows(page)
        # The page drops about as many lines at the beginning.
        await site.publish("b", 5_000, "more")
        await expect(page.locator("#count")).to_have_text(re.compile("of 104,000 lines"))
        assert await rows(page) == before
        await expect(page.locator("#newest")).to_be_visible()
        await page.locator("#newest").click()
        await expect(line(page, "more 4999")).to_be_in_viewport()
        await site.publish("b", 10, "end")
        await expect(line(page, "end 9")).to_be_in_viewport()


async def test_a_log_of_very_long_lines_can_be_scrolled_to_both_ends(browser: Browser) -> None:
    async with open_site(browser, history=HISTORY, max_outbox_bytes=2**28) as site:
        page = site.page
        await page.set_viewport_size({"width": 360, "height": 640})
        for number in range(300):
            site.hub.send_process_output("b", f"{number} {'x' * 60_000}")
            await site.hub.drain()
        site.hub.send_process_output("b", "last")
        await shown(site, "b", "last")
        # Browsers limit the height of elements: Chromium to 33 million pixels, others to half.
        height = await page.evaluate("document.getElementById('log').scrollHeight")
        assert 5_000_000 < height < 16_000_000
        await page.locator("#log").press("Home")
        await expect(line(page, re.compile("^1? ?.*0 xxx")).first).to_be_in_viewport()
        assert (await first_row(page)).startswith("0 xxx")
        await page.locator("#log").press("End")
        await expect(line(page, "last")).to_be_in_viewport()


async def test_a_rewritten_line_stays_one_line(browser: Browser) -> None:
    async with open_site(browser, history=HISTORY) as site:
        hub = site.hub
        for number in range(50):
            hub.send_process_output("b", f"line {number}")
        hub.send_process_output("b", "0 %")
        for percent in range(1, 101):
            hub.send_process_output(
                "b", f"\x1b[32m{percent} % {'=' * 3 * percent}\x1b[0m", overwrites=True
            )
            await asyncio.sleep(0.002)
        hub.send_process_output("b", "done")
        await shown(site, "b", "done")
        assert_no_holes(await rows(site.page))
        late = await open_tab(site)
        for page in (site.page, late):
            lines = await download(page)
            assert lines[50:] == [f"100 % {'=' * 300}", "done"]
            await expect(page.locator(".fg2")).to_have_text([f"100 % {'=' * 300}"])
            # The number of a line is that of its first message.
            await expect(line(page, "100 %").locator(".number")).to_have_text("51")
            await expect(line(page, "done").locator(".number")).to_have_text("152")


# The search.


async def test_the_search_finds_lines_that_are_not_in_sight(browser: Browser) -> None:
    async with open_site(browser, history=HISTORY) as site:
        page = site.page
        for number in range(5_000):
            special = "a N\x1b[31mee\x1b[0mdle (and a needle)" if number % 1_000 == 7 else "hay"
            site.hub.send_process_output("b", f"{number} {special}")
        await shown(site, "b", "4999 hay")
        field = page.get_by_role("searchbox")
        await page.locator("#log").press("Control+f")
        await expect(field).to_be_focused()
        await page.keyboard.type("needle")
        # From the end of the log on, the first found line is the first of all.
        await expect(page.locator("#matches")).to_have_text("1 of 5 lines")
        await expect(page.locator(".found")).to_be_in_viewport()
        await expect(page.locator(".found .text")).to_have_text("7 a Needle (and a needle)")
        # Both matches are marked, the first one across colors.
        assert await page.locator("mark").all_inner_texts() == ["N", "ee", "dle", "needle"]
        for keys, place in (
            ("Enter", 2),
            ("Enter", 3),
            ("Shift+Enter", 2),
            ("Shift+Enter", 1),
            ("Shift+Enter", 5),
            ("Enter", 1),
        ):
            await page.keyboard.press(keys)
            await expect(page.locator("#matches")).to_have_text(f"{place} of 5 lines")
            await expect(page.locator(".found .text")).to_contain_text(
                f"{place - 1}007 a"[-6:] if place > 1 else "7 a"
            )
            await expect(page.locator(".found")).to_be_in_viewport()
        await page.get_by_role("button", name="Next match").click()
        await expect(page.locator("#matches")).to_have_text("2 of 5 lines")
        await page.locator("#log").press("N")
        await expect(page.locator("#matches")).to_have_text("1 of 5 lines")
        # Lines that arrive are found too, and a rewritten line is no longer found.
        site.hub.send_process_output("b", "NEEDLE")
        await expect(page.locator("#matches")).to_have_text("1 of 6 lines")
        site.hub.send_process_output("b", "gone", overwrites=True)
        await expect(page.locator("#matches")).to_have_text("1 of 5 lines")
        # Characters with a meaning in expressions have none here.
        await field.fill("(and a")
        await expect(page.locator("#matches")).to_have_text("1 of 5 lines")
        await field.fill("[.*")
        await expect(page.locator("#matches")).to_have_text("no lines")
        await expect(page.locator("mark")).to_have_count(0)
        await expect(page.get_by_role("button", name="Next match")).to_be_disabled()
        await field.press("Escape")
        await expect(page.locator("#matches")).to_have_text("")
        await expect(page.locator("#log")).to_be_focused()
        # The slash opens the search, and a second press of the browser's key is the browser's own.
        await page.keyboard.press("/")
        await expect(field).to_be_focused()
        prevented = await field.evaluate(
            "(field) => !field.dispatchEvent(new KeyboardEvent('keydown', "
            "{ key: 'f', ctrlKey: true, bubbles: true, cancelable: true }))"
        )
        assert not prevented


async def test_the_search_goes_on_in_another_channel(browser: Browser) -> None:
    async with open_site(browser, history=HISTORY) as site:
        for name in ("a", "b"):
            await site.publish(name, 100, name)
        await shown(site, "a", "a 99")
        await site.page.get_by_role("searchbox").fill("b 9")
        await expect(site.page.locator("#matches")).to_have_text("no lines")
        await site.open("process:b")
        await expect(site.page.locator("#matches")).to_have_text("11 lines")
        await expect(line(site.page, "b 99")).to_be_in_viewport()


# Errors.


ERRORS = [
    "error: no such file",
    "src/main.c:3:5: error: expected ';'",
    "\x1b[1;31merror\x1b[0m[E0308]: mismatched types",
    "2 failed, 10 passed in 3 s",
    "FAILED tests/test_x.py::test_y - assert 1 == 2",
    "--- FAIL: TestX (0.00s)",
    "Traceback (most recent call last):",
    "ValueError: invalid literal",
    "Caused by: java.lang.NullPointerException",
    "panic: runtime error",
    "make: *** [Makefile:2: all] Error 2",
    "FATAL could not connect",
    "##[error]Process completed with exit code 1",
    "npm ERR! missing script",
    "10 errors",
]
NO_ERRORS = [
    "0 errors, 0 warnings",
    "no errors found",
    "Tests run: 5, Failures: 0, Errors: 0, Skipped: 0",
    "gcc -Werror -c error.c -o build/error.o",
    "test result: ok. 5 passed; 0 failed; 0 ignored",
    "--fail-on-error is not set",
    "tests/test_error_handling.py PASSED",
    "terrorist, mirrored",
]


async def test_lines_that_report_an_error_are_recognized(browser: Browser) -> None:
    recognize = """async (texts) => {
      const { Log } = await import("./log.js");
      return texts.filter((data) => {
        const log = new Log();
        log.add({ type: "process_output", data });
        return log.firstError() !== undefined;
      });
    }"""
    async with open_site(browser) as site:
        assert await site.page.evaluate(recognize, ERRORS + NO_ERRORS) == ERRORS


async def test_the_first_error_is_shown(browser: Browser) -> None:
    async with open_site(browser, history=HISTORY) as site:
        page = site.page
        await site.publish("b", 200)
        await shown(site, "b", "line 199")
        button = page.get_by_role("button", name="First error")
        await button.click()
        await expect(page.locator("#notice")).to_have_text("No line reports an error.")
        for text in ("error: one", "error: two"):
            site.hub.send_process_output("b", text)
            await site.publish("b", 200)
        site.hub.send_process_output("b", "end")
        await shown(site, "b", "end")
        await button.click()
        await expect(page.locator(".marked .text")).to_have_text("error: one")
        await expect(page.locator(".marked")).to_be_in_viewport()


async def test_the_first_error_is_that_of_the_latest_run(browser: Browser) -> None:
    async with open_site(browser, history=HISTORY) as site:
        page = site.page
        for run in range(3):
            site.hub.send_process_status("b", "running")
            await site.publish("b", 100, f"run {run}")
            if run < 2:
                site.hub.send_process_output("b", f"error {run}")
            site.hub.send_process_status("b", "exited", 1)
        await shown(site, "b", "exited with 1")
        # Without a line of output that reports an error, it is the exit status.
        await page.locator("#log").press("e")
        await expect(page.locator(".marked .text")).to_have_text("exited with 1")
        site.hub.send_process_status("b", "running")
        site.hub.send_process_output("b", "error 4")
        site.hub.send_process_output("b", "error 5")
        await expect(line(page, "error 5")).to_have_count(1)
        await page.locator("#log").press("e")
        await expect(page.locator(".marked .text")).to_have_text("error 4")


# Links to lines.


async def open_tab(site: Site, fragment: str = "") -> Page:
    assert site.page.context.browser is not None
    address = f"http://localhost:{site.port}/{fragment}"
    page = await open_page(site.page.context.browser, address, [])
    await expect(page.locator("#state")).to_have_text("connected")
    return page


async def test_a_link_to_a_line_shows_and_marks_the_line(browser: Browser) -> None:
    async with open_site(browser, history=HISTORY) as site:
        page = site.page
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await site.publish("b", 3_000)
        await shown(site, "b", "line 2999")
        await page.evaluate("() => { document.getElementById('log').scrollTop = 19 * 1_500; }")
        target = line(page, "line 1510")
        await expect(target).to_be_in_viewport()
        before = await first_row(page)
        await target.locator(".number").click()
        await expect(page.locator("#notice")).to_have_text("The link is copied.")
        await expect(page.locator(".marked .text")).to_have_text("line 1510")
        # The lines stay where they are.
        assert await first_row(page) == before
        link = await page.evaluate("navigator.clipboard.readText()")
        assert link == page.url
        assert re.search(r"#process:b&line=1511&epoch=\w+$", link)

        other = await open_tab(site, link.partition("/#")[2].join(["#", ""]))
        await expect(other.locator(".marked .text")).to_have_text("line 1510")
        await expect(other.locator(".marked")).to_be_in_viewport()
        # The page stays there while further lines come.
        await site.publish("b", 200, "more")
        await expect(other.locator("#count")).to_have_text("3,200 lines")
        await expect(other.locator(".marked")).to_be_in_viewport()
        # The button copies a link to the marked line.
        await page.evaluate("navigator.clipboard.writeText('')")
        await page.get_by_role("button", name="Copy link").click()
        await expect(page.locator("#notice")).to_have_text("The link is copied.")
        assert await page.evaluate("navigator.clipboard.readText()") == link


async def test_a_link_to_a_line_that_is_not_kept_says_so(browser: Browser) -> None:
    history = {"process:*": HistoryLimits(messages=100)}
    async with open_site(browser, history=history) as site:
        await site.publish("b", 1_000)
        await shown(site, "b", "line 999")
        late = await open_tab(site, "#process:b&line=900")
        await expect(late.locator("#notice")).to_have_text("Line 900 is no longer kept.")
        late = await open_tab(site, "#process:b&line=950&epoch=elsewhen")
        await expect(late.locator("#notice")).to_have_text("Line 950 is no longer kept.")
        late = await open_tab(site, "#process:b&line=950")
        await expect(late.locator(".marked .text")).to_have_text("line 949")
        # A line that comes later is shown when it has come.
        late = await open_tab(site, "#process:b&line=1005")
        await expect(line(late, "line 999")).to_be_visible()
        await site.publish("b", 20, "more")
        await expect(late.locator(".marked .text")).to_have_text("more 4")
        # Fragments of other shapes name no line.
        for fragment in ("line=", "line=0", "line=-1", "line=1e99", "line=x", "x", "&&", "%"):
            strange = await open_tab(site, f"#process:b&{fragment}")
            await expect(strange.locator("#state")).to_have_text("connected")
            await expect(strange.locator(".marked")).to_have_count(0)


# Copies.


async def test_the_download_is_the_whole_log_as_plain_text(browser: Browser) -> None:
    async with open_site(browser, history=HISTORY) as site:
        hub = site.hub
        hub.send_process_status("build-4.2", "running")
        hub.send_process_output(
            "build-4.2", "\x1b[31mred\x1b[0m and \x1b]8;;http://x\x07link\x1b]8;;\x07"
        )
        await site.publish("build-4.2", 2_000)
        hub.send_process_status("build-4.2", "exited", 2)
        await shown(site, "build-4.2", "exited with 2")
        async with site.page.expect_download() as downloading:
            await site.page.get_by_role("button", name="Download").click()
        assert (await downloading.value).suggested_filename == "process-build-4.2.txt"
        assert await site.lines() == [
            *("running", "red and link"),
            *(f"line {number}" for number in range(2_000)),
            "exited with 2",
        ]


async def test_selected_lines_stay_selected_while_the_log_scrolls(browser: Browser) -> None:
    async with open_site(browser, history=HISTORY) as site:
        page = site.page
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await site.publish("b", 100)
        await shown(site, "b", "line 99")
        first = await line(page, "line 90").locator(".text").bounding_box()
        last = await line(page, "line 93").locator(".text").bounding_box()
        assert first is not None
        assert last is not None
        await page.mouse.move(first["x"] + 1, first["y"] + 8)
        await page.mouse.down()
        await page.mouse.move(last["x"] + 60, last["y"] + 8, steps=5)
        # While the button is down, the lines do not move.
        await site.publish("b", 300, "more")
        await expect(page.locator("#count")).to_have_text("400 lines")
        await expect(line(page, "line 93")).to_be_in_viewport()
        await page.mouse.up()
        await site.publish("b", 300, "even more")
        await expect(line(page, "even more 299")).to_be_in_viewport()
        await page.keyboard.press("Control+c")
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert copied.split() == ["line", "90", "line", "91", "line", "92", "line", "93"]
        # Numbers and times are not copied, and everything can be copied.
        await page.locator("#log").press("Control+a")
        await page.keyboard.press("Control+c")
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert copied.splitlines() == await site.lines()


# Presentation.


async def test_the_page_fits_a_phone(browser: Browser) -> None:
    async with open_site(browser, history=HISTORY) as site:
        page = site.page
        await page.set_viewport_size({"width": 360, "height": 640})
        for name in ("a-rather-long-name-of-a-process", "b"):
            site.hub.send_process_status(name, "running")
        await site.publish(
            "b", 200, "a line that is longer than the screen of a phone is wide " * 2
        )
        await site.open("process:b")
        await shown(site, "b", "wide 199")
        for button in await page.locator("#tools button, #find input").all():
            await expect(button).to_be_in_viewport(ratio=1)
        assert await page.evaluate("document.documentElement.scrollWidth") == 360
        assert await page.evaluate("document.documentElement.scrollHeight") <= 640
        log = await page.locator("#log").bounding_box()
        assert log is not None
        assert log["height"] > 250
        widths = "(log) => [log.scrollWidth, log.clientWidth]"
        content, visible = await page.locator("#log").evaluate(widths)
        assert content == visible


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_texts_have_contrast_in_both_themes(browser: Browser, scheme: Any) -> None:
    contrast = """(selector) => {
      const parse = (text) => text.match(/[\\d.]+/g).map(Number);
      const luminance = (color) => parse(color).slice(0, 3)
        .map((each) => each / 255)
        .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4))
        .reduce((sum, each, index) => sum + each * [0.2126, 0.7152, 0.0722][index], 0);
      const ground = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return parse(color)[3] === 0 ? ground(element.parentElement) : color;
      };
      const element = document.querySelector(selector);
      const pair = [getComputedStyle(element).color, ground(element)].map(luminance);
      return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    }"""
    async with open_site(browser, history=HISTORY) as site:
        page = site.page
        await page.emulate_media(color_scheme=scheme)
        site.hub.send_process_status("b", "running")
        site.hub.send_process_output("b", "line")
        site.hub.send_process_status("b", "exited", 1)
        await shown(site, "b", "exited with 1")
        for selector in (
            *("#state", "#count", "#duration", "#error", "#finished h2", "#finished small"),
            *(".number", ".line time", ".line .text", ".note.bad .text", "#status"),
        ):
            await page.wait_for_selector(selector, state="attached")
            assert await page.evaluate(contrast, selector) >= 4.5, selector


async def test_nothing_moves_by_itself_and_screen_readers_hear_only_new_lines(
    browser: Browser,
) -> None:
    async with open_site(browser, history=HISTORY) as site:
        page = site.page
        await page.emulate_media(reduced_motion="reduce")
        await site.publish("b", 500)
        await shown(site, "b", "line 499")
        log = page.get_by_role("log")
        await expect(log).to_have_attribute("aria-live", "polite")
        await log.press("Home")
        await expect(log).to_have_attribute("aria-live", "off")
        await page.get_by_role("button", name="Back to the end").click()
        await expect(log).to_have_attribute("aria-live", "polite")
        await page.get_by_role("button", name="First error").click()
        assert await page.evaluate("document.getAnimations().length") == 0


async def test_messages_without_a_process_have_numbers_too(browser: Browser) -> None:
    async with open_site(browser, "#x", history=HISTORY) as site:
        site.hub.publish("x", Message(type="deploy", data={"to": "production"}))
        await expect(line(site.page, 'deploy {"to":"production"}')).to_be_visible()
        await expect(site.page.locator(".line .number")).to_have_text(["1"])
