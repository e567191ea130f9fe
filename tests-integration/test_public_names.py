"""The public names of the four packages change only together with their snapshot."""

import difflib
import importlib
import re
from pathlib import Path

import pytest
from public_names import SNAPSHOT, Sources, snapshot

PUBLIC = Sources().public
REFERENCE = Path(__file__).parents[1] / "docs/reference"


def test_the_public_names_and_their_signatures_are_those_of_the_snapshot() -> None:
    recorded, present = SNAPSHOT.read_text(), snapshot()
    difference = "".join(
        difflib.unified_diff(
            recorded.splitlines(keepends=True),
            present.splitlines(keepends=True),
            fromfile=SNAPSHOT.name,
            tofile="the source",
        )
    )
    assert difference == "", (
        "The public names differ from tests-integration/public_names.txt. If the change is "
        "intended, run `python tests-integration/public_names.py`, commit the changed text file, "
        f"and describe the change in CHANGELOG.md and docs/reference.\n{difference}"
    )


def test_every_package_has_public_names() -> None:
    packages = {module.split(".")[0] for module in PUBLIC}
    assert packages == {"wshub_auth", "wshub_client", "wshub_core", "wshub_redis"}


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_every_public_name_can_be_imported(module: str) -> None:
    imported = importlib.import_module(module)
    assert [name for name in PUBLIC[module] if not hasattr(imported, name)] == []


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_the_reference_describes_every_public_name(module: str) -> None:
    pages = "".join(page.read_text() for page in REFERENCE.glob("*.md"))
    described = re.findall(r"^\.\. auto\w+:: (\w+)$", pages, re.M)
    assert set(PUBLIC[module]) - {"__version__", *described} == set()
