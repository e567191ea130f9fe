"""The boundaries of the package: redis-py on one side, the core on the other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import wshub_core
import wshub_redis

PACKAGE = Path(wshub_redis.__file__).parent
CLIENTS = {
    "redis": {"Redis", "RedisCluster", "ResponseError"},
    "redis.asyncio": {"Redis", "RedisCluster"},
}


def find_imports(package: str) -> Iterator[tuple[Path, str, set[str]]]:
    """Yield the file, the module and the names of each import from a package."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found = [(each.name, {"*"}) for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [(node.module or "", {each.name for each in node.names})]
            else:
                continue
            for module, names in found:
                if module.partition(".")[0] == package:
                    yield path, module, names


def test_only_the_folder_redis_py_uses_more_of_redis_py_than_its_clients() -> None:
    for path, module, names in find_imports("redis"):
        assert path.parent.name == "redis_py" or names <= CLIENTS.get(module, set()), path


def test_the_core_is_used_by_its_public_names() -> None:
    shared = {"wshub_core.forks", "wshub_core.logs"}
    for path, module, names in find_imports("wshub_core"):
        assert module in shared or names <= set(wshub_core.__all__), path
