"""A tiny message broker over TCP, for which ``line_bridge.py`` is the bridge.

A client sends lines: ``SUB <channel> <number>``, ``UNSUB <channel>`` and ``PUB <channel> <data>``.
The broker confirms a subscription with ``OK <channel> <number>``, and passes data on to all
subscribers with ``MSG <channel> <data>``. Subscribers of the channel ``*`` receive all data.

Run it: ``python line_broker.py``.
"""

import asyncio
from asyncio import StreamReader, StreamWriter


class LineBroker:
    """The connections of the broker's clients, with their channels."""

    def __init__(self) -> None:
        self._channels: dict[StreamWriter, set[str]] = {}

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one client until it leaves."""
        channels = self._channels[writer] = set()
        try:
            async for line in reader:
                verb, channel, *rest = line.decode().rstrip("\n").split(" ", 2)
                if verb == "PUB":
                    self._publish(channel, rest[0])
                elif verb == "SUB":
                    channels.add(channel)
                    writer.write(f"OK {channel} {rest[0]}\n".encode())
                else:
                    channels.discard(channel)
        except ConnectionError:
            pass
        finally:
            del self._channels[writer]
            writer.close()

    def _publish(self, channel: str, data: str) -> None:
        line = f"MSG {channel} {data}\n".encode()
        for writer, channels in self._channels.items():
            if channel in channels or "*" in channels:
                writer.write(line)


async def main() -> None:
    """Serve on port 7000 until interrupted."""
    server = await asyncio.start_server(LineBroker().serve, "localhost", 7000, limit=2**20)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
