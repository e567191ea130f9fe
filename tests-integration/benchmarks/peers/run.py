"""Server CPU time of wshub and of other WebSocket servers, in one table.

    hatch run bench:peers
    hatch run bench:peers --quick
    hatch run bench:peers --only wshub,websockets --columns a,b --rounds 5

Every peer is a small server program in its own process on the first core. Other processes hold the
subscribers. The columns are explained in docs/explanation/benchmarks.md. All values are medians
over the rounds, and each round visits all peers. The benchmark needs Linux.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import columns
import roster
from environments import MissingPeerError, prepare
from programs import ProgramError, limit_open_files
from progress import Progress
from report import Row, markdown
from session import Results, measure


def main() -> None:
    arguments = parse(sys.argv[1:])
    limit_open_files()
    keys = columns.measurements(arguments.columns)
    progress = Progress(sys.stderr)
    rows = {peer.name: Row(peer) for peer in roster.PEERS if peer.name in arguments.only}
    commands: dict[str, list[str | Path]] = {}
    for row in rows.values():
        progress.show(f"install {row.peer.name}")
        try:
            commands[row.peer.name] = prepare(row.peer)
        except MissingPeerError as error:
            row.left_out = str(error)
    for number in range(1, arguments.rounds + 1):
        for row in rows.values():
            if row.left_out is None:
                where = f"round {number} of {arguments.rounds}: {row.peer.name}"
                measure_row(row, commands[row.peer.name], keys, arguments.extent, progress, where)
    progress.end()
    print(markdown(list(rows.values()), arguments.columns))


def measure_row(
    row: Row,
    command: Sequence[str | Path],
    keys: Sequence[str],
    extent: columns.Extent,
    progress: Progress,
    where: str,
) -> None:
    """Measure one peer in one round."""
    results = Results()
    row.rounds.append(results)
    try:
        for key, results in measure(row.peer, command, keys, extent):
            row.rounds[-1] = results
            progress.show(f"{where}, {key}")
    except ProgramError as error:
        row.left_out = str(error)


def parse(line: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [peer.name for peer in roster.PEERS]
    keys = [column.key for column in columns.COLUMNS]
    parser.add_argument("--only", type=Choices(names), help=f"peers: {','.join(names)}")
    parser.add_argument("--columns", type=Choices(keys), default=keys, help=",".join(keys))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true", help="few peers and subscribers, one round")
    parser.add_argument("--smoke", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(line)
    if arguments.smoke:
        default, arguments.extent, rounds = list(roster.SMOKE), columns.SMOKE, 1
    elif arguments.quick:
        default, arguments.extent, rounds = list(roster.QUICK), columns.QUICK, 1
    else:
        default, arguments.extent, rounds = names, columns.FULL, 3
    arguments.only = arguments.only or default
    arguments.rounds = arguments.rounds or rounds
    return arguments


class Choices:
    """A list of names, separated by commas."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = allowed

    def __call__(self, value: str) -> list[str]:
        names = value.split(",")
        for name in names:
            if name not in self._allowed:
                raise argparse.ArgumentTypeError(f"unknown: {name}")
        return names


if __name__ == "__main__":
    main()
