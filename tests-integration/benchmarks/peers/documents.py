"""Write the report into the documentation."""

import json
from pathlib import Path

from chart import chart
from report import markdown
from summary import Report

DOCS = Path(__file__).parents[3] / "docs/explanation"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"


def write_documents(report: Report, folder: Path = DOCS) -> None:
    """Write the JSON file and the chart, and replace the results in the page."""
    page = folder / "benchmarks.md"
    page.write_text(replace_results(page.read_text(), markdown(report)))
    (folder / "benchmarks.svg").write_text(chart(report))
    (folder / "benchmarks.json").write_text(json.dumps(report.as_dict(), indent=1) + "\n")


def replace_results(page: str, results: str) -> str:
    """Return a page with other results between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError("the page has no marks for the results")
    return f"{before}{BEGIN}\n{results}\n{END}{after}"
