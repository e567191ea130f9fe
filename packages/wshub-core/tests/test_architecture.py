"""The layers import only downwards, and every module has a docstring."""

import ast
from pathlib import Path

import wshub_core

SOURCE = Path(wshub_core.__file__).parent

LAYERS = [
    "values",
    "protocol",
    "forks",
    "interrupts",
    "logs",
    "loop",
    "bridge",
    "presence",
    "history",
    "connections",
    "transports",
    "endpoints",
    "bridge_port",
    "hub_channels",
    "hub_monitoring",
    "hub_operation",
    "hub_connections",
    "hub",
    "process",
    "page",
    "admin",
    "cli",
]

FORBIDDEN: dict[str, set[str]] = {
    "forks": set(),
    "interrupts": set(),
    "logs": {"asyncio"},
    "values": {"asyncio", "logging", "socket", "ssl", "threading", "time"},
    "protocol": {"asyncio", "logging", "socket", "ssl", "threading", "time"},
}


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports, for annotations and inside of functions too."""
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "wshub_core" and len(parts) > 1 else None


def test_layers_import_only_downwards() -> None:
    seen = 0
    for layer in LAYERS:
        for path in (*SOURCE.glob(f"{layer}.py"), *SOURCE.glob(f"{layer}/**/*.py")):
            seen += 1
            name = path.relative_to(SOURCE).as_posix()
            for module in imports(path):
                assert module.split(".")[0] not in FORBIDDEN.get(layer, set()), (
                    f"{name} imports {module}"
                )
                below = layer_of(module)
                if below is not None:
                    assert LAYERS.index(below) <= LAYERS.index(layer), f"{name} imports {module}"
    assert seen > 20


def test_every_module_has_a_docstring() -> None:
    for path in SOURCE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path
