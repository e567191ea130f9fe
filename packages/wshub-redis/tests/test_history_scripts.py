"""The history scripts: positions, limits, epochs, repeated calls, and data of somebody else."""

from collections.abc import Iterator

import pytest
import redis
from history_scripts import CALLS, HASH, SOURCE, STREAM, Scripts, envelope_of, position_bytes
from redis.exceptions import ResponseError
from redis_servers import RedisServer, run_server

from wshub_core import HistoryLimits

LIMITS = HistoryLimits(messages=100, bytes=10_000, seconds=60.0)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def scripts(client: redis.Redis) -> Scripts:
    return Scripts(client, LIMITS)


def test_a_message_is_stored_and_published_with_its_position(
    scripts: Scripts, client: redis.Redis
) -> None:
    with client.pubsub() as subscription:
        subscription.subscribe("ws:channel:news")
        subscription.get_message(timeout=5)
        assert [scripts.publish(f'{{"type":"x","data":{n}}}') for n in range(3)] == [1, 2, 3]
        messages = [subscription.get_message(timeout=5) for _ in range(3)]
    page = scripts.read()
    for number, message in enumerate(messages):
        assert message is not None
        assert envelope_of(message) == {
            "sourceId": SOURCE,
            "id": number + 1,
            "epoch": page.epoch,
            "offset": number + 1,
            "message": {"type": "x", "data": number},
        }
    assert (page.first, page.offset, page.start) == (1, 3, 1)
    assert page.payloads == [b'{"type":"x","data":%d}' % n for n in range(3)]
    assert len(page.epoch) == 8
    assert page.epoch.isalnum()


def test_pages_begin_behind_an_offset(scripts: Scripts) -> None:
    for number in range(10):
        scripts.publish(f'{{"type":"{number}"}}')
    page = scripts.read(after=4, limit=3)
    assert (page.first, page.offset, page.start) == (1, 10, 5)
    assert page.payloads == [b'{"type":"%d"}' % n for n in (4, 5, 6)]
    assert scripts.read(after=4, limit=0).payloads == []
    for after in (10, 11, 1_000):
        page = scripts.read(after=after)
        assert (page.offset, page.payloads) == (10, [])


def test_a_page_ends_early_when_it_is_large(client: redis.Redis) -> None:
    scripts = Scripts(client, HistoryLimits(messages=1_000, bytes=10**9))
    for number in range(100):
        scripts.publish(f'{{"type":"{number:060000}"}}')
    after, pages = 0, 0
    while after < 100:
        page = scripts.read(after=after)
        assert page.start == after + 1
        assert 0 < sum(map(len, page.payloads)) < 1_048_576 + 61_000
        numbers = [int(each[-20:-2]) for each in page.payloads]
        assert numbers == list(range(after, after + len(page.payloads)))
        after += len(page.payloads)
        pages += 1
    assert pages > 1


def test_the_number_of_messages_is_limited(client: redis.Redis) -> None:
    for messages in (1, 2, 3, 50, 1_000):
        scripts = Scripts(client, HistoryLimits(messages=messages))
        for number in range(1_300):
            scripts.publish(f'{{"type":"{number}"}}')
        page = scripts.read(limit=10_000)
        assert (page.first, page.offset, page.start) == (1_301 - messages, 1_300, page.first)
        assert page.payloads[0] == b'{"type":"%d"}' % (1_300 - messages)
        assert len(page.payloads) == messages
        # Some messages above the limit may stay.
        assert client.xlen(STREAM) <= messages + 64 + 100


def test_the_size_of_the_messages_is_limited(client: redis.Redis) -> None:
    scripts = Scripts(client, HistoryLimits(bytes=10_000))
    sizes = {}
    for number in range(300):
        message = f'{{"type":"{"x" * (number * 7 % 90)}"}}'
        offset = scripts.publish(message)
        sizes[offset] = len(message) + position_bytes(offset)
    page = scripts.read()
    kept = sum(size for offset, size in sizes.items() if offset >= page.first)
    assert kept <= 10_000 < kept + sizes[page.first - 1]
    assert page.start == page.first
    assert page.start + len(page.payloads) - 1 == page.offset == 300
    assert client.xlen(STREAM) < 300


def test_a_message_above_the_maximum_size_is_not_kept(client: redis.Redis) -> None:
    scripts = Scripts(client, HistoryLimits(bytes=100))
    scripts.publish()
    assert scripts.publish(f'{{"type":"{"x" * 200}"}}') == 2
    page = scripts.read()
    assert (page.first, page.offset, page.payloads) == (3, 2, [])
    assert scripts.publish() == 3
    assert scripts.read().first == 3


def test_messages_that_are_too_old_are_left_out_and_removed(
    scripts: Scripts, client: redis.Redis
) -> None:
    for _ in range(50):
        scripts.publish()
        scripts.advance(1.0)
    # The first message is 60 seconds old now, the 41st one is 20 seconds old.
    scripts.advance(9.999)
    assert scripts.read().first == 1
    scripts.advance(0.001)
    assert scripts.read().first == 2
    scripts.advance(40.0)
    page = scripts.read(after=0)
    assert (page.first, page.start, page.offset, len(page.payloads)) == (42, 42, 50, 9)
    scripts.advance(60.0)
    page = scripts.read()
    assert (page.first, page.offset, page.payloads) == (51, 50, [])
    for _ in range(80):
        scripts.publish()
    assert scripts.read().first == 51
    scripts.advance(60.0)
    for _ in range(20):
        scripts.publish()
    # The server removes entries by the hundred.
    assert client.xinfo_stream(STREAM)["first-entry"][0] == b"101-0"


def test_a_clock_that_jumps_back_loses_no_message(scripts: Scripts) -> None:
    scripts.publish()
    scripts.advance(-1_000)
    scripts.publish()
    page = scripts.read()
    assert (page.first, len(page.payloads)) == (1, 2)


def test_the_keys_expire_after_the_messages(scripts: Scripts, client: redis.Redis) -> None:
    scripts.publish()
    for _ in range(2):
        # Not before the age of the message that came last.
        assert 60_000 <= client.pttl(STREAM) <= 64_000
        assert client.pttl(HASH) > 86_400_000
        client.pexpire(STREAM, 61_000)
        scripts.advance(5.0)
        scripts.publish()
    scripts.limits = HistoryLimits(seconds=1_000)
    scripts.publish()
    assert client.pttl(STREAM) > 1_000_000


def test_a_position_outlives_its_messages(scripts: Scripts, client: redis.Redis) -> None:
    for _ in range(5):
        scripts.publish()
    epoch = scripts.read().epoch
    client.delete(STREAM)
    page = scripts.read()
    assert (page.epoch, page.first, page.offset, page.payloads) == (epoch, 6, 5, [])
    assert scripts.publish() == 6
    page = scripts.read()
    assert (page.epoch, page.first, page.offset, len(page.payloads)) == (epoch, 6, 6, 1)
    # A new stream gets an expiry soon.
    scripts.advance(10.0)
    scripts.publish()
    assert client.pttl(STREAM) > 0


def test_a_read_begins_an_epoch_for_a_limited_time(scripts: Scripts, client: redis.Redis) -> None:
    page = scripts.read()
    assert (page.first, page.offset, page.payloads) == (1, 0, [])
    assert scripts.read().epoch == page.epoch
    assert 0 < client.pttl(HASH) <= 3_600_000
    assert not client.exists(STREAM)
    assert scripts.publish() == 1
    assert scripts.read().epoch == page.epoch
    assert client.pttl(HASH) > 86_400_000


def test_a_lost_position_begins_a_new_epoch(scripts: Scripts, client: redis.Redis) -> None:
    scripts.publish()
    scripts.publish()
    epoch = scripts.read().epoch
    client.delete(HASH)
    assert scripts.publish('{"type":"new"}') == 1
    page = scripts.read()
    assert page.epoch != epoch
    assert page.payloads == [b'{"type":"new"}']
    assert client.xlen(STREAM) == 1


@pytest.mark.parametrize("action", ["publish", "read"])
def test_another_server_begins_a_new_epoch_and_keeps_the_messages(
    scripts: Scripts, action: str
) -> None:
    for _ in range(3):
        scripts.publish()
    epoch = scripts.read().epoch
    scripts.run_id = "run-2"
    assert getattr(scripts, action)()
    page = scripts.read()
    assert page.epoch != epoch
    assert (page.first, page.start) == (1, 1)
    assert page.offset == len(page.payloads) == (4 if action == "publish" else 3)
    # A caller that does not know the run id changes nothing.
    scripts.run_id = ""
    scripts.publish()
    assert scripts.read().epoch == page.epoch
    scripts.run_id = "run-2"
    assert scripts.read().epoch == page.epoch


def test_the_first_known_run_id_keeps_the_epoch(scripts: Scripts) -> None:
    scripts.run_id = ""
    scripts.publish()
    epoch = scripts.read().epoch
    for run_id in ("run-1", "", "run-1"):
        scripts.run_id = run_id
        assert scripts.read().epoch == epoch
    scripts.run_id = "run-2"
    assert scripts.read().epoch != epoch


def test_epochs_that_begin_at_the_same_time_are_different(
    scripts: Scripts, client: redis.Redis
) -> None:
    epochs = set()
    for _ in range(20):
        epochs.add(scripts.read().epoch)
        client.flushall()
        scripts.publish()
        epochs.add(scripts.read().epoch)
        epochs.add(scripts.clear())
        client.flushall()
    assert len(epochs) == 60


def test_a_repeated_call_does_nothing_if_the_message_is_stored(
    scripts: Scripts, client: redis.Redis
) -> None:
    other = "6" * 32
    for number in (1, 2, 3):
        scripts.publish(envelope_id=number)
        scripts.publish(source=other, envelope_id=number * 10)
    with client.pubsub() as subscription:
        subscription.subscribe("ws:channel:news")
        subscription.get_message(timeout=5)
        for number in (2, 3):
            assert scripts.publish(envelope_id=number, is_repeated=True) == 0
        assert scripts.publish(envelope_id=4, is_repeated=True) == 7
        message = subscription.get_message(timeout=5)
        assert message is not None
        assert envelope_of(message)["id"] == 4
    # Without the mark, the order of the ids does not matter.
    assert scripts.publish(envelope_id=1) == 8
    # Long afterwards, and after a failover, too.
    for _ in range(200):
        scripts.publish(source=other)
    scripts.run_id = "run-2"
    assert scripts.publish(envelope_id=1, is_repeated=True) == 0


def test_only_the_sources_that_were_silent_longest_are_forgotten(
    scripts: Scripts, client: redis.Redis
) -> None:
    def name(number: int) -> str:
        return f"{number:032}"

    for number in range(1_000):
        scripts.advance(0.01)
        scripts.publish(source=name(number), envelope_id=1)
        scripts.publish(source=SOURCE, envelope_id=number)
        assert client.hlen(HASH) <= 260
    for number in range(900, 1_000):
        assert scripts.publish(source=name(number), envelope_id=1, is_repeated=True) == 0
    assert scripts.publish(source=SOURCE, envelope_id=999, is_repeated=True) == 0
    assert scripts.publish(source=name(0), envelope_id=1, is_repeated=True) > 0
    page = scripts.read(limit=0)
    assert page.offset == 2_001


def test_clearing_begins_a_new_epoch(scripts: Scripts, client: redis.Redis) -> None:
    for _ in range(3):
        scripts.publish()
    old = scripts.read().epoch
    epoch = scripts.clear()
    assert epoch != old
    page = scripts.read()
    assert (page.epoch, page.first, page.offset, page.payloads) == (epoch, 1, 0, [])
    # The sources stay, so that no message from before is repeated.
    assert scripts.publish(envelope_id=3, is_repeated=True) == 0
    assert scripts.publish() == 1
    assert scripts.read().epoch == epoch
    client.flushall()
    assert scripts.clear() != epoch
    assert client.pttl(HASH) > 0


@pytest.mark.parametrize("key", [STREAM, HASH])
@pytest.mark.parametrize("action", ["publish", "read", "clear"])
def test_a_key_of_somebody_else_is_left_alone(
    scripts: Scripts, client: redis.Redis, key: str, action: str
) -> None:
    client.set(key, "mine")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        getattr(scripts, action)()
    assert client.get(key) == b"mine"
    client.delete(key)
    scripts.publish()
    client.set(key, "mine")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        getattr(scripts, action)()
    assert client.get(key) == b"mine"


def test_entries_of_somebody_else_at_the_end_begin_a_new_epoch(
    scripts: Scripts, client: redis.Redis
) -> None:
    scripts.publish()
    epoch = scripts.read().epoch
    client.xadd(STREAM, {"a": "b"})
    page = scripts.read()
    assert (page.offset, page.payloads) == (1, [b'{"type":"x"}'])
    assert scripts.publish('{"type":"new"}') == 1
    page = scripts.read()
    assert page.epoch != epoch
    assert page.payloads == [b'{"type":"new"}']


def test_entries_that_cannot_be_read_leave_no_gap(scripts: Scripts, client: redis.Redis) -> None:
    for _ in range(10):
        scripts.publish()
    client.xadd(STREAM, {"m": "5", "t": "junk"}, id="10-5")
    scripts.limits = HistoryLimits(messages=8)
    client.xdel(STREAM, "5-0", "6-0", "10-0")
    page = scripts.read()
    assert (page.first, page.start, page.offset) == (3, 3, 10)
    good = b'{"type":"x"}'
    assert page.payloads == [good, good, b"", b"", good, good, good, b""]
    assert scripts.read(after=4, limit=1).payloads == [b""]
    assert scripts.read(after=9).payloads == [b""]
    # Deleted from the beginning, they are missing as trimmed ones.
    client.xdel(STREAM, "3-0", "4-0")
    page = scripts.read()
    assert (page.first, page.start, len(page.payloads)) == (7, 7, 4)


@pytest.mark.parametrize("field", ["e", "o", "c", "x"])
def test_a_damaged_position_begins_a_new_epoch(
    scripts: Scripts, client: redis.Redis, field: str
) -> None:
    scripts.publish()
    epoch = scripts.read().epoch
    if field == "e":
        client.hdel(HASH, field)
    else:
        client.hset(HASH, field, "junk")
    assert scripts.publish('{"type":"new"}') == 1
    page = scripts.read()
    assert page.epoch != epoch
    assert page.payloads == [b'{"type":"new"}']


def test_a_message_that_cannot_be_published_is_reported_and_stored(scripts: Scripts) -> None:
    reply = scripts.publish(command="NOCOMMAND")
    assert isinstance(reply, bytes)
    assert scripts.read().payloads == [b'{"type":"x"}']
    assert scripts.publish() == 2


def test_offsets_and_sizes_above_10_to_the_14_stay_exact(
    scripts: Scripts, client: redis.Redis
) -> None:
    scripts.publish()
    client.delete(STREAM)
    big = 2**53 - 100
    client.hset(HASH, mapping={"o": big, "c": big})
    with client.pubsub() as subscription:
        subscription.subscribe("ws:channel:news")
        subscription.get_message(timeout=5)
        assert scripts.publish() == big + 1
        message = subscription.get_message(timeout=5)
        assert message is not None
        assert envelope_of(message)["offset"] == big + 1
    assert client.hget(HASH, "o") == str(big + 1).encode()
    page = scripts.read(after=big)
    assert (page.first, page.offset, page.start, len(page.payloads)) == (big + 1,) * 3 + (1,)


def test_any_limits_can_be_used(client: redis.Redis) -> None:
    for limits in (
        HistoryLimits(messages=2**70, bytes=2**70, seconds=float("inf")),
        HistoryLimits(messages=1, bytes=1, seconds=1e-9),
        HistoryLimits(messages=float("inf"), bytes=float("inf")),  # type: ignore[arg-type]
    ):
        scripts = Scripts(client, limits)
        for number in range(20):
            assert scripts.publish() == number + 1
        page = scripts.read()
        assert page.offset == 20
        assert len(page.payloads) == (0 if limits.bytes == 1 else 20)


def test_the_keys_of_a_channel_are_in_one_slot() -> None:
    from redis.crc import key_slot

    from wshub_redis.history_calls import HistoryCalls
    from wshub_redis.redis_channels import RedisChannels

    for name in ("news", "process:b-1", "a" * 256):
        stream, position = CALLS.keys(name)
        assert key_slot(stream) == key_slot(position) == key_slot(RedisChannels("ws").home)
        channels = RedisChannels("ws", is_sharded=True)
        keys = HistoryCalls(channels, is_sharded=True).keys(name)
        assert {key_slot(key) for key in keys} == {key_slot(channels.to_redis(name))}
        assert stream != position
