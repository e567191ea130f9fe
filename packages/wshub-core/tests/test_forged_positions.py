"""Positions that a stranger has written to the broker; messages contain epochs without escapes."""

from dataclasses import replace

import msgspec
import pytest

from wshub_core import HistoryLimits, Hub, HubConfig, MessageDecodeError, StoredPage
from wshub_core.testing import MemoryBridge, MemoryExchange, MemoryHistory
from wshub_core.testing.history_reader import fill, open_reader

CONFIG = HubConfig(history={"log:*": HistoryLimits()})
FORGED_EPOCHS = ['a","type":"pong', "a\\", "", "ä", "a" * 65]


class ForgedHistory(MemoryHistory):
    """A history whose epoch somebody else has replaced."""

    forged: str | None = None

    def read(self, channel: str, after: int, limit: int, limits: HistoryLimits) -> StoredPage:
        page = super().read(channel, after, limit, limits)
        return page if self.forged is None else replace(page, epoch=self.forged)


@pytest.mark.parametrize("epoch", FORGED_EPOCHS)
async def test_a_stored_message_with_a_forged_epoch_reaches_no_client(epoch: str) -> None:
    exchange = MemoryExchange(MemoryHistory())
    async with Hub(CONFIG) as hub, MemoryBridge(hub, exchange):
        reader = await open_reader(hub)
        await reader.subscribe("log:a")
        payload = b'{"type":"event","channel":"log:a","data":1}'
        with pytest.raises(MessageDecodeError, match="invalid position"):
            hub.bridge_port.deliver_stored("log:a", epoch, 1, payload, is_own=False)
        await reader.assert_silent()


@pytest.mark.parametrize("offset", [-1, 0, 2**53])
async def test_a_stored_message_with_a_forged_offset_reaches_no_client(offset: int) -> None:
    exchange = MemoryExchange(MemoryHistory())
    async with Hub(CONFIG) as hub, MemoryBridge(hub, exchange):
        reader = await open_reader(hub)
        epoch = (await reader.subscribe("log:a"))["epoch"]
        payload = b'{"type":"event","channel":"log:a","data":1}'
        with pytest.raises(MessageDecodeError, match="invalid position"):
            hub.bridge_port.deliver_stored("log:a", epoch, offset, payload, is_own=False)
        await reader.assert_silent()


@pytest.mark.parametrize("epoch", FORGED_EPOCHS)
async def test_a_forged_notice_changes_no_position(epoch: str) -> None:
    exchange = MemoryExchange(MemoryHistory())
    async with Hub(CONFIG) as hub, MemoryBridge(hub, exchange):
        reader = await open_reader(hub)
        page = await fill(hub, "log:a", range(2))
        await reader.subscribe("log:a", since=0)
        assert await reader.receive(2, after=0) == [0, 1]
        notice = {"type": "history_cleared", "channel": "log:a", "data": {"epoch": epoch}}
        hub.bridge_port.deliver("log:a", msgspec.json.encode(notice))
        await fill(hub, "log:a", [2])
        (message,) = [each for each in await reader.receive_until(2) if each.offset]
        assert (message.epoch, message.offset) == (page.epoch, 3)


@pytest.mark.parametrize("epoch", FORGED_EPOCHS)
async def test_a_history_with_a_forged_epoch_is_unavailable(epoch: str) -> None:
    history = ForgedHistory()
    async with Hub(CONFIG) as hub, MemoryBridge(hub, MemoryExchange(history)):
        await fill(hub, "log:a", range(2))
        history.forged = epoch
        reader = await open_reader(hub)
        answer = await reader.subscribe("log:a", since=0)
        assert answer == {"recovered": False, "reason": "unavailable"}
        history.forged = None
        again = await reader.subscribe("log:a", since=0)
        assert again["recovered"] is True
        assert await reader.receive(2, after=0) == [0, 1]
