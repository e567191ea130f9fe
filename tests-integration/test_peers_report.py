"""The report of `bench:peers`: medians, the table, its notes, the chart, and the page."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from chart import chart
from columns import COLUMNS, LOADS, MEASURED_WITH, measurements
from documents import BEGIN, END, replace_results, write_documents
from hypothesis import given
from hypothesis import strategies as st
from report import format_value, notes, table
from roster import PEERS, QUICK, Peer
from summary import PeerSummary, Report, Results, percentile, summarize

WSHUB = Peer("wshub", "wshub_server.py", "publishes")
SVG = "{http://www.w3.org/2000/svg}"


def summary(name: str, values: Mapping[str, float], **details: object) -> PeerSummary:
    return PeerSummary(name, "publishes", values=values, **details)  # type: ignore[arg-type]


def report(peers: Sequence[PeerSummary], columns: Sequence[str] = ("steady", "memory")) -> Report:
    extent = {"subscribers": 1000, "channels": 20, "turns": 5, "rounds": 3}
    return Report("the command", "2026-01-01", {"cores": "2"}, extent, columns, peers)


def test_a_value_is_the_median_of_the_rounds_that_have_it() -> None:
    rounds = [
        Results(values={"steady": 9.0, "turns": 3.0}),
        Results(values={"steady": 1.0}),
        Results(values={"steady": 2.0, "turns": 4.0}),
    ]
    peer = summarize(WSHUB, rounds, None)
    assert peer.values == {"steady": 2.0, "turns": 3.5}
    assert peer.rounds == {"steady": [9.0, 1.0, 2.0], "turns": [3.0, 4.0]}


def test_losses_are_added_and_the_busiest_round_of_the_subscribers_counts() -> None:
    rounds = [
        Results(lost={"steady": 2}, reader_share={"steady": 0.5}),
        Results(lost={"steady": 3}, reader_share={"steady": 0.2}),
    ]
    peer = summarize(WSHUB, rounds, None)
    assert peer.lost == {"steady": 5}
    assert peer.reader_share == {"steady": 0.5}


def test_a_peer_without_a_round_has_no_values_and_keeps_the_reason() -> None:
    peer = summarize(WSHUB, [], "there is no command go")
    assert (peer.values, peer.left_out) == ({}, "there is no command go")


@given(st.lists(st.integers(), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(
    values: list[int], percent: int
) -> None:
    def share(limit: float) -> float:
        return sum(value <= limit for value in values) * 100

    found = percentile(values, percent)
    assert found in values
    assert share(found) >= percent * len(values)
    assert share(found - 1) < percent * len(values)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (0.5, "0.50"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.94, "99.9"),
        (99.96, "100"),
        (1234.5, "1,234"),
    ],
)
def test_values_have_three_digits(value: float | None, text: str) -> None:
    assert format_value(value) == text


def test_the_table_has_the_chosen_columns_in_their_order_and_a_row_for_each_peer() -> None:
    peers = [summary("floor", {"steady": 5.0, "turns": 1.0}), summary("wshub", {"memory": 4.0})]
    assert table(report(peers, ["memory", "steady"])).splitlines() == [
        "| server | every 25 ms, µs | idle connection, KB |",
        "| --- | ---: | ---: |",
        "| floor | 5.00 | n/a |",
        "| wshub | n/a | 4.00 |",
    ]


def test_the_notes_name_losses_gaps_and_peers_that_are_left_out() -> None:
    peers = [
        summary("wshub", {}, lost={"steady": 1200, "memory": 0}),
        summary("picows", {}, missing={"steady": "no compression"}),
        summary("floor", {}, missing={"steady": "no compression", "deflate": "not chosen"}),
        summary("gorilla", {}, left_out="there is no command go"),
    ]
    assert notes(report(peers)) == [
        "gorilla is left out, or has not run to the end: there is no command go.",
        "wshub lost 1,200 messages in the column “every 25 ms”.",
        "No value for “every 25 ms”: picows, floor (no compression).",
    ]


def test_the_notes_say_that_nothing_was_lost() -> None:
    assert notes(report([summary("wshub", {}, lost={"steady": 0})])) == [
        "Every subscriber received every message."
    ]


@pytest.mark.parametrize(("share", "busy"), [(0.9, False), (0.91, True)])
def test_the_notes_warn_of_subscribers_that_were_too_busy(share: float, busy: bool) -> None:
    peers = [
        summary("floor", {}, reader_share={"steady": 0.3}),
        summary("wshub", {}, reader_share={"steady": share, "memory": 0.1}),
    ]
    text = "\n".join(notes(report(peers)))
    assert f"at most {share:.0%} of their cores (wshub, “every 25 ms”)" in text
    assert ("wshub, “every 25 ms”: the subscribers were busy" in text) == busy


def test_the_chart_has_a_bar_for_each_value_and_cuts_the_longest() -> None:
    values = {"floor": 2.0, "wshub-uvloop": 4.0, "picows": 4.0, "channels": 400.0}
    peers = [summary(name, {"steady": value}) for name, value in values.items()]
    root = ElementTree.fromstring(chart(report([*peers, summary("gorilla", {})])))
    bars = [
        (bar.get("class"), float(bar.get("width", 0)))
        for bar in root.iter(f"{SVG}rect")
        if bar.get("class")
    ]
    assert [style for style, _ in bars] == ["floor", "wshub", "peer", "peer"]
    widths = [width for _, width in bars]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.01)
    assert widths[3] == pytest.approx(4 * widths[1], rel=0.01)  # the limit: 4 times the median
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "400 →" in texts
    assert "4.00" in texts
    assert texts.count("n/a") == 1  # gorilla's; the panel of the memory is empty


def test_the_results_of_a_page_are_replaced_and_the_rest_stays() -> None:
    page = f"# Title\n\n{BEGIN}\nold\n\n{END}\n## More\n"
    once = replace_results(page, "new")
    assert once == f"# Title\n\n{BEGIN}\nnew\n{END}\n## More\n"
    assert replace_results(once, "new") == once


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks"):
        replace_results(f"# Title\n{BEGIN}", "new")


def test_the_documents_are_written_together(tmp_path: Path) -> None:
    (tmp_path / "benchmarks.md").write_text(f"{BEGIN}{END}")
    write_documents(report([summary("wshub", {"steady": 4.5})]), tmp_path)
    assert "| wshub | 4.50 | n/a |" in (tmp_path / "benchmarks.md").read_text()
    assert "4.50" in (tmp_path / "benchmarks.svg").read_text()
    content = json.loads((tmp_path / "benchmarks.json").read_text())
    assert content["peers"][0]["values"] == {"steady": 4.5}


def test_the_page_names_every_column_and_has_the_results_of_its_json_file() -> None:
    folder = Path(__file__).parents[1] / "docs/explanation"
    page = (folder / "benchmarks.md").read_text()
    for column in COLUMNS:
        assert f"`{column.key}`" in page
        assert column.heading in page or column.key in ("p50", "p99")
    content = json.loads((folder / "benchmarks.json").read_text())
    peers = [PeerSummary(**peer) for peer in content.pop("peers")]
    assert {peer.name for peer in peers} == {peer.name for peer in PEERS}
    assert table(Report(peers=peers, **content)) in page


def test_a_column_is_measured_together_with_the_one_that_it_comes_from() -> None:
    assert measurements(["p99"]) == ["steady"]
    assert measurements(["held", "memory", "steady"]) == ["steady", "accept", "storm"]
    keys = [column.key for column in COLUMNS]
    assert set(keys) == {*LOADS, *MEASURED_WITH, "turns", "accept", "storm"}
    assert set(measurements(keys)) == {*keys} - {*MEASURED_WITH}


def test_every_peer_has_a_name_a_program_and_fixed_versions() -> None:
    names = [peer.name for peer in PEERS]
    assert len(set(names)) == len(names)
    assert set(QUICK) <= set(names)
    servers = Path(__file__).parent / "benchmarks/peers/servers"
    for peer in PEERS:
        assert (servers / peer.program).exists()
        for requirement in peer.requirements:
            assert re.fullmatch(r"[a-z-]+==[\d.]+", requirement)
