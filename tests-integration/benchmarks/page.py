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
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.asyncio.client import ClientConnection, connect

sys.path.insert(0, str(Path(__file__).parents[1]))

from chromium import OPTIONS, find_chromium

from wshub_core import HistoryLimits, Hub, HubConfig, LivePage

# Resolves with the milliseconds since the navigation, in the first frame with the last line; with
# null after a second without it.
SHOWN = """(async () => {
  const end = performance.now() + 1_000;
  while (performance.now() < end) {
    await new Promise(requestAnimationFrame);
    const rows = document.querySelectorAll(".line .text");
    if (rows.length && rows[rows.length - 1].textContent === "the last line") {
      return performance.now();
    }
  }
  return null;
})()"""

# Records the milliseconds between frames.
RECORD = """{
  globalThis.frames_ = [];
  let last = null;
  const note = (now) => {
    if (last !== null) frames_.push(now - last);
    last = now;
    globalThis.frame_ = requestAnimationFrame(note);
  };
  requestAnimationFrame(note);
}"""
STOP = "cancelAnimationFrame(frame_), frames_"

# Moves the log to random places, one in each frame, as the scroll bar does.
JUMP = """async (count) => {
  const log = document.getElementById("log");
  for (let index = 0; index < count; index += 1) {
    log.scrollTop = Math.random() * log.scrollHeight;
    await new Promise(requestAnimationFrame);
  }
}"""

SEARCH = """(async () => {
  const field = document.getElementById("search");
  const matches = document.getElementById("matches");
  const begin = performance.now();
  let longest = 0;
  field.value = "file_9";
  field.dispatchEvent(new Event("input"));
  do {
    const before = performance.now();
    await new Promise(requestAnimationFrame);
    longest = Math.max(longest, performance.now() - before);
  } while (!/line/.test(matches.textContent) || matches.textContent.includes("…"));
  return [performance.now() - begin, longest];
})()"""


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


class Tab:
    """A page in Chromium, controlled by the DevTools protocol.

    Playwright is not used here: it watches the network, and then Chromium reports every message of
    a WebSocket, which takes longer than the page itself.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def send(self, method: str, **parameters: object) -> Any:
        request = next(self._ids)
        await self._socket.send(json.dumps({"id": request, "method": method, "params": parameters}))
        while (answer := json.loads(await self._socket.recv())).get("id") != request:
            pass
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    async def evaluate(self, script: str) -> Any:
        """Return the value of an expression, or that of its promise."""
        result = await self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    async def cpu_seconds(self) -> float:
        """Return the CPU time of the main thread for the present document."""
        metrics = (await self.send("Performance.getMetrics"))["metrics"]
        return float(sum(each["value"] for each in metrics if each["name"] == "TaskDuration"))


@asynccontextmanager
async def open_tab() -> AsyncIterator[Tab]:
    path = find_chromium()
    assert path is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            *OPTIONS,
            "--headless=new",
            "--remote-debugging-port=0",
            "--window-size=1280,800",
        ]
        browser = await asyncio.create_subprocess_exec(
            *(path, *options, f"--user-data-dir={profile}", "about:blank"),
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert browser.stderr is not None
            while (line := await browser.stderr.readline()) and b"DevTools listening" not in line:
                pass
            port = int(line.decode().split(":")[2].split("/")[0])
            with urlopen(f"http://127.0.0.1:{port}/json/list") as answer:  # noqa: ASYNC210
                [target] = [each for each in json.load(answer) if each["type"] == "page"]
            url = target["webSocketDebuggerUrl"]
            async with connect(url, proxy=None, max_size=None, ping_interval=None) as socket:
                tab = Tab(socket)
                await tab.send("Performance.enable", timeDomain="threadTicks")
                yield tab
                await tab.send("Browser.close")
            await browser.communicate()
        finally:
            if browser.returncode is None:
                browser.kill()
                await browser.communicate()


async def measure(tab: Tab, address: str, frames: int) -> dict[str, float]:
    found: dict[str, float] = {}

    async def scroll(name: str, act: Callable[[], Awaitable[object]]) -> None:
        cpu = await tab.cpu_seconds()
        await tab.evaluate(RECORD)
        await act()
        recorded = sorted(await tab.evaluate(STOP))
        cpu = await tab.cpu_seconds() - cpu
        found[f"{name}: median frame, ms"] = recorded[len(recorded) // 2]
        found[f"{name}: longest frame, ms"] = recorded[-1]
        found[f"{name}: CPU per frame, ms"] = cpu * 1_000 / len(recorded)

    async def turn_wheel() -> None:
        for index in range(frames):
            await tab.send(
                "Input.dispatchMouseEvent",
                **{"type": "mouseWheel", "x": 800, "y": 500},
                **{"deltaX": 0, "deltaY": -600 if index % 20 < 15 else 900},
            )

    await tab.send("Page.navigate", url=address)
    for name in ("first view", "reload"):
        if name == "reload":
            await tab.send("Page.reload")
        shown = False
        while not shown:
            # The document may be replaced meanwhile.
            with suppress(RuntimeError):
                shown = await tab.evaluate(SHOWN)
        found[f"{name}, s"] = shown / 1_000
        # The counter begins anew with each document.
        found[f"{name}: CPU, s"] = await tab.cpu_seconds()
    await scroll("at rest", lambda: asyncio.sleep(1))
    await scroll("wheel", turn_wheel)
    await scroll("scroll bar", lambda: tab.evaluate(f"({JUMP})({frames})"))
    found["search, ms"], found["search: longest frame, ms"] = await tab.evaluate(SEARCH)
    found["elements of lines"] = await tab.evaluate("document.querySelectorAll('.line').length")
    memory = await tab.evaluate("performance.memory.usedJSHeapSize")
    found["memory of scripts, MB"] = memory / 1_000_000
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
        rounds: list[dict[str, float]] = []
        for _ in range(arguments.rounds):
            async with open_tab() as tab:
                rounds.append(await measure(tab, address, arguments.frames))
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
