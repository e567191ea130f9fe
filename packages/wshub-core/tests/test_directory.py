from wshub_core import Message, MessageType
from wshub_core.state.directory import ChannelActivity, ChannelDirectory


def status(status: str, exit_code: int) -> Message:
    return Message(type=MessageType.PROCESS_STATUS, data={"exitCode": exit_code, "status": status})


def test_it_remembers_the_last_status_and_counts() -> None:
    directory = ChannelDirectory()
    directory.record("process:a", status("running", 0))
    directory.record("process:a", Message(type=MessageType.PROCESS_OUTPUT, data="line"))
    assert directory.activity("process:a") == ChannelActivity(2, "running", 0)
    directory.record("process:a", status("exited", -9))
    assert directory.activity("process:a") == ChannelActivity(3, "exited", -9)
    assert directory.activity("unknown") == ChannelActivity()


def test_beyond_the_limit_the_one_that_was_silent_longest_goes() -> None:
    directory = ChannelDirectory(limit=2)
    event = Message(type=MessageType.EVENT)
    for channel in ("a", "b", "a", "c"):
        directory.record(channel, event)
    assert directory.channels == ("a", "c")


def test_a_status_of_another_shape_is_no_status() -> None:
    directory = ChannelDirectory()
    directory.record("a", Message(type=MessageType.PROCESS_STATUS, data="odd"))
    assert directory.activity("a") == ChannelActivity(1)


def test_what_one_takes_the_others_learn() -> None:
    here, there = ChannelDirectory(), ChannelDirectory()
    event = Message(type=MessageType.EVENT)
    here.record("a", event)
    here.record("process:b", status("running", 0))
    there.record("a", event)
    there.learn("here", here.take_changes(10))
    assert not here.has_changes
    assert there.activity("a").messages == 2
    assert there.activity("process:b") == ChannelActivity(1, "running", 0)
    # What is told again is what has been recorded by then, and not more of it.
    here.record("process:b", status("exited", 1))
    there.learn("here", here.take_changes(10))
    assert there.activity("process:b") == ChannelActivity(2, "exited", 1)
    assert there.channels == ("a", "process:b")
    # Only what is its own is told, as often as somebody asks.
    assert set(there.take_changes(10)) == {"a"}
    there.change_all()
    assert set(there.take_changes(10)) == {"a"}


def test_changes_are_taken_in_parts() -> None:
    directory = ChannelDirectory(limit=5)
    for number in range(8):
        directory.record(f"c{number}", Message(type=MessageType.EVENT))
    parts = [directory.take_changes(2) for _ in range(4)]
    assert [len(part) for part in parts] == [2, 2, 1, 0]
    assert {channel for part in parts for channel in part} == {f"c{n}" for n in range(3, 8)}


def test_what_is_odd_is_made_small_and_many_sources_are_bounded() -> None:
    directory = ChannelDirectory()
    odd = {"status": "x" * 30_000, "exitCode": "oops"}
    directory.record("a", Message(type=MessageType.PROCESS_STATUS, data=odd))
    assert directory.activity("a") == ChannelActivity(1, "x" * 64, None)
    for number in range(1_000):
        directory.learn(f"source {number}", {"a": ChannelActivity(1)})
    assert directory.activity("a").messages == 256
