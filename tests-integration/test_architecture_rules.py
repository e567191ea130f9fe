"""Rules for the sources of all packages; docs/explanation/architecture.md gives their reasons."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import wshub_core

ROOT = Path(__file__).parents[1]

MAX_LINES = 400
"""A longer module holds two ideas."""

MAX_FUNCTION_LINES = 60
"""A longer function holds two ideas. The longest are constructors that wire many parts."""

SHARED_MODULES = {
    "wshub_core",
    "wshub_core.forks",
    "wshub_core.interrupts",
    "wshub_core.logs",
    "wshub_core.testing",
}
"""The modules of the core that other packages import."""

RIDDLE = re.compile(
    r"(what|who|whom|whose|whether|how|that|it|one who|those|these)\b", re.IGNORECASE
)
"""A docstring that opens like this does not name its subject."""


@cache
def modules() -> dict[str, ast.Module]:
    """Return every source file, parsed, by the name of its module."""
    found = {}
    for path in sorted(ROOT.glob("packages/*/src/**/*.py")):
        parts = path.with_suffix("").parts
        name = ".".join(parts[parts.index("src") + 1 :]).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text())
    assert len(found) > 100
    return found


def imports(name: str) -> Iterator[tuple[str, str]]:
    """Yield the imports of a module, those for annotations and inside of functions too.

    Yields:
        The module that is imported, and the imported name; empty if the module itself is imported.
    """
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if submodule in modules():
                    yield submodule, ""
                else:
                    yield node.module or "", alias.name


def test_no_modules_import_each_other_in_a_circle() -> None:
    # Modules whose imports have all been removed are removed in turn; a circle stays.
    below = {
        name: {module for module, _ in imports(name) if module in modules() and module != name}
        for name in modules()
    }
    while free := {name for name, targets in below.items() if not targets & below.keys()}:
        below = {name: targets for name, targets in below.items() if name not in free}
    assert not below


@pytest.mark.parametrize("package", ["wshub_auth", "wshub_client", "wshub_redis"])
def test_packages_use_only_public_names_of_the_core(package: str) -> None:
    for name in modules():
        if name.split(".")[0] == package:
            for module, imported in imports(name):
                if module.split(".")[0] == "wshub_core":
                    assert module in SHARED_MODULES, f"{name} imports {module}"
                    assert module != "wshub_core" or imported in wshub_core.__all__, (
                        f"{name} imports {imported}"
                    )


def test_the_page_and_the_command_use_only_public_methods_of_the_hub() -> None:
    for name in modules():
        if name.startswith(("wshub_core.page", "wshub_core.cli")):
            for module, imported in imports(name):
                assert not module.startswith("wshub_core.connections"), f"{name} imports {module}"
                assert imported != "running_hub", f"{name} imports {imported}"


def test_no_module_uses_private_members_of_a_hub_or_its_port() -> None:
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                owner = ast.unparse(node.value).rpartition(".")[2].lstrip("_")
                is_friend = name == "wshub_core.hub"  # holds `running_hub`, for the test clients
                assert owner not in ("hub", "port") or is_friend, f"{name}: {ast.unparse(node)}"


def test_the_page_about_the_architecture_names_files_that_exist() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    sources = [path.as_posix() for path in ROOT.glob("packages/*/src/**/*") if path.is_file()]
    names = set(re.findall(r"`([\w/]+\.(?:py|js))`", page))
    assert len(names) > 60
    for name in names:
        is_there = name.startswith(("packages/", "tests-integration/")) and (ROOT / name).is_file()
        assert is_there or any(each.endswith(f"/{name}") for each in sources), name


def test_each_field_of_another_object_is_written_in_one_file() -> None:
    writers = defaultdict(set)
    for name, tree in modules().items():
        for node in ast.walk(tree):
            match node:
                case ast.Assign(targets=targets):
                    pass
                case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
                    targets = [target]
                case _:
                    continue
            for each in targets:
                match each:
                    case ast.Attribute(value=ast.Name(id="self")):
                        pass
                    case ast.Attribute(attr=field):
                        writers[field].add(name)
    for field in ("msg", "args"):
        del writers[field]  # of log records, which belong to the standard library
    assert {field: names for field, names in writers.items() if len(names) > 1} == {}


def test_modules_and_functions_are_short() -> None:
    for path in ROOT.glob("packages/*/src/**/*.py"):
        lines = path.read_text().splitlines()
        assert len(lines) <= MAX_LINES, path
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                code = node.body[1:] if ast.get_docstring(node) else node.body
                length = (code[-1].end_lineno or 0) - code[0].lineno + 1 if code else 0
                assert length <= MAX_FUNCTION_LINES, f"{path}: {node.name} has {length} lines"


def test_docstrings_name_their_subject() -> None:
    for name, tree in modules().items():
        assert ast.get_docstring(tree), f"{name} has no docstring"
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
                docstring = ast.get_docstring(node) or ""
                assert not RIDDLE.match(docstring), f"{name}: {docstring.splitlines()[0]}"
