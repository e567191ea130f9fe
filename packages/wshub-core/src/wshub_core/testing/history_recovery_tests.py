"""Tests of positions and of recovery, a part of the contract of histories."""

import asyncio
from typing import Any

from wshub_core.testing.history_form import CONFIG, HistoryForm
from wshub_core.testing.history_reader import fill, open_reader, publish
from wshub_core.values.errors import MessageTooLargeError
from wshub_core.values.messages import Message, MessageType


class HistoryRecoveryTests(HistoryForm):
    """Tests of the positions of messages, and of the answers to subscribers."""

    # Positions.

    async def test_each_message_has_the_next_offset_of_one_epoch(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            reader = await open_reader(hub)
            answer = await reader.subscribe("log:a")
            publish(hub, "log:a", range(5))
            messages = [await reader.next() for _ in range(5)]
            assert [(each.data, each.offset) for each in messages] == [(n, n + 1) for n in range(5)]
            assert {each.epoch for each in messages} == {answer["epoch"]}
            assert len(answer["epoch"]) == 8
            assert answer["epoch"].isalnum()

    async def test_channels_are_numbered_independently(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            reader = await open_reader(hub)
            await reader.subscribe("log:a")
            await reader.subscribe("log:b")
            for n in range(3):
                publish(hub, "log:a", [n])
                publish(hub, "log:b", [n])
            received = [await reader.next() for _ in range(6)]
            for channel in ("log:a", "log:b"):
                offsets = [each.offset for each in received if each.channel == channel]
                assert offsets == [1, 2, 3]

    async def test_a_publisher_cannot_choose_a_position(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            reader = await open_reader(hub)
            answer = await reader.subscribe("log:a")
            await reader.subscribe("plain")
            forged = Message(type=MessageType.EVENT, data=1, epoch="forged", offset=99)
            hub.publish("log:a", forged)
            message = await reader.next()
            assert (message.epoch, message.offset) == (answer["epoch"], 1)
            hub.publish("plain", forged)
            message = await reader.next()
            assert (message.epoch, message.offset) == ("", 0)
            publisher = await open_reader(hub)
            publisher.client.send(
                b'{"type":"event","channel":"log:a","data":2,"epoch":"forged","offset":99}'
            )
            message = await reader.next()
            assert (message.epoch, message.offset) == (answer["epoch"], 2)

    async def test_a_broadcast_is_in_no_history(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            reader = await open_reader(hub)
            await reader.subscribe("log:a")
            hub.broadcast(Message(type=MessageType.EVENT, channel="log:a", data="all"))
            message = await reader.next()
            assert (message.epoch, message.offset) == ("", 0)
            assert (await hub.history("log:a")).offset == 0

    async def test_a_message_may_be_as_large_as_max_message_bytes_with_its_position(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            reader = await open_reader(hub)
            await reader.subscribe("log:a")
            accepted = 0
            for size in range(3_000, 4_200):
                try:
                    publish(hub, "log:a", ["x" * size])
                except MessageTooLargeError:
                    break
                accepted += 1
            assert accepted
            assert 3_000 + accepted < 4_096
            data = await reader.receive(accepted, after=0)
            assert [len(each) for each in data] == [*range(3_000, 3_000 + accepted)]

    async def test_publish_listeners_hear_each_message_once(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            heard: list[Any] = []
            hub.add_publish_listener(lambda channel, message: heard.append(message.data))
            reader = await open_reader(hub)
            await reader.subscribe("log:a")
            publish(hub, "log:a", range(20))
            await reader.receive(20, after=0)
            assert heard == [*range(20)]

    # Answers and recovery.

    async def test_a_plain_subscriber_gets_the_position_and_only_later_messages(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            page = await fill(hub, "log:a", range(5))
            reader = await open_reader(hub)
            answer = await reader.subscribe("log:a")
            assert answer == {"epoch": page.epoch, "offset": 5, "first": 1, "after": 5}
            publish(hub, "log:a", ["live"])
            assert await reader.receive(1, after=5) == ["live"]
            await reader.assert_silent()

    async def test_a_subscriber_before_the_first_message_has_a_position(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            reader = await open_reader(hub)
            answer = await reader.subscribe("log:a")
            assert {**answer, "epoch": ""} == {"epoch": "", "offset": 0, "first": 1, "after": 0}
            reader.client.close()
            await fill(hub, "log:a", range(3))
            again = await open_reader(hub)
            recovered = await again.subscribe("log:a", since=0, epoch=answer["epoch"])
            # The store may have messages that are still on their way to this hub.
            assert recovered.pop("offset") <= 3
            expected = {"epoch": answer["epoch"], "first": 1, "after": 0, "recovered": True}
            assert recovered == expected, recovered
            assert await again.receive(3, after=0) == [0, 1, 2]

    async def test_last_gives_the_newest_messages(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            await fill(hub, "log:a", range(20))
            for last, count in ((0, 0), (1, 1), (7, 7), (20, 20), (21, 20), (2**53 - 1, 20)):
                reader = await open_reader(hub)
                answer = await reader.subscribe("log:a", last=last)
                assert answer["recovered"] is True, last
                assert answer["after"] == 20 - count
                assert await reader.receive(count, after=20 - count) == [*range(20 - count, 20)]
                await reader.assert_silent()

    async def test_since_gives_the_messages_behind_an_offset(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            page = await fill(hub, "log:a", range(20))
            for since in (0, 1, 13, 19, 20):
                for epoch in ({}, {"epoch": page.epoch}):
                    reader = await open_reader(hub)
                    answer = await reader.subscribe("log:a", since=since, **epoch)
                    expected = {"epoch": page.epoch, "offset": 20, "first": 1, "after": since}
                    assert answer == {**expected, "recovered": True}
                    assert await reader.receive(20 - since, after=since) == [*range(since, 20)]
                    await reader.assert_silent()

    async def test_a_history_of_many_pages_arrives_completely(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            await fill(hub, "log:a", [[n, "x" * 400] for n in range(3_000)])
            reader = await open_reader(hub)
            assert (await reader.subscribe("log:a", since=0))["recovered"] is True
            data = await reader.receive(3_000, after=0)
            assert [number for number, _ in data] == [*range(3_000)]

    async def test_a_second_request_on_the_connection_starts_over(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            await fill(hub, "log:a", range(10))
            reader = await open_reader(hub)
            for since in (0, 8, 4, 0):
                assert (await reader.subscribe("log:a", since=since))["after"] == since
                assert await reader.receive(10 - since, after=since) == [*range(since, 10)]
            await reader.assert_silent()
            publish(hub, "log:a", ["live"])
            assert await reader.receive(1, after=10) == ["live"]

    async def test_messages_that_were_removed_are_reported_as_trimmed(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            page = await fill(hub, "ten:a", range(50))
            for wish, missing in (({"since": 7}, 33), ({"since": 39}, 1), ({"last": 12}, 2)):
                reader = await open_reader(hub)
                answer = await reader.subscribe("ten:a", **wish)
                assert answer == {
                    **{"epoch": page.epoch, "offset": 50, "first": 41, "after": 40},
                    **{"recovered": False, "reason": "trimmed", "missing": missing},
                }
                assert await reader.receive(10, after=40) == [*range(40, 50)]
                await reader.assert_silent()
            reader = await open_reader(hub)
            assert (await reader.subscribe("ten:a", since=40))["recovered"] is True
            assert await reader.receive(10, after=40) == [*range(40, 50)]

    async def test_a_foreign_epoch_is_reported_and_all_that_is_kept_follows(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            await fill(hub, "log:a", range(5))
            for since in (0, 3, 5, 99):
                reader = await open_reader(hub)
                answer = await reader.subscribe("log:a", since=since, epoch="00000000")
                assert (answer["recovered"], answer["reason"]) == (False, "foreign_epoch")
                assert "missing" not in answer
                assert (answer["after"], answer["offset"]) == (0, 5)
                assert await reader.receive(5, after=0) == [*range(5)]

    async def test_an_offset_from_the_future_is_reported_and_all_that_is_kept_follows(
        self,
    ) -> None:
        async with self.open_hub(CONFIG) as hub:
            page = await fill(hub, "log:a", range(5))
            for since in (6, 2**53 - 1):
                reader = await open_reader(hub)
                answer = await reader.subscribe("log:a", since=since, epoch=page.epoch)
                assert (answer["recovered"], answer["reason"]) == (False, "future_offset")
                assert (answer["after"], answer["offset"]) == (0, 5)
                assert await reader.receive(5, after=0) == [*range(5)]

    async def test_a_channel_without_history_is_subscribed_and_says_so(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            reader = await open_reader(hub)
            answer = await reader.subscribe("plain", last=5)
            assert answer == {"recovered": False, "reason": "no_history"}
            assert await reader.subscribe("plain") == {}
            publish(hub, "plain", ["live"])
            message = await reader.next()
            assert (message.data, message.epoch, message.offset) == ("live", "", 0)

    async def test_nothing_is_lost_or_doubled_between_history_and_live_messages(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            page = await fill(hub, "log:a", range(100))

            async def go_on() -> None:
                for n in range(100, 300):
                    publish(hub, "log:a", [n])
                    if n % 10 == 0:
                        await asyncio.sleep(0.002)
                publish(hub, "log:a", ["end"])

            publishing = asyncio.create_task(go_on())
            for since in range(0, 100, 11):
                reader = await open_reader(hub)
                answer = await reader.subscribe("log:a", since=since, epoch=page.epoch)
                assert answer["recovered"] is True
                # The same connection asks again while messages are under way.
                assert (await reader.subscribe("log:a", since=since))["recovered"] is True
                messages = await reader.receive_until("end")
                assert [each.offset for each in messages] == [*range(since + 1, 302)]
                assert [each.data for each in messages[:-1]] == [*range(since, 300)]
            await publishing

    async def test_clients_that_subscribe_at_any_moment_see_every_message_once(self) -> None:
        async with self.open_hub(CONFIG) as hub:

            async def follow(wait: float) -> None:
                await asyncio.sleep(wait)
                reader = await open_reader(hub)
                await reader.subscribe("log:a", since=0)
                messages = await reader.receive_until("end")
                assert [each.offset for each in messages] == [*range(1, 202)]

            async with asyncio.TaskGroup() as group:
                for n in range(10):
                    group.create_task(follow(n * 0.002))
                for n in range(200):
                    publish(hub, "log:a", [n])
                    if n % 5 == 0:
                        await asyncio.sleep(0.001)
                publish(hub, "log:a", ["end"])

    async def test_threads_may_publish(self) -> None:
        async with self.open_hub(CONFIG) as hub:
            reader = await open_reader(hub)
            await reader.subscribe("log:a")

            def run(thread: int) -> None:
                publish(hub, "log:a", [[thread, n] for n in range(200)])

            await asyncio.gather(*(asyncio.to_thread(run, thread) for thread in range(3)))
            data = await reader.receive(600, after=0)
            for thread in range(3):
                assert [n for name, n in data if name == thread] == [*range(200)]
            page = await hub.history("log:a", limit=1_000)
            assert [each.data for each in page.messages] == data
