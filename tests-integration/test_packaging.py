"""The four packages have one version and one license, and their settings agree."""

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import wshub_core

ROOT = Path(__file__).parents[1]
PACKAGES = sorted((ROOT / "packages").iterdir())


def project(package: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    return table


def test_there_are_four_packages() -> None:
    names = [package.name for package in PACKAGES]
    assert names == ["wshub-auth", "wshub-client", "wshub-core", "wshub-redis"]
    assert [project(package)["name"] for package in PACKAGES] == names


def test_siblings_are_required_in_the_range_of_this_version() -> None:
    major, minor, _ = wshub_core.__version__.split(".")
    for package in PACKAGES:
        table = project(package)
        extras = table.get("optional-dependencies", {})
        requirements = [
            *table["dependencies"],
            *(each for extra in extras.values() for each in extra),
        ]
        siblings = [each for each in requirements if re.match(r"wshub-[a-z]+[^\[a-z]", each)]
        assert siblings, package.name
        for requirement in siblings:
            name = requirement.split("~=")[0]
            assert requirement == f"{name}~={major}.{minor}.0"


def test_the_core_needs_no_redis() -> None:
    core = project(ROOT / "packages/wshub-core")
    assert sorted(re.split(r"[>=]", each)[0] for each in core["dependencies"]) == [
        "h11",
        "msgspec",
        "websockets",
    ]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_package_has_the_license_and_types(package: Path) -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "EUROPEAN UNION PUBLIC LICENCE" in text
    assert (package / "LICENSE").read_text() == text
    assert (package / "src" / package.name.replace("-", "_") / "py.typed").exists()


def test_ci_runs_the_commands_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^\$ (python3 -m venv .* \.venv/bin/hatch .*)$", readme, re.MULTILINE)
    assert [command.rsplit("/", 1)[1] for command in commands] == ["hatch run demo", "hatch test"]
    assert commands[1] in (ROOT / ".ci/run").read_text()


def test_no_page_installs_from_the_package_index_before_the_first_release() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    if re.search(r"^## \[?\d", changelog, re.MULTILINE):
        return
    for page in (
        *ROOT.glob("*.md"),
        *ROOT.glob("packages/*/README.md"),
        *ROOT.glob("docs/**/*.md"),
    ):
        found = re.search(r"pip install [^`\n]*(?<![/\w-])\"?wshub-", page.read_text())
        assert found is None, f"{page}: {found and found[0]}"


@pytest.mark.parametrize("configuration", ["pyproject.toml", "packages/wshub-core/pyproject.toml"])
def test_the_environments_declare_the_imports_of_the_cores_tests(configuration: str) -> None:
    envs = tomllib.loads((ROOT / configuration).read_text())["tool"]["hatch"]["envs"]
    # The demo runs these tests in the default environment.
    table = envs.get("default") or envs["hatch-test"]
    names = [*table.get("dependencies", ()), *table.get("extra-dependencies", ())]
    declared = {re.split(r"[^a-z0-9-]", name)[0].replace("-", "_") for name in names}
    known = {*sys.stdlib_module_names, *declared, "wshub_core", "websockets", "msgspec", "pytest"}
    # The packages of OpenTelemetry share a namespace.
    known |= {"opentelemetry"} if "opentelemetry_sdk" in declared else set()
    # FastAPI installs Starlette, uvloop is optional, and the helpers are beside the tests.
    folder = ROOT / "packages/wshub-core/tests"
    known |= {"starlette", "uvloop", *(path.stem for path in folder.glob("*.py"))}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for module in modules:
                assert module.split(".")[0] in known, f"{path.name} imports {module}"


def test_every_benchmark_has_a_command_and_runs_in_ci() -> None:
    envs = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["envs"]
    scripts = envs["bench"]["scripts"]
    folder = ROOT / "tests-integration/benchmarks"
    names = sorted(
        [path.stem for path in folder.glob("*.py") if path.stem != "child_process"]
        + [path.parent.name for path in folder.glob("*/run.py")]
    )
    assert sorted(scripts) == sorted([*names, "smoke"])
    assert sorted({command.split()[0] for command in scripts["smoke"]}) == names
    assert "hatch run bench:smoke" in (ROOT / ".ci/run").read_text()


def test_the_supported_versions_of_python_agree() -> None:
    prefix = "Programming Language :: Python :: 3."
    workflow = re.search(r"python: (\[.*\])", (ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow is not None
    versions = ast.literal_eval(workflow[1])
    for package in PACKAGES:
        table = project(package)
        declared = [each for each in table["classifiers"] if each.startswith(prefix)]
        assert [each.rsplit(" ", 1)[1] for each in declared] == versions
        assert table["requires-python"] == f">={versions[0]}"
    for path in [ROOT / "pyproject.toml", *(each / "pyproject.toml" for each in PACKAGES)]:
        envs = tomllib.loads(path.read_text())["tool"]["hatch"]["envs"]
        assert envs["hatch-test"]["matrix"][0] == {"python": versions}


def test_the_tests_that_coverage_leaves_out_exist() -> None:
    envs = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["envs"]
    command = envs["hatch-test"]["scripts"]["run-cov"]
    ignored = re.findall(r"--ignore=(\S+)", command)
    assert ignored
    for path in ignored:
        assert (ROOT / path).is_file(), f"correct {path} in pyproject.toml"
    left_out = re.findall(r"--deselect=(\S+)::(\w+)", command)
    assert left_out
    for path, name in left_out:
        assert f"def {name}(" in (ROOT / path).read_text(), f"correct {name} in pyproject.toml"
