from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from wshub_core import Message, MessageType
from wshub_core.page.directory import ChannelActivity, ChannelDirectory

EVENT = Message(type=MessageType.EVENT)


def status(status: object, exit_code: object, second: int = 0) -> Message:
    return Message(
        type=MessageType.PROCESS_STATUS,
        data={"exitCode": exit_code, "status": status},
        timestamp=datetime.fromtimestamp(second, UTC),
    )


def known(directory: ChannelDirectory, channel: str) -> tuple[int, str | None, int | None]:
    activity = directory.activity(channel)
    return activity.message_count, activity.status, activity.exit_code


def test_the_directory_keeps_the_last_status_and_the_count() -> None:
    directory = ChannelDirectory()
    directory.record("process:a", status("running", 0))
    directory.record("process:a", Message(type=MessageType.PROCESS_OUTPUT, data="line"))
    assert known(directory, "process:a") == (2, "running", 0)
    directory.record("process:a", status("exited", -9))
    assert known(directory, "process:a") == (3, "exited", -9)
    assert known(directory, "unknown") == (0, None, None)


def test_the_directory_knows_when_the_last_run_began() -> None:
    directory = ChannelDirectory()
    begins: list[float | None] = []
    for each, second in (
        *(("running", 10), ("running", 11), ("exited", 15), ("exited", 16)),
        *(("running", 20), ("stopping", 21), ("exited", 25)),
    ):
        directory.record("process:a", status(each, 0, second))
        begins.append(directory.activity("process:a").started_at)
    # A second exit belongs to a run whose beginning was not published.
    assert begins == [10, 10, 10, None, 20, 20, 20]
    directory.record("process:a", Message(type=MessageType.PROCESS_OUTPUT, data="line"))
    assert directory.activity("process:a").started_at == 20
    directory.merge({"process:a": ChannelActivity(1, "exited", 3, 40, started_at=30)})
    activity = directory.activity("process:a")
    assert (activity.started_at, activity.status_at) == (30, 40)


def test_recording_a_message_reports_the_changes() -> None:
    directory = ChannelDirectory()
    output = Message(type=MessageType.PROCESS_OUTPUT, data="line")
    messages = [
        status("running", 0),
        output,
        status("running", 0),
        status("exited", 1),
        status("exited", 1),
        output,
        output,
    ]
    # A new channel, a new status, and the start of a run.
    assert [directory.record("process:a", message) for message in messages] == [
        (True, True, True),
        (False, False, False),
        (False, False, False),
        (False, True, False),
        (False, False, True),
        (False, False, True),
        (False, False, False),
    ]


def test_beyond_the_limit_the_channel_without_news_for_longest_is_dropped() -> None:
    directory = ChannelDirectory(limit=2)
    for channel in ("a", "b", "a", "c"):
        directory.record(channel, EVENT)
    assert directory.channels == ("a", "c")
    assert "a" in directory
    assert "b" not in directory
    # A channel that comes back starts with empty counts.
    assert directory.record("b", EVENT) == (True, False, True)


@dataclass
class Status:
    status: str
    exitCode: int


class StructStatus(msgspec.Struct, rename="camel"):
    status: str
    exit_code: int


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, (1, None, None)),
        ("odd", (1, None, None)),
        ([], (1, None, None)),
        ({}, (1, None, None)),
        ({"status": None, "exitCode": 1}, (1, None, None)),
        ({"status": 5}, (1, None, None)),
        ({"status": "running"}, (1, "running", None)),
        ({"status": "exited", "exitCode": "0"}, (1, "exited", None)),
        ({"status": "exited", "exitCode": True}, (1, "exited", None)),
        ({"status": "exited", "exitCode": 2**60}, (1, "exited", None)),
        ({"status": "exited", "exitCode": 1.5}, (1, "exited", None)),
        ({"status": "x" * 30_000, "exitCode": 1}, (1, "x" * 64, 1)),
        # Objects with one plain form in JSON count like that form.
        (Status("exited", 3), (1, "exited", 3)),
        (StructStatus("exited", 4), (1, "exited", 4)),
    ],
)
def test_data_of_another_shape_is_not_a_status(data: Any, expected: object) -> None:
    directory = ChannelDirectory()
    directory.record("a", Message(type=MessageType.PROCESS_STATUS, data=data))
    assert known(directory, "a") == expected


def test_a_snapshot_has_parts_and_begins_with_the_most_recent() -> None:
    directory = ChannelDirectory(limit=5)
    for number in range(8):
        directory.record(f"c{number}", EVENT)
    parts = [list(part) for part in directory.snapshot(2)]
    assert parts == [["c6", "c7"], ["c4", "c5"], ["c3"]]
    assert list(ChannelDirectory().snapshot(2)) == []


def test_merging_keeps_the_higher_count_and_the_more_recent_status() -> None:
    directory = ChannelDirectory()
    directory.record("process:a", status("running", 0, second=10))
    directory.record("process:b", status("exited", 1, second=10))
    changed = directory.merge(
        {
            "process:a": ChannelActivity(7, "exited", 2, status_at=11),
            "process:b": ChannelActivity(1, "running", 0, status_at=9),
            "news": ChannelActivity(3),
        }
    )
    assert set(changed) == {"process:a", "news"}
    assert known(directory, "process:a") == (7, "exited", 2)
    assert known(directory, "process:b") == (1, "exited", 1)
    assert known(directory, "news") == (3, None, None)
    # Merging again changes nothing.
    assert directory.merge({"news": ChannelActivity(2)}) == []


def test_merged_channels_displace_no_others_and_are_dropped_first() -> None:
    directory = ChannelDirectory(limit=3)
    directory.record("own", EVENT)
    others = {f"c{number}": ChannelActivity(1) for number in range(9)}
    assert directory.merge(others) == ["c7", "c8"]
    assert directory.channels == ("c7", "c8", "own")
    assert directory.merge({"late": ChannelActivity(1)}) == []
    directory.record("new", EVENT)
    assert directory.channels == ("c8", "new", "own")
