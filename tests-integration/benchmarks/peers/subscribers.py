"""A process with many subscribers, which counts the messages that arrive.

The process reads commands of JSON from standard input, one per line, and answers each command with
one line of JSON. The arguments are the port, the dialect, and `deflate` for compression.
"""

import base64
import contextlib
import json
import os
import select
import socket
import sys
import time

from dialects import DIALECTS, Dialect
from frames import CLOSE, PING, PONG, TEXT, FrameReader, client_frame

READ_SIZE = 65536
DEADLINE = 60  # seconds for opening connections
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


class Subscriber:
    """One connection, from the TCP handshake on."""

    def __init__(self, port: int, dialect: Dialect, deflate: bool) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(("127.0.0.1", port))
        self.is_open = False
        self.received = 0
        self._dialect = dialect
        self._frames = FrameReader()
        self._head = b"" if dialect.has_handshake else None
        self._steps = list(dialect.steps)
        self._request = (
            f"GET {dialect.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            f"{OFFER if deflate else ''}\r\n"
        ).encode()

    def begin(self) -> None:
        """Send the request, when the TCP connection is there."""
        if self._head is None:
            self.is_open = True
        else:
            self.socket.send(self._request)

    def send(self, text: str) -> None:
        self.socket.send(client_frame(text.encode()))

    def read(self, delays: list[int] | None = None) -> None:
        data = self.socket.recv(READ_SIZE)
        if not data:
            raise ConnectionError("the server closed a connection")
        if self._head is not None:
            self._head, data = self._read_head(self._head + data)
        for opcode, payload in self._frames.feed(data):
            if opcode == TEXT:
                self._note(payload, delays)
            elif opcode == PING:
                self.socket.send(client_frame(payload, PONG))
            elif opcode == CLOSE:
                raise ConnectionError("the server closes a connection")

    def _read_head(self, data: bytes) -> tuple[bytes | None, bytes]:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return data, b""
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(f"the server answers {head!r}")
        head = head.lower()
        if b"permessage-deflate" in head:
            self._frames.inflate_messages(b"server_no_context_takeover" not in head)
        elif OFFER.encode() in self._request:
            raise ConnectionError("the server does not agree to compression")
        self._next_step()
        return None, rest

    def _next_step(self) -> None:
        self.is_open = not self._steps
        if self._steps and (text := self._steps[0].text):
            self.send(text)

    def _note(self, payload: bytes, delays: list[int] | None) -> None:
        if number := payload.count(b"$"):
            self.received += number
            if delays is not None:
                now = time.time_ns()
                at = -1
                for _ in range(number):
                    at = payload.index(b"$", at + 1)
                    delays.append(now - int(payload[at + 1 : at + 20]))
        elif payload == self._dialect.ping:
            self.send(self._dialect.pong)
        elif self._steps and payload.startswith(self._steps[0].answer.encode()):
            del self._steps[0]
            self._next_step()


class Subscribers:
    """All connections of this process."""

    def __init__(self, port: int, dialect: str, deflate: bool) -> None:
        self._address = port, DIALECTS[dialect], deflate
        self._all: dict[int, Subscriber] = {}
        self._epoll = select.epoll()
        self._epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        self._delays: list[int] | None = None

    def run(self) -> None:
        """Read until the end of standard input."""
        while True:
            for descriptor, _ in self._epoll.poll():
                if descriptor == sys.stdin.fileno():
                    if not (line := sys.stdin.readline()):
                        return
                    command, *arguments = json.loads(line)
                    print(json.dumps(getattr(self, command)(*arguments)), flush=True)
                else:
                    self._read(descriptor)

    def _read(self, descriptor: int) -> None:
        try:
            self._all[descriptor].read(self._delays)
        except ConnectionError:
            # The subscriber stays in the table, so that its messages are missing.
            self._epoll.unregister(descriptor)
            with contextlib.suppress(OSError):
                self._all[descriptor].socket.shutdown(socket.SHUT_RDWR)

    def open(self, number: int, at_once: int) -> int:
        """Open connections, with a number of handshakes at once."""
        deadline = time.monotonic() + DEADLINE
        opening: dict[int, Subscriber] = {}
        with select.epoll() as epoll:
            while number or opening:
                while number and len(opening) < at_once:
                    subscriber = Subscriber(*self._address)
                    opening[subscriber.socket.fileno()] = subscriber
                    epoll.register(subscriber.socket.fileno(), select.EPOLLOUT)
                    number -= 1
                for descriptor, event in epoll.poll(1):
                    subscriber = opening[descriptor]
                    if event == select.EPOLLOUT:
                        subscriber.begin()
                        epoll.modify(descriptor, select.EPOLLIN)
                    else:
                        subscriber.read()
                    if subscriber.is_open:
                        epoll.unregister(descriptor)
                        self._all[descriptor] = opening.pop(descriptor)
                        self._epoll.register(descriptor, select.EPOLLIN)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{len(opening)} connections do not open")
        return len(self._all)

    def subscribe(self, channels: list[str]) -> None:
        """Subscribe the connections, each to its channel."""
        for subscriber, channel in zip(self._all.values(), channels, strict=True):
            subscriber.send(self._address[1].subscribe(channel))

    def count(self) -> int:
        return sum(subscriber.received for subscriber in self._all.values())

    def begin(self, timed: bool) -> None:
        """Count from zero; note the delay of every message if `timed`."""
        for subscriber in self._all.values():
            subscriber.received = 0
        self._delays = [] if timed else None

    def lost(self, expected: int) -> tuple[int, int]:
        """Return the number of missing messages, and of subscribers that miss some."""
        missing = [expected - subscriber.received for subscriber in self._all.values()]
        return sum(map(abs, missing)), sum(map(bool, missing))

    def delays(self) -> list[int]:
        """Return the delays in microseconds."""
        return [delay // 1000 for delay in self._delays or ()]

    def take_turns(self, times: int, text: str) -> int:
        """With one connection, send a message and wait for its copy; return how many came."""
        (subscriber,) = self._all.values()
        message = self._address[1].say("news", f"${time.time_ns()}{text}")
        for turn in range(times):
            subscriber.send(message)
            while subscriber.received <= turn:
                if not select.select([subscriber.socket], [], [], 5)[0]:
                    return turn
                subscriber.read()
        return times


if __name__ == "__main__":
    Subscribers(int(sys.argv[1]), sys.argv[2], "deflate" in sys.argv[3:]).run()
