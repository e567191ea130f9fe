"""A hub that stood still does not end clients that answer pings."""

import asyncio
import threading
import time

from support import PATIENCE_SECONDS, Serve, eventually
from websockets.sync.client import connect as dial

from wshub_core import Disconnect, DisconnectCause
from wshub_core.protocol.heartbeat import HeartbeatWheel


class Member:
    last_heard = 0.0
    next_ping = 0.0
    slot = 0


def test_after_a_standstill_all_members_are_pinged_and_have_time_to_answer() -> None:
    wheel: HeartbeatWheel[Member] = HeartbeatWheel(30.0, 60.0, 0.0)
    member = Member()
    wheel.add(member)
    due = wheel.advance(500.0)
    assert (due.to_ping, due.silent) == ([member], [])
    # A member that does not answer still ends in time.
    now = 500.0
    while not due.silent:
        now += 0.5
        due = wheel.advance(now)
        assert now < 540.0
    assert now >= 530.0


def test_a_busy_loop_does_not_count_as_a_standstill() -> None:
    wheel: HeartbeatWheel[Member] = HeartbeatWheel(30.0, 60.0, 0.0)
    member = Member()
    wheel.add(member)
    now = 0.0
    silent: list[Member] = []
    while not silent:
        now += 5.0
        silent = wheel.advance(now).silent
        assert now <= 70.0


async def test_clients_that_answer_pings_outlive_a_standstill_of_the_hub(serve: Serve) -> None:
    ended: list[Disconnect] = []
    served = await serve(
        heartbeat_interval=0.2,
        pong_timeout=0.4,
        on_disconnect=lambda _, end: ended.append(end),
    )
    opened, leave = threading.Event(), threading.Event()

    def stay() -> None:
        # In a separate thread, so that the client answers while the loop stands still.
        with dial(f"ws://127.0.0.1:{served.server.port}/ws", proxy=None):
            opened.set()
            leave.wait(20)

    thread = threading.Thread(target=stay, daemon=True)
    thread.start()
    try:
        await asyncio.to_thread(opened.wait, 10)
        for _ in range(3):
            time.sleep(0.9)  # noqa: ASYNC251 - the loop stands still
            await asyncio.sleep(0.5)
        assert served.hub.stats().clients == 1
        assert ended == []
    finally:
        leave.set()
        await asyncio.to_thread(thread.join, PATIENCE_SECONDS)
    await eventually(lambda: [each.cause for each in ended] == [DisconnectCause.CLIENT_CLOSED])
