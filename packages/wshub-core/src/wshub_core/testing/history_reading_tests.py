"""Tests of the limits and of the reading of histories, a part of the contract of histories."""

from typing import Any

from wshub_core.testing.history_form import AGE_SECONDS, CONFIG, HistoryForm
from wshub_core.testing.history_reader import fill, open_reader, publish, wait_history
from wshub_core.values.errors import InvalidHistoryRequestError
from wshub_core.values.messages import MessageType


class HistoryReadingTests(HistoryForm):
    """Tests of the limits, of `Hub.clear_history` and of `Hub.history`."""

    # Limits.

    async def test_the_number_of_messages_is_limited(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            page = await fill(hub, "ten:a", range(35))
            assert (page.first, page.offset) == (26, 35)
            assert [each.data for each in page.messages] == [*range(25, 35)]

    async def test_the_size_of_the_messages_is_limited(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            page = await fill(hub, "light:a", [[n, "x" * 200] for n in range(200)])
            assert page.offset == 200
            kept = page.offset + 1 - page.first
            # The forms count the size of one message a little differently.
            assert 20 < kept <= 50
            assert [each.data[0] for each in page.messages] == [*range(200 - kept, 200)]
            reader = await open_reader(hub)
            answer = await reader.subscribe("light:a", since=page.first - 2)
            assert (answer["recovered"], answer["reason"]) == (False, "trimmed")
            count = 200 - answer["after"]
            assert 20 < count <= kept
            assert len(await reader.receive(count, after=answer["after"])) == count

    async def test_the_age_of_the_messages_is_limited(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            reader = await open_reader(hub)
            answer = await reader.subscribe("aging:a")
            await fill(hub, "aging:a", range(5))
            await self.pass_time(AGE_SECONDS * 1.1)
            publish(hub, "aging:a", ["new"])
            # A subscriber that has all messages keeps its position, although they have gone.
            assert await reader.receive(6, after=0) == [*range(5), "new"]
            page = await wait_history(hub, "aging:a", lambda page: page.offset == 6)
            assert (page.epoch, page.first) == (answer["epoch"], 6)
            assert [each.data for each in page.messages] == ["new"]
            late = await open_reader(hub)
            answer = await late.subscribe("aging:a", since=2)
            assert (answer["reason"], answer["missing"], answer["after"]) == ("trimmed", 3, 5)
            assert await late.receive(1, after=5) == ["new"]

    # Clearing.

    async def test_clearing_begins_a_new_epoch_and_tells_the_subscribers(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            reader = await open_reader(hub)
            before = await reader.subscribe("log:a")
            await fill(hub, "log:a", range(5))
            await reader.receive(5, after=0)
            await hub.clear_history("log:a")
            notice = await reader.next()
            assert notice.type == MessageType.HISTORY_CLEARED
            epoch = notice.data["epoch"]
            assert epoch != before["epoch"]
            page = await hub.history("log:a")
            assert (page.epoch, page.offset, page.messages) == (epoch, 0, ())
            publish(hub, "log:a", ["new"])
            message = await reader.next()
            assert (message.data, message.epoch, message.offset) == ("new", epoch, 1)

    async def test_positions_before_a_clearing_are_foreign(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            old = await fill(hub, "log:a", range(5))
            other = await fill(hub, "log:b", range(5))
            await hub.clear_history("log:a")
            new = await fill(hub, "log:a", ["new"])
            reader = await open_reader(hub)
            answer = await reader.subscribe("log:a", since=5, epoch=old.epoch)
            assert answer == {
                **{"epoch": new.epoch, "offset": 1, "first": 1, "after": 0},
                **{"recovered": False, "reason": "foreign_epoch"},
            }
            assert await reader.receive(1, after=0) == ["new"]
            answer = await reader.subscribe("log:b", since=3, epoch=other.epoch)
            assert answer["recovered"] is True
            assert await reader.receive(2, after=3) == [3, 4]

    async def test_a_channel_without_messages_can_be_cleared(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            await hub.clear_history("log:a")
            page = await fill(hub, "log:a", ["new"])
            assert [each.data for each in page.messages] == ["new"]

    # Hub.history.

    async def test_hub_history_returns_the_messages_with_their_positions(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            empty = await hub.history("log:a")
            assert (empty.first, empty.offset, empty.messages) == (1, 0, ())
            full = await fill(hub, "log:a", range(250))
            page = await hub.history("log:a")
            assert (page.epoch, page.first, page.offset) == (full.epoch, 1, 250)
            assert [each.data for each in page.messages] == [*range(100)]
            for offset, message in enumerate(page.messages, 1):
                assert (message.epoch, message.offset) == (full.epoch, offset)
                assert (message.type, message.channel) == (MessageType.EVENT, "log:a")
                assert message.timestamp is not None

    async def test_hub_history_takes_a_part_from_either_end(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            await fill(hub, "log:a", range(20))

            async def read(**options: Any) -> list[Any]:
                return [each.data for each in (await hub.history("log:a", **options)).messages]

            assert await read(since=0, limit=3) == [0, 1, 2]
            assert await read(since=7, limit=2) == [7, 8]
            assert await read(since=18, limit=9) == [18, 19]
            assert await read(since=20) == await read(since=99) == []
            assert await read(limit=3, reverse=True) == [19, 18, 17]
            assert await read(since=17, limit=9, reverse=True) == [19, 18, 17]
            assert await read(since=99, reverse=True) == []
            assert await read(limit=2**53 - 1) == [*range(20)]

    async def test_hub_history_begins_with_the_oldest_message_that_is_kept(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            await fill(hub, "ten:a", range(50))
            page = await hub.history("ten:a", since=5, limit=3)
            assert (page.first, [each.offset for each in page.messages]) == (41, [41, 42, 43])
            page = await hub.history("ten:a", since=5, limit=99, reverse=True)
            assert [each.offset for each in page.messages] == [*range(50, 40, -1)]

    async def test_hub_history_refuses_other_channels_and_numbers(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            cases: list[tuple[str, dict[str, Any]]] = [
                ("plain", {}),
                ("log:a", {"since": -1}),
                ("log:a", {"limit": 0}),
                ("log:a", {"since": 2**53}),
                ("log:a", {"limit": 2**53}),
            ]
            for channel, options in cases:
                try:
                    await hub.history(channel, **options)
                except InvalidHistoryRequestError:
                    continue
                raise AssertionError(f"{channel} {options} was accepted")
            try:
                await hub.clear_history("plain")
            except InvalidHistoryRequestError:
                pass
            else:
                raise AssertionError("a channel without history was cleared")
