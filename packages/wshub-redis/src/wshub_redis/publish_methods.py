"""The publishing methods, which the blocking and the asyncio publisher share."""

from typing import Generic, TypeVar

from wshub_core import (
    JSON,
    Message,
    channel_event_message,
    error_message,
    event_message,
    process_output_message,
    process_status_message,
)

ResultT = TypeVar("ResultT")


class PublishMethods(Generic[ResultT]):
    """The publishing methods of `RedisPublisher` and `AsyncRedisPublisher`.

    Each method waits until Redis has the message. ``ResultT`` is None for `RedisPublisher`, whose
    methods block, and a coroutine for `AsyncRedisPublisher`, whose methods are awaited.
    """

    def _publish(self, channel: str | None, message: Message) -> ResultT:
        """Publish a message to a channel, or broadcast it if the channel is None."""
        raise NotImplementedError

    def publish(self, channel: str, message: Message) -> ResultT:
        """Publish a message to a channel.

        Args:
            channel: Channel name, 1 to 256 characters of ``A-Za-z0-9_.:-``.
            message: The message. Its ``channel`` and ``timestamp`` are set; the other fields are
                sent as they are.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidProcessIDError: The process id in the channel or the message is not allowed.
            ReservedTypeError: Messages of this type are between one client and its hub.
            MessageEncodeError: The message cannot be written as JSON.
            MessageTooLargeError: The encoded message exceeds ``max_message_bytes``.
            BridgeUnavailableError: Redis cannot be reached, or refuses the message.
            ForkedProcessError: An `AsyncRedisPublisher` was entered in a parent of this process.
        """
        return self._publish(channel, message)

    def broadcast(self, message: Message) -> ResultT:
        """Publish a message to every connection of every hub.

        Raises:
            WSHubError: As `publish` raises.
        """
        return self._publish(None, message)

    def publish_event(self, channel: str, data: JSON = None) -> ResultT:
        """Publish an event with any data to a channel.

        Raises:
            WSHubError: As `publish` raises.
        """
        return self._publish(channel, channel_event_message(channel, data))

    def send_event(self, name: str, data: JSON = None) -> ResultT:
        """Broadcast an event as ``{"event": name, "data": data}``.

        Raises:
            WSHubError: As `publish` raises.
        """
        return self._publish(None, event_message(name, data))

    def send_error(self, text: str) -> ResultT:
        """Broadcast an error.

        Raises:
            WSHubError: As `publish` raises.
        """
        return self._publish(None, error_message(text))

    def send_process_output(
        self, process_id: str, line: str, *, overwrites: bool = False
    ) -> ResultT:
        """Publish one line of a process's output to the channel ``process:<process_id>``.

        Args:
            process_id: 1 to 128 characters of ``A-Za-z0-9_.-``.
            line: The line without its end.
            overwrites: Whether the line replaces the line before it, as progress displays do with
                a carriage return.

        Raises:
            WSHubError: As `publish` raises.
        """
        message = process_output_message(process_id, line, overwrites=overwrites)
        return self._publish(message.channel, message)

    def send_process_status(self, process_id: str, status: str, exit_code: int = 0) -> ResultT:
        """Publish the new status of a process to the channel ``process:<process_id>``.

        Raises:
            WSHubError: As `publish` raises.
        """
        message = process_status_message(process_id, status, exit_code)
        return self._publish(message.channel, message)
