import asyncio

from wshub_core.loop.timeouts import Timeouts


async def test_only_keys_that_were_not_discarded_expire() -> None:
    loop = asyncio.get_running_loop()
    expired: list[str] = []
    over = asyncio.Event()

    def expire(key: str) -> None:
        expired.append(key)
        if key == "last":
            over.set()

    timeouts: Timeouts[str] = Timeouts(loop, 0.01, expire)
    for key in ("first", "done", "last"):
        timeouts.add(key)
    timeouts.discard("done")
    async with asyncio.timeout(5):
        await over.wait()
    assert expired == ["first", "last"]


async def test_a_timer_that_fires_too_early_serves_later_keys() -> None:
    expired: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    timeouts: Timeouts[str] = Timeouts(asyncio.get_running_loop(), 0.01, expired.set_result)
    timeouts.add("early")
    timeouts.discard("early")
    await asyncio.sleep(0.005)
    timeouts.add("late")
    async with asyncio.timeout(5):
        assert await expired == "late"


async def test_cancelled_timeouts_make_no_calls() -> None:
    expired: list[str] = []
    timeouts: Timeouts[str] = Timeouts(asyncio.get_running_loop(), 0.001, expired.append)
    timeouts.add("key")
    timeouts.cancel()
    await asyncio.sleep(0.01)
    assert expired == []
