"""The messages that every publisher has a method for (wire protocol, "Message")."""

from wshub_core.values.channels import process_channel
from wshub_core.values.messages import JSON, Message, MessageType


def event_message(name: str, data: JSON = None) -> Message:
    """Return the message that something happened."""
    return Message(type=MessageType.EVENT, data={"data": data, "event": name})


def channel_event_message(channel: str, data: JSON = None) -> Message:
    """Return the message that something happened, for the subscribers of a channel."""
    return Message(type=MessageType.EVENT, channel=channel, data=data)


def error_message(text: str) -> Message:
    """Return the message that something failed."""
    return Message(type=MessageType.ERROR, data=text)


def process_output_message(process_id: str, line: str, *, overwrites: bool = False) -> Message:
    """Return the message with one line that a process printed, addressed to its channel.

    Args:
        process_id: The process.
        line: The line without its end.
        overwrites: Whether it takes the place of the line before it.

    Raises:
        InvalidProcessIDError: The id is not allowed.
    """
    return Message(
        type=MessageType.PROCESS_OUTPUT,
        channel=process_channel(process_id),
        process_id=process_id,
        data=line,
        overwrites=overwrites,
    )


def process_status_message(process_id: str, status: str, exit_code: int = 0) -> Message:
    """Return the message that a process changed, addressed to its channel.

    Raises:
        InvalidProcessIDError: The id is not allowed.
    """
    return Message(
        type=MessageType.PROCESS_STATUS,
        channel=process_channel(process_id),
        process_id=process_id,
        data={"exitCode": exit_code, "status": status},
    )
