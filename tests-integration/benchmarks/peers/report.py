"""The report of a run as Markdown."""

from collections.abc import Mapping

from summary import PeerSummary, Report

BUSY = 0.9  # share of their cores from which on the subscribers may be too slow


def markdown(report: Report) -> str:
    """Return the machine, the table, and the notes below the table."""
    machine = ", ".join(f"{name}: {value}" for name, value in report.machine.items())
    extent = ", ".join(
        f"{report.extent[name]:,} {name}" for name in ("subscribers", "channels", "turns", "rounds")
    )
    parts = [
        f"Run of {report.date}: `{report.command}`",
        f"Machine: {machine}.",
        f"Extent: {extent}.",
        table(report),
        "\n".join(f"- {note}" for note in notes(report)),
        versions(report),
    ]
    return "\n\n".join(parts) + "\n"


def table(report: Report) -> str:
    """Return the medians, a row for each peer and a column for each kind of value."""
    columns = report.shown_columns()
    heads = ["server", *(f"{column.heading}, {column.unit}" for column in columns)]
    lines = [row(heads), row(["---", *["---:"] * len(columns)])]
    for peer in report.peers:
        cells = [format_value(peer.values.get(column.key)) for column in columns]
        lines.append(row([peer.name, *cells]))
    return "\n".join(lines)


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def format_value(value: float | None) -> str:
    """Return three digits."""
    if value is None:
        return "n/a"
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def notes(report: Report) -> list[str]:
    """Return what a reader must know of single values: losses, gaps, and the subscribers' load."""
    headings = {column.key: column.heading for column in report.shown_columns()}
    found = []
    for peer in report.peers:
        if peer.left_out is not None:
            found.append(f"{peer.name} is left out, or has not run to the end: {peer.left_out}.")
    lost = [
        f"{peer.name} lost {number:,} messages in the column “{headings[key]}”."
        for peer in report.peers
        for key, number in peer.lost.items()
        if number and key in headings
    ]
    found += lost or ["Every subscriber received every message."]
    shares = [
        (share, peer.name, headings[key])
        for peer in report.peers
        for key, share in peer.reader_share.items()
        if key in headings
    ]
    if shares:
        share, name, heading = max(shares)
        found.append(
            f"The subscribers used at most {share:.0%} of their cores ({name}, “{heading}”)."
        )
        found += [
            f"{name}, “{heading}”: the subscribers were busy, and may have been too slow."
            for share, name, heading in shares
            if share > BUSY
        ]
    return found + gaps(report, headings)


def gaps(report: Report, headings: Mapping[str, str]) -> list[str]:
    """Return why columns have no value, once for all peers with the same reason."""
    names: dict[tuple[str, str], list[str]] = {}
    for peer in report.peers:
        for key, reason in peer.missing.items():
            if key in headings:
                names.setdefault((key, reason), []).append(peer.name)
    return [
        f"No value for “{headings[key]}”: {', '.join(peers)} ({reason})."
        for (key, reason), peers in names.items()
    ]


def versions(report: Report) -> str:
    """Return the versions and the way of publishing of each peer."""
    lines = [row(["server", "publishes with", "versions"]), row(["---"] * 3)]
    lines += [row([p.name, p.description, format_versions(p)]) for p in report.peers]
    return "\n".join(lines)


def format_versions(peer: PeerSummary) -> str:
    return ", ".join(f"{name} {version}" for name, version in peer.versions.items())
