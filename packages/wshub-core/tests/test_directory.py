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
