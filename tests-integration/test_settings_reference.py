"""The reference of the settings has every setting of the command, with its default."""

import re
from argparse import Namespace
from dataclasses import MISSING, fields
from pathlib import Path

from wshub_core.cli.settings import ServeSettings
from wshub_core.cli.sources import read_settings

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/reference/settings.md").read_text()


def documented() -> dict[str, str]:
    rows = re.findall(r"^\| `(\w+)` \| `?([^|`]+)`? \|", PAGE, re.M)
    return {name: default.strip() for name, default in rows}


def shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value in (None, ()) else str(value).lower()


def test_the_page_has_every_setting_and_its_default() -> None:
    settings = ServeSettings()
    limits = settings.hub_settings()["history"]["process:*"]
    # These settings change the history of processes, whose defaults they have.
    values = {f"history_{name}": getattr(limits, name) for name in limits.__slots__}
    expected = {
        each.name: shown(values.get(each.name, each.default))
        for each in fields(ServeSettings)
        if each.default is not MISSING
    }
    table = documented()
    assert {name: table.get(name) for name in expected} == expected
    tables = {each.name for each in fields(ServeSettings) if each.default is MISSING}
    assert table.keys() == expected.keys()
    assert set(re.findall(r"^\| `(\w+)` \| `\w+` \(", PAGE, re.M)) == tables


def test_the_file_of_the_guide_is_valid(tmp_path: Path) -> None:
    guide = (ROOT / "docs/howto/configure.md").read_text()
    (text,) = re.findall(r"^```toml\n(.*?)^```", guide, re.M | re.S)
    path = tmp_path / "wshub.toml"
    path.write_text(text)
    settings = read_settings(Namespace(config=str(path)), {})
    assert settings.workers == 2
    assert list(settings.history) == ["process:*", "news"]
