"""The demo, as a stranger starts it."""

import json
import os
import sys

from demo_process import free_port, start_demo
from websockets.asyncio.client import connect


async def test_it_streams_a_command_again_and_again_and_ends_with_its_child() -> None:
    port = free_port()
    code = "import os; print(os.getpid(), flush=True); raise SystemExit(3)"
    async with start_demo(port, sys.executable, "-c", code) as demo:
        await demo.wait_ready()
        async with connect(f"ws://localhost:{port}/ws", proxy=None) as socket:
            await socket.send('{"type":"subscribe","channel":"process:demo"}')
            statuses: list[tuple[str, int]] = []
            while statuses.count(("exited", 3)) < 2:
                frame = json.loads(await socket.recv())
                if frame["type"] == "process_status":
                    statuses.append((frame["data"]["status"], frame["data"]["exitCode"]))
            assert ("running", 0) in statuses
        assert await demo.interrupt() == (0, "The demo has ended.\n", "")


async def test_ctrl_c_ends_the_child_too() -> None:
    port = free_port()
    code = "import os, time\nwhile True: print(os.getpid(), flush=True); time.sleep(0.01)"
    async with start_demo(port, sys.executable, "-c", code) as demo:
        await demo.wait_ready()
        async with connect(f"ws://localhost:{port}/ws", proxy=None) as socket:
            await socket.send('{"type":"subscribe","channel":"process:demo"}')
            while (frame := json.loads(await socket.recv()))["type"] != "process_output":
                pass
        assert (await demo.interrupt())[0] == 0
        try:
            os.kill(int(frame["data"]), 0)
        except ProcessLookupError:
            pass
        else:
            raise AssertionError("the child is still there")


async def test_a_command_that_does_not_exist_is_one_clear_line() -> None:
    async with start_demo(free_port(), "no-such-command") as demo:
        code, _, errors = await demo.finish()
    assert (code, errors) == (
        1,
        "demo: cannot start 'no-such-command': 'no-such-command' not found\n",
    )


async def test_a_taken_port_is_one_clear_line() -> None:
    port = free_port()
    async with start_demo(port, "true") as first:
        await first.wait_ready()
        async with start_demo(port, "true") as second:
            code, _, errors = await second.finish()
        assert code == 1
        assert errors.startswith(f"demo: port {port} on localhost is already in use")
        assert errors.count("\n") == 1
