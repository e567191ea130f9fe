"""Factories for the messages for which publishers have methods (wire protocol, "Message")."""

from wshub_core.values.channels import process_channel
from wshub_core.values.messages import JSON, Message, MessageType


def event_message(name: str, data: JSON = None) -> Message:
    """Return an event for all clients."""
    return Message(type=MessageType.EVENT, data={"data": data, "event": name})


def channel_event_message(channel: str, data: JSON = None) -> Message:
    """Return an event for the subscribers of a channel."""
    return Message(type=MessageType.EVENT, channel=channel, data=data)


def error_message(text: str) -> Message:
    """Return a message about a failure."""
    return Message(type=MessageType.ERROR, data=text)


def process_output_message(process_id: str, line: str, *, overwrites: bool = False) -> Message:
    """Return a message with one line of a process's output, for the channel of the process.

    Args:
        process_id: The id of the process.
        line: The line without its line ending.
        overwrites: Whether the line replaces the previous line.

    Raises:
        InvalidProcessIDError: The id is invalid.
    """
    return Message(
        type=MessageType.PROCESS_OUTPUT,
        channel=process_channel(process_id),
        process_id=process_id,
        data=line,
        overwrites=overwrites,
    )


def process_status_message(process_id: str, status: str, exit_code: int = 0) -> Message:
    """Return a message about a change of a process, for the channel of the process.

    Raises:
        InvalidProcessIDError: The id is invalid.
    """
    return Message(
        type=MessageType.PROCESS_STATUS,
        channel=process_channel(process_id),
        process_id=process_id,
        data={"exitCode": exit_code, "status": status},
    )
