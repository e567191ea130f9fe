"""A session: one server, its subscribers, and the measurement of some columns."""

import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from columns import LOADS, Extent, Load
from programs import Program, ProgramError, cores
from roster import Peer
from summary import Results, percentile

SUBSCRIBERS = Path(__file__).parent / "subscribers.py"
WARM_UP = 20  # connections before the first measurement
WARM_UP_TURNS = 50
ARRIVAL = 10  # seconds that the last messages may need
STANDSTILL = 2  # seconds without a message, after which the rest is lost
OWN_SERVER = ("channels", "turns", "storm", "deflate")  # columns that need a fresh server
WORDS = ("build", "test", "warning:", "passed", "src/main.c", "0.731", "target", "[ok]", "linking")


def measure(
    peer: Peer,
    command: Sequence[str | Path],
    keys: Sequence[str],
    extent: Extent,
    results: Results,
) -> Iterator[str]:
    """Measure columns into the results; yield the key of each column before it begins."""
    shared = [key for key in keys if key not in OWN_SERVER]
    if shared:
        with open_session(peer, command, extent) as session:
            results.versions = session.versions
            if "accept" in shared:
                yield "accept"
                session.measure_accept("accept", at_once=1, results=results)
            else:
                session.open(extent.subscribers, at_once=10)
            session.subscribe(["news"] * session.connections)
            for key in shared:
                if key in LOADS:
                    yield key
                    session.measure_load(key, results)
    for key in keys:
        if key == "deflate" and not peer.compresses:
            results.missing[key] = "the library has no compression"
        elif key not in shared:
            yield key
            try:
                with open_session(peer, command, extent, key) as session:
                    results.versions = session.versions
                    session.measure(key, results)
            except ProgramError as error:
                if key != "deflate":
                    raise
                results.missing[key] = str(error)


@contextmanager
def open_session(
    peer: Peer, command: Sequence[str | Path], extent: Extent, key: str = ""
) -> Iterator["Session"]:
    """Start a server and its subscribers; end them."""
    server_cores, reader_cores = cores()
    deflate = key == "deflate"
    with ExitStack() as stack:
        server = Program([*command, *["--compression"] * deflate], server_cores)
        stack.callback(server.end)
        greeting = server.read()
        readers = []
        for _ in range(1 if key == "turns" else extent.readers):
            arguments = [str(greeting["port"]), peer.dialect, *["deflate"] * deflate]
            reader = Program([sys.executable, SUBSCRIBERS, *arguments], reader_cores)
            stack.callback(reader.end)
            readers.append(reader)
        yield Session(server, readers, extent, len(reader_cores), greeting["versions"])


class Session:
    """A server that runs, and its subscribers."""

    def __init__(
        self,
        server: Program,
        readers: Sequence[Program],
        extent: Extent,
        reader_cores: int,
        versions: dict[str, str],
    ) -> None:
        self.versions = versions
        self.connections = 0
        self._server = server
        self._readers = readers
        self._extent = extent
        self._reader_cores = reader_cores

    def measure(self, key: str, results: Results) -> None:
        """Measure a column that has a server of its own."""
        match key:
            case "turns":
                self._measure_turns(results)
            case "storm":
                self._server.ask("watch")
                self.measure_accept("storm", self._extent.subscribers, results)
                held = self._server.ask("held")
                if held is not None:
                    results.values["held"] = held * 1e3
            case "channels":
                self.open(self._extent.channels, at_once=10)
                self.subscribe([f"c{number}" for number in range(self.connections)])
                self.measure_load(key, results)
            case _:
                self.open(self._extent.subscribers, at_once=10)
                self.subscribe(["news"] * self.connections)
                self.measure_load(key, results)

    def measure_accept(self, key: str, at_once: int, results: Results) -> None:
        """Measure the CPU time and the memory of connections that do nothing."""
        self.open(WARM_UP, 1)
        self._server.ask("collect")
        memory, cpu = self._server.resident_bytes(), self._server.cpu_seconds()
        number = self._extent.subscribers - WARM_UP
        self.open(number, at_once)
        results.values[key] = (self._server.cpu_seconds() - cpu) / number * 1e6
        if key == "accept":
            self._server.ask("collect")
            growth = self._server.resident_bytes() - memory
            results.values["memory"] = growth / number / 1024

    def open(self, number: int, at_once: int) -> None:
        """Open connections, in turns if one at a time, else in all processes at the same time."""
        shares = split(number, len(self._readers))
        if at_once == 1:
            for reader, share in zip(self._readers, shares, strict=True):
                reader.ask(json.dumps(["open", share, 1]), 90)
        else:
            for reader, share in zip(self._readers, shares, strict=True):
                reader.send(json.dumps(["open", share, at_once]))
            for reader in self._readers:
                reader.read(90)
        self.connections += number
        self._wait_for("connected")

    def subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe all connections."""
        rest = list(channels)
        for reader, share in zip(self._readers, split(len(rest), len(self._readers)), strict=True):
            reader.ask(json.dumps(["subscribe", rest[:share]]))
            del rest[:share]
        self._wait_for("subscribed")

    def _warm_up(self, load: Load) -> None:
        """Let the server run its code once: it may compile it, or make its buffers."""
        for reader in self._readers:
            reader.ask(json.dumps(["begin", False]))
        times = self._send(replace(load, messages=1, burst=1, pause=0))
        self._wait_for_arrival(times * self.connections)

    def _wait_for(self, command: str) -> None:
        deadline = time.monotonic() + 30
        while (number := self._server.ask(command)) < self.connections:
            if time.monotonic() > deadline:
                raise ProgramError(f"{number} of {self.connections} {command}")
            time.sleep(0.02)

    def measure_load(self, key: str, results: Results) -> None:
        """Measure the CPU time of a delivery, and the latency if it belongs to this column."""
        load = LOADS[key]
        self._warm_up(load)
        timed = key == "steady"
        for reader in self._readers:
            reader.ask(json.dumps(["begin", timed]))
        readers, cpu, began = self._reader_seconds(), self._server.cpu_seconds(), time.monotonic()
        times = self._send(load)
        expected = times * load.burst * self.connections
        self._wait_for_arrival(expected)
        cpu = self._server.cpu_seconds() - cpu
        took = (time.monotonic() - began) * self._reader_cores
        results.reader_share[key] = (self._reader_seconds() - readers) / took
        lost = [r.ask(json.dumps(["lost", times * load.burst])) for r in self._readers]
        results.lost[key] = sum(number for number, _ in lost)
        received = expected - results.lost[key]
        if received > 0:
            results.values[key] = cpu / received * 1e6
        if timed:
            delays = [delay for r in self._readers for delay in r.ask('["delays"]')]
            if delays:
                results.values["p50"] = percentile(delays, 50) / 1e3
                results.values["p99"] = percentile(delays, 99) / 1e3

    def _send(self, load: Load) -> int:
        extent = self._extent
        times = max(1, round(load.messages * extent.scale))
        channels = self.connections if load.many_channels else 0
        line = f"send {times} {load.burst} {load.pause} {extent.limit} {channels} {text(load.size)}"
        sent: int = self._server.ask(line, timeout=120)
        return sent

    def _wait_for_arrival(self, expected: int) -> None:
        now = time.monotonic()
        deadline, last = now + ARRIVAL, 0
        moved = now
        while (received := self._ask_all("count")) < expected:
            now = time.monotonic()
            if received > last:
                moved, last = now, received
            if now > deadline or now > moved + STANDSTILL:
                break
            time.sleep(0.02)

    def _ask_all(self, command: str) -> int:
        return sum(reader.ask(json.dumps([command])) for reader in self._readers)

    def _reader_seconds(self) -> float:
        return sum(reader.cpu_seconds() for reader in self._readers)

    def _measure_turns(self, results: Results) -> None:
        self.open(1, 1)
        self.subscribe(["news"])
        (reader,) = self._readers
        for turns in (WARM_UP_TURNS, self._extent.turns):
            reader.ask(json.dumps(["begin", False]))
            cpu = self._server.cpu_seconds()
            done = reader.ask(json.dumps(["take_turns", turns, text(128)]), timeout=120)
            results.lost["turns"] = turns - done
            if done:
                results.values["turns"] = (self._server.cpu_seconds() - cpu) / done * 1e6


def split(number: int, parts: int) -> list[int]:
    """Split a number into parts of about the same size."""
    return [number // parts + (part < number % parts) for part in range(parts)]


def text(size: int) -> str:
    """Return words that compress like the output of a program: always the same ones.

    With the dollar sign and the time, the data of a message has the given size.
    """
    choose = random.Random(7)
    words: list[str] = []
    while sum(map(len, words)) + len(words) < size:
        words.append(choose.choice(WORDS) + str(choose.randrange(1000)))
    return " ".join(words)[: size - 20].replace(" ", "_")
