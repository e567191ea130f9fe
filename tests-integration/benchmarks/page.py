"""Time to show a long log in a browser, and the longest frame while the reader scrolls.

    hatch run bench:page
    hatch run bench:page --lines 20000 --rounds 5

A hub in its own process has the history of one process with so many lines. Chromium opens the live
page of the hub. The benchmark reports, as medians over the rounds: the time from the navigation to
the frame with the last line, the same for a reload, the time of a search in all lines, the times of
frames while nothing moves, while the mouse wheel moves and while the scroll bar moves, the elements
of lines, and the memory. CPU time is that of the page's main thread. Unlike the other times, it
does not depend on what else the machine does.
"""

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from browsers import find_chromium, launch_browser
from playwright.async_api import Page

from wshub_core import HistoryLimits, Hub, HubConfig, LivePage

# Resolves with the milliseconds since the navigation, in the first frame with the last line.
SHOWN = """(last) => {
  const rows = document.querySelectorAll(".line .text");
  return rows.length > 0 && rows[rows.length - 1].textContent === last && performance.now();
}"""

# Records the milliseconds between frames.
RECORD = """() => {
  globalThis.frames_ = [];
  let last = performance.now();
  const note = (now) => {
    frames_.push(now - last);
    last = now;
    globalThis.frame_ = requestAnimationFrame(note);
  };
  requestAnimationFrame((now) => { last = now; requestAnimationFrame(note); });
}"""
STOP = "() => { cancelAnimationFrame(frame_); return frames_; }"

# Moves the log to random places, one in each frame, as the scroll bar does.
JUMP = """async (count) => {
  const log = document.getElementById("log");
  for (let index = 0; index < count; index += 1) {
    log.scrollTop = Math.random() * log.scrollHeight;
    await new Promise(requestAnimationFrame);
  }
}"""

SEARCH = """async (text) => {
  const field = document.getElementById("search");
  const matches = document.getElementById("matches");
  const begin = performance.now();
  let longest = 0;
  field.value = text;
  field.dispatchEvent(new Event("input"));
  do {
    const before = performance.now();
    await new Promise(requestAnimationFrame);
    longest = Math.max(longest, performance.now() - before);
  } while (!/line/.test(matches.textContent) || matches.textContent.includes("…"));
  return [performance.now() - begin, longest];
}"""


def text_of(number: int) -> str:
    """Return a line like those of a build: 90 characters, every eighth line with colors."""
    path = f"src/module_{number % 97}/file_{number}.c"
    if number % 8 == 0:
        return f"\x1b[1m{path}:{number % 500}:5: \x1b[35mwarning:\x1b[0m unused variable 'index'"
    return f"[{number}] cc -O2 -Wall -Iinclude -c {path} -o build/file_{number}.o"


async def serve(lines: int) -> None:
    limits = HistoryLimits(messages=lines + 10, bytes=2**28)
    async with Hub(HubConfig(history={"process:*": limits})) as hub:
        page = LivePage(hub)
        async with hub.serve("localhost", 0, process_request=page.process_request) as server:
            hub.send_process_status("build", "running")
            for number in range(lines):
                hub.send_process_output("build", text_of(number))
            hub.send_process_output("build", "the last line")
            print(server.port, flush=True)
            await server.serve_forever()


async def measure(page: Page, address: str, frames: int) -> dict[str, float]:
    found: dict[str, float] = {}
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})

    async def cpu_seconds() -> float:
        metrics = (await session.send("Performance.getMetrics"))["metrics"]
        return float(sum(each["value"] for each in metrics if each["name"] == "TaskDuration"))

    async def scroll(name: str, act: Callable[[], Awaitable[object]]) -> None:
        cpu = await cpu_seconds()
        await page.evaluate(RECORD)
        await act()
        recorded = sorted(await page.evaluate(STOP))
        cpu = await cpu_seconds() - cpu
        found[f"{name}: median frame, ms"] = recorded[len(recorded) // 2]
        found[f"{name}: longest frame, ms"] = recorded[-1]
        found[f"{name}: CPU per frame, ms"] = cpu * 1_000 / len(recorded)

    async def turn_wheel() -> None:
        for index in range(frames):
            await page.mouse.wheel(0, -600 if index % 20 < 15 else 900)

    for name in ("first view", "reload"):
        await (page.goto(address) if name == "first view" else page.reload())
        shown = await page.wait_for_function(SHOWN, arg="the last line", polling="raf", timeout=0)
        found[f"{name}, s"] = await shown.json_value() / 1_000
        # The counters begin anew with the document.
        found[f"{name}: CPU, s"] = await cpu_seconds()
    box = await page.locator("#log").bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    await scroll("at rest", lambda: asyncio.sleep(1))
    await scroll("wheel", turn_wheel)
    await scroll("scroll bar", lambda: page.evaluate(JUMP, frames))
    seconds, longest = await page.evaluate(SEARCH, "file_9")
    found["search, ms"] = seconds
    found["search: longest frame, ms"] = longest
    found["elements of lines"] = await page.locator(".line").count()
    found["memory of scripts, MB"] = (
        await page.evaluate("performance.memory.usedJSHeapSize") / 1_000_000
    )
    return found


async def run(arguments: argparse.Namespace) -> None:
    hub = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
        [sys.executable, __file__, "serve", "--lines", str(arguments.lines)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert hub.stdout is not None
        address = f"http://localhost:{int(hub.stdout.readline())}/"
        rounds: list[dict[str, Any]] = []
        async with launch_browser() as browser:
            for _ in range(arguments.rounds):
                page = await browser.new_page()
                rounds.append(await measure(page, address, arguments.frames))
                await page.close()
    finally:
        hub.send_signal(signal.SIGINT)
        hub.communicate()
    print(f"{arguments.lines} lines, {os.cpu_count()} cores")
    for name in rounds[0]:
        print(f"{name:40} {statistics.median(each[name] for each in rounds):10.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", nargs="?", default="run", help=argparse.SUPPRESS)
    parser.add_argument("--lines", type=int, default=100_000, help="lines of the log (100000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    parser.add_argument("--frames", type=int, default=300, help="steps of scrolling (300)")
    arguments = parser.parse_args()
    if arguments.command == "serve":
        try:
            asyncio.run(serve(arguments.lines))
        except KeyboardInterrupt:
            return
    elif find_chromium() is None:
        print("there is no Chromium here: nothing is measured")
    else:
        asyncio.run(run(arguments))


if __name__ == "__main__":
    main()
