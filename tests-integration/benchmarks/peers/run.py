"""Cost of wshub and of other WebSocket servers, in one table.

    hatch run bench:peers
    hatch run bench:peers --quick
    hatch run bench:peers --only wshub,websockets --columns steady,turns --rounds 5

Each peer is a small server program in its own process, on the first core. Other processes hold the
subscribers. Values are CPU time of the server, user and system, for each delivered message, if the
heading says nothing else. All values are medians over the rounds, and each round visits all peers.
docs/explanation/benchmarks.md explains the columns. The first run installs the peers into a cache
folder. The benchmark needs Linux.
"""

import argparse
import datetime
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import columns
import roster
from documents import write_documents
from environments import MissingPeerError, prepare
from machine import describe_machine
from programs import ProgramError, limit_open_files
from progress import Progress
from report import markdown
from session import measure
from summary import Report, Results, summarize


@dataclass
class Entry:
    """A peer in this run."""

    peer: roster.Peer
    command: Sequence[str | Path] = ()
    rounds: list[Results] = field(default_factory=list)
    left_out: str | None = None


def main() -> None:
    arguments = parse(sys.argv[1:])
    machine = describe_machine()
    limit_open_files()
    progress = Progress(sys.stderr)
    try:
        entries = run(arguments, progress)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        progress.end()
    report = Report(
        command=shlex.join(["hatch", "run", "bench:peers", *sys.argv[1:]]),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=machine,
        extent=asdict(arguments.extent) | {"rounds": arguments.rounds},
        columns=arguments.columns,
        peers=[summarize(entry.peer, entry.rounds, entry.left_out) for entry in entries],
    )
    print(markdown(report))
    if arguments.write_docs:
        write_documents(report)
    if arguments.is_choice and any(entry.left_out for entry in entries):
        sys.exit(1)


def run(arguments: argparse.Namespace, progress: Progress) -> list[Entry]:
    """Install the peers, and measure each of them in each round."""
    keys = columns.measurements(arguments.columns)
    entries = [Entry(peer) for peer in roster.PEERS if peer.name in arguments.only]
    for entry in entries:
        progress.show(f"prepare {entry.peer.name}")
        try:
            entry.command = prepare(entry.peer)
        except MissingPeerError as error:
            entry.left_out = str(error)
    for number in range(1, arguments.rounds + 1):
        for entry in entries:
            if entry.left_out is None:
                progress.show(f"round {number} of {arguments.rounds}: {entry.peer.name}")
                measure_once(entry, keys, arguments.extent, progress)
    return entries


def measure_once(
    entry: Entry, keys: Sequence[str], extent: columns.Extent, progress: Progress
) -> None:
    """Measure one peer in one round."""
    results = Results()
    entry.rounds.append(results)
    try:
        for key in measure(entry.peer, entry.command, keys, extent, results):
            progress.detail(key)
    except ProgramError as error:
        entry.left_out = str(error)


def parse(line: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    peers = [peer.name for peer in roster.PEERS]
    keys = [column.key for column in columns.COLUMNS]
    parser.add_argument("--only", type=names_in(peers), help=f"peers, of {', '.join(peers)}")
    parser.add_argument("--columns", type=names_in(keys), default=keys, help=", ".join(keys))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true", help="few peers and subscribers, one round")
    parser.add_argument("--write-docs", action="store_true", help="write the report into docs/")
    arguments = parser.parse_args(line)
    arguments.is_choice = arguments.only is not None
    arguments.extent = columns.QUICK if arguments.quick else columns.FULL
    arguments.only = arguments.only or (roster.QUICK if arguments.quick else peers)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    return arguments


def names_in(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a parser of names with commas between them."""

    def names(text: str) -> list[str]:
        for name in text.split(","):
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"unknown name {name!r}")
        return text.split(",")

    return names


if __name__ == "__main__":
    main()
