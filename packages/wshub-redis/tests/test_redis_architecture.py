"""The boundary to redis-py."""

import ast
from pathlib import Path

import wshub_redis

PACKAGE = Path(wshub_redis.__file__).parent
CLIENTS = {
    "redis": {"Redis", "RedisCluster", "ResponseError"},
    "redis.asyncio": {"Redis", "RedisCluster"},
}


def test_only_the_folder_redis_py_uses_more_of_redis_py_than_its_clients() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "redis_py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(each.name.startswith("redis") for each in node.names), path
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("redis"):
                names = {each.name for each in node.names}
                assert names <= CLIENTS.get(node.module or "", set()), path
