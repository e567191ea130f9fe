"""Tests of several hubs with one history, a part of the contract of histories."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

from wshub_core.bridge.relay import LINGER_SECONDS
from wshub_core.hub import Hub
from wshub_core.testing.history_form import CONFIG, HistoryForm
from wshub_core.testing.history_reader import (
    HistoryReader,
    fill,
    open_reader,
    publish,
    wait_history,
)
from wshub_core.values.messages import Message, MessageType


class HistorySharingTests(HistoryForm):
    """Tests of hubs that share one history.

    Attributes:
        can_interrupt: Whether the form has `interrupt`.
    """

    can_interrupt = False

    def interrupt(self, hub: Hub) -> AbstractAsyncContextManager[None]:
        """Lose all messages that arrive at a hub inside of ``async with``.

        The hub can publish and read the history meanwhile. At the end, messages arrive again, and
        the bridge calls `wshub_core.BridgePort.resync_history`.
        """
        raise NotImplementedError

    async def test_clients_of_all_hubs_get_the_same_messages_in_the_same_order(self) -> None:
        async with (
            self.open_hub(CONFIG) as first,
            self.open_hub(CONFIG) as second,
            self.open_hub(CONFIG) as third,
        ):
            hubs = (first, second, third)
            readers = [await open_reader(hub) for hub in hubs]
            answers = [await reader.subscribe("log:a") for reader in readers]
            assert len({answer["epoch"] for answer in answers}) == 1

            async def go_on(name: int) -> None:
                for n in range(100):
                    publish(hubs[name], "log:a", [[name, n]])
                    if n % 7 == 0:
                        await hubs[name].drain()
                        await asyncio.sleep(0)

            await asyncio.gather(go_on(0), go_on(1), go_on(2))
            received = [await reader.receive(300, after=0) for reader in readers]
            assert received[0] == received[1] == received[2]
            for name in range(3):
                assert [n for each, n in received[0] if each == name] == [*range(100)]

    async def test_another_hub_reads_and_recovers_what_the_first_has_published(self) -> None:
        async with self.open_hub(CONFIG) as here, self.open_hub(CONFIG) as there:
            page = await fill(here, "log:a", range(1_500))
            assert (await there.history("log:a", limit=1_500)).messages == page.messages
            newest = await there.history("log:a", limit=3, reverse=True)
            assert [each.data for each in newest.messages] == [1_499, 1_498, 1_497]
            for since in (1_490, 700, 0):
                reader = await open_reader(there)
                answer = await reader.subscribe("log:a", since=since, epoch=page.epoch)
                assert answer == {
                    **{"epoch": page.epoch, "offset": 1_500, "first": 1, "after": since},
                    "recovered": True,
                }
                assert await reader.receive(1_500 - since, after=since) == [*range(since, 1_500)]
            publish(here, "log:a", ["live"])
            assert await reader.receive(1, after=1_500) == ["live"]

    async def test_many_clients_with_different_positions_recover_on_another_hub(self) -> None:
        async with self.open_hub(CONFIG) as here, self.open_hub(CONFIG) as there:
            page = await fill(here, "log:a", range(5_000))

            async def recover(since: int) -> None:
                reader = await open_reader(there)
                answer = await reader.subscribe("log:a", since=since, epoch=page.epoch)
                assert (answer["recovered"], answer["after"]) == (True, since), answer
                assert await reader.receive(5_000 - since, after=since) == [*range(since, 5_000)]

            async with asyncio.TaskGroup() as group:
                for since in (4_990, 4_200, 3_500, 2_700, 2_000, 1_300, 900, 200, 100, 0):
                    group.create_task(recover(since))

    async def test_all_that_the_store_keeps_can_be_recovered_from_a_full_history(self) -> None:
        async with self.open_hub(CONFIG) as here, self.open_hub(CONFIG) as there:
            page = await fill(here, "light:a", [[n, "x" * 50] for n in range(500)])
            reader = await open_reader(there)
            answer = await reader.subscribe("light:a", since=0, epoch=page.epoch)
            assert answer["reason"] == "trimmed", answer
            # The size of the positions may count, so the hub can keep fewer than the store.
            count = 500 - answer["after"]
            assert count > (501 - page.first) // 2
            data = await reader.receive(count, after=answer["after"])
            assert [number for number, _ in data] == [*range(500 - count, 500)]

    async def test_a_history_outlives_its_hubs(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            reader = await open_reader(hub)
            before = await reader.subscribe("log:a")
            await fill(hub, "log:a", range(10))
            await reader.receive(10, after=0)
        async with self.open_hub(CONFIG) as hub:
            again = await open_reader(hub)
            answer = await again.subscribe("log:a", since=4, epoch=before["epoch"])
            assert (answer["recovered"], answer["offset"]) == (True, 10)
            publish(hub, "log:a", ["new"])
            assert await again.receive(7, after=4) == [*range(4, 10), "new"]

    async def test_a_client_changes_the_hub_without_loss(self) -> None:
        async with self.open_hub(CONFIG) as here, self.open_hub(CONFIG) as there:
            hubs = (here, there)
            for hub in hubs:
                await (await open_reader(hub)).subscribe("log:a")

            async def go_on() -> None:
                for n in range(200):
                    publish(hubs[n % 2], "log:a", [n])
                    if n % 4 == 0:
                        await asyncio.sleep(0.002)
                await wait_history(here, "log:a", lambda page: page.offset == 200)

            publishing = asyncio.create_task(go_on())
            offset = 0
            position: dict[str, Any] = {"since": 0}
            moves = 0
            while offset < 200:
                moves += 1
                reader = await open_reader(hubs[moves % 2])
                answer = await reader.subscribe("log:a", **position)
                # The other hub may have been faster. Its offsets are no offsets from the future.
                assert (answer["recovered"], answer["after"]) == (True, offset), answer
                count = min(1 + moves % 7 * 10, 200 - offset)
                await reader.receive(count, after=offset)
                offset += count
                position = {"since": offset, "epoch": answer["epoch"]}
                reader.client.close()
            await publishing

    async def test_messages_are_recovered_on_a_hub_whose_last_subscriber_has_left(self) -> None:
        async with self.open_hub(CONFIG) as here, self.open_hub(CONFIG) as there:
            reader = await open_reader(there)
            before = await reader.subscribe("log:a")
            await fill(here, "log:a", range(5))
            await reader.receive(5, after=0)
            reader.client.close()
            await asyncio.sleep(LINGER_SECONDS * 1.5)
            await fill(here, "log:a", range(5, 10))
            again = await open_reader(there)
            answer = await again.subscribe("log:a", since=5, epoch=before["epoch"])
            assert answer["recovered"] is True
            assert await again.receive(5, after=5) == [*range(5, 10)]

    async def test_clearing_on_one_hub_reaches_the_subscribers_of_the_others(self) -> None:
        async with self.open_hub(CONFIG) as here, self.open_hub(CONFIG) as there:
            near, far = await open_reader(here), await open_reader(there)
            for reader in (near, far):
                await reader.subscribe("log:a")
            await fill(here, "log:a", range(3))
            for reader in (near, far):
                await reader.receive(3, after=0)
            await here.clear_history("log:a")
            epochs = set()
            for reader in (near, far):
                notice = await reader.next()
                assert notice.type == MessageType.HISTORY_CLEARED
                epochs.add(notice.data["epoch"])
            publish(there, "log:a", ["new"])
            for reader in (near, far):
                message = await reader.next()
                assert (message.data, message.offset) == ("new", 1)
                epochs.add(message.epoch)
            assert len(epochs) == 1

    async def test_local_only_messages_have_no_position_and_stay_on_their_hub(self) -> None:
        async with self.open_hub(CONFIG) as here, self.open_hub(CONFIG) as there:
            near, far = await open_reader(here), await open_reader(there)
            for reader in (near, far):
                await reader.subscribe("log:a")
            here.publish("log:a", Message(type=MessageType.EVENT, data=1), local_only=True)
            message = await near.next()
            assert (message.data, message.epoch, message.offset) == (1, "", 0)
            publish(here, "log:a", [2])
            for reader in (near, far):
                assert await reader.receive(1, after=0) == [2]
            assert (await there.history("log:a")).offset == 1

    async def test_listeners_of_all_hubs_hear_each_message_once(self) -> None:
        async with self.open_hub(CONFIG) as here, self.open_hub(CONFIG) as there:
            heard: dict[Hub, list[Any]] = {here: [], there: []}
            readers = []
            for hub in (here, there):
                listen(hub, heard[hub])
                readers.append(await open_reader(hub))
                await readers[-1].subscribe("log:a")
            for n in range(50):
                publish((here, there)[n % 2], "log:a", [n])
                if n % 5 == 0:
                    # The comparison of the positions must not make listeners hear a message twice.
                    here.bridge_port.resync_history()
                    there.bridge_port.resync_history()
                    await asyncio.sleep(0.001)
            for reader in readers:
                await reader.receive(50, after=0)
            for hub in (here, there):
                assert sorted(heard[hub]) == [*range(50)]

    async def test_lost_messages_are_read_and_arrive_in_order(self) -> None:
        if not self.can_interrupt:
            return
        async with self.open_hub(CONFIG) as here, self.open_hub(CONFIG) as there:
            near, far = await open_reader(here), await open_reader(there)
            for reader in (near, far):
                await reader.subscribe("log:a")
            await fill(here, "log:a", range(10))
            await far.receive(10, after=0)
            async with self.interrupt(there):
                await fill(here, "log:a", range(10, 20))
            publish(here, "log:a", range(20, 30))
            assert await far.receive(20, after=10) == [*range(10, 30)]
            assert await near.receive(30, after=0) == [*range(30)]

    async def test_a_loss_behind_which_nothing_follows_is_noticed(self) -> None:
        if not self.can_interrupt:
            return
        async with self.open_hub(CONFIG) as here, self.open_hub(CONFIG) as there:
            far = await open_reader(there)
            await far.subscribe("log:a")
            async with self.interrupt(there):
                await fill(here, "log:a", range(5))
            assert await far.receive(5, after=0) == [*range(5)]
            await self.assert_nothing_more(here, far)

    async def test_subscribers_of_an_interrupted_hub_recover(self) -> None:
        if not self.can_interrupt:
            return
        async with self.open_hub(CONFIG) as here, self.open_hub(CONFIG) as there:
            first = await open_reader(there)
            answer = await first.subscribe("log:a")
            late = await open_reader(there)
            async with self.interrupt(there):
                await fill(here, "log:a", range(5))
                await late.subscribe("log:a", since=0, epoch=answer["epoch"])
            publish(here, "log:a", ["end"])
            # At that moment, the store may not be reachable yet.
            assert await late.follow("log:a", answer["epoch"], until="end") == [*range(1, 7)]
            assert await first.follow("log:a", answer["epoch"], until="end") == [*range(1, 7)]

    async def assert_nothing_more(self, hub: Hub, reader: HistoryReader) -> None:
        """Check that the next message is the one that is published now."""
        publish(hub, "log:a", ["marker"])
        assert await reader.receive(1) == ["marker"]


def listen(hub: Hub, heard: list[Any]) -> None:
    """Append the data of each message that the hub's publish listeners hear to a list."""
    hub.add_publish_listener(lambda _, message: heard.append(message.data))
