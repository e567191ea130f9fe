"""The settings of ``wshub serve``: flags, environment variables and the configuration file."""

import argparse
import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wshub

from wshub_core import HistoryLimits, HubConfig, InvalidConfigError, PresenceSettings
from wshub_core.cli.settings import ServeSettings
from wshub_core.cli.sources import add_flags, read_settings

SECRET = "s3cret"


def parse(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return parser.parse_args(flags)


def read(*flags: str, **environment: str) -> ServeSettings:
    return read_settings(parse(*flags), environment)


def problems_of(tmp_path: Path, text: str) -> list[str]:
    """Return the errors of a file, without its name in front."""
    path = tmp_path / "wshub.toml"
    path.write_text(text)
    with pytest.raises(InvalidConfigError) as caught:
        read("--config", str(path))
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def test_a_flag_goes_before_a_variable_and_a_variable_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "wshub.toml"
    path.write_text("port = 1\nmax_connections = 1\nworkers = 1\nopen_timeout = 1\n")
    settings = read(
        *("--config", str(path), "--port", "3"), WSHUB_PORT="2", WSHUB_MAX_CONNECTIONS="2"
    )
    assert (settings.port, settings.max_connections) == (3, 2)
    assert settings.open_timeout == 1.0
    assert settings.host == "localhost"


def test_an_empty_variable_names_no_file() -> None:
    assert read("--port", "3", WSHUB_CONFIG="").port == 3


def test_a_flag_turns_a_switch_of_the_file_off(tmp_path: Path) -> None:
    path = tmp_path / "wshub.toml"
    path.write_text("compression = true\nallow_publish = true\n")
    settings = read("--no-compression", WSHUB_CONFIG=str(path), WSHUB_ALLOW_PUBLISH="false")
    assert not settings.compression
    assert not settings.allow_publish


@pytest.mark.parametrize(
    "text", ["https://a.example,https://b.example", " https://a.example , https://b.example,"]
)
def test_variables_and_flags_write_lists_with_commas(text: str) -> None:
    expected = ("https://a.example", "https://b.example")
    assert read(WSHUB_ALLOWED_ORIGINS=text).allowed_origins == expected
    assert read("--allowed-origins", text).allowed_origins == expected


def test_a_hub_gets_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "wshub.toml"
    path.write_text("""
        max_connections = 7
        allowed_origins = ["https://A.example/"]
        pong_timeout = 90
        history_seconds = 5
        [history."process:build"]
        messages = 1
        [history."process:*"]
        messages = 10
        bytes = 100
        [presence."room:*"]
        announce = true
    """)
    config = HubConfig(**read("--config", str(path)).hub_settings())
    assert config.max_connections == 7
    assert config.allowed_origins == ("https://a.example",)
    assert config.pong_timeout == 90.0
    assert dict(config.history) == {
        "process:build": HistoryLimits(messages=1),
        "process:*": HistoryLimits(messages=10, bytes=100, seconds=5),
    }
    assert list(config.history) == ["process:build", "process:*"]
    assert config.presence == {"room:*": PresenceSettings(announce=True)}


def test_every_error_of_a_file_is_reported(tmp_path: Path) -> None:
    text = """
        max-conections = 5
        compression = "yes"
        port = true
        redis = ["redis://:s3cret@localhost"]
        overflow = "s3cret"
        colour = 1
        presence = 1
        [history."process:*"]
        message = 1
        bytes = 1.5
        [history."chat:*"]
        messages = 0
        [history]
        news = 3
    """
    problems = problems_of(tmp_path, text)
    assert problems == [
        "unknown setting max-conections: did you mean max_connections?",
        "compression must be true or false, not a string",
        "port must be an integer, not true or false",
        "redis must be a string, not an array",
        "overflow must be one of close, drop_oldest, drop_newest",
        "unknown setting colour",
        "presence must be a table, not an integer",
        'unknown setting history."process:*".message: did you mean messages?',
        'history."process:*".bytes must be an integer, not a number',
        'history."chat:*": HistoryLimits.messages must be above 0, not 0',
        'history."news" must be a table, not an integer',
    ]


def test_an_error_in_the_text_of_a_file_names_the_line(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, "port = 1\n" + "\n" * 5 + "redis = s3cret\n")
    assert "line 7" in problem
    assert SECRET not in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_connections = 0", "max_connections must be above 0, not 0"),
        ("max_outbox_bytes = 1", "max_outbox_bytes must hold"),
        ("workers = 0", "workers must be 1 to 1000, not 0"),
        ("workers = 2", "several workers need redis"),
        ("ready_needs_redis = true", "ready_needs_redis needs redis"),
        ("workers = 8080\nredis = 'redis://x'", "workers must be 1 to 1000, not 8080"),
        ("port = 70000", "port must be 0 to 65535, not 70000"),
        ('allowed_origins = ["app.example"]', "allowed_origins: an origin is a scheme"),
        ('[history."a b"]', "history: 'a b' must be the name of a channel"),
        ("x = " + "[" * 50_000, "nested too deeply"),
        ("heartbeat_interval = nan", "heartbeat_interval must be above 0, not nan"),
    ],
)
def test_a_setting_out_of_its_range_is_an_error(tmp_path: Path, text: str, expected: str) -> None:
    (problem,) = problems_of(tmp_path, text)
    assert problem.startswith(expected)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "wshub.toml"
    path.write_bytes(b"\xef\xbb\xbfport = 1\r\n")
    assert read("--config", str(path)).port == 1


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes("host = 'höst'".encode("latin-1"))
    for path, expected in [
        (tmp_path / "none.toml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (latin, "the file is not UTF-8"),
    ]:
        with pytest.raises(InvalidConfigError, match=expected):
            read("--config", str(path))


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("WSHUB_PORT", "s3cret", "WSHUB_PORT must be an integer"),
        ("WSHUB_PORT", "tcp://10.0.0.7:8080", "Kubernetes sets it for a Service named wshub"),
        ("WSHUB_COMPRESSION", "on", "WSHUB_COMPRESSION must be true or false"),
        ("WSHUB_OVERFLOW", "s3cret", "WSHUB_OVERFLOW must be one of"),
        ("WSHUB_OPEN_TIMEOUT", "", "WSHUB_OPEN_TIMEOUT must be a number"),
        ("WSHUB_PORT", "80\udcff", "WSHUB_PORT must be an integer"),
    ],
)
def test_a_wrong_variable_is_an_error(variable: str, value: str, expected: str) -> None:
    with pytest.raises(InvalidConfigError, match=expected) as caught:
        read(**{variable: value})
    assert SECRET not in str(caught.value)


def test_the_settings_do_not_show_the_password() -> None:
    settings = read(WSHUB_REDIS=f"redis://:{SECRET}@localhost")
    assert settings.redis is not None
    assert SECRET not in repr(settings)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(key=st.sampled_from(list(ServeSettings.__slots__)), value=json)
def test_no_value_of_a_file_raises_another_error(key: str, value: Any) -> None:
    """The parser of TOML is left out: it returns such values, and others."""
    from wshub_core.cli.sources import _read_table

    problems: list[str] = []
    values = _read_table({key: value}, ServeSettings, "", problems)
    if not problems:
        with contextlib.suppress(InvalidConfigError):
            ServeSettings(**values)


# The command.


async def finish(*arguments: str) -> tuple[int | None, str, str]:
    async with wshub(*arguments) as process:
        output, errors = await process.communicate()
        return process.returncode, output.decode(), errors.decode()


async def test_check_config_reports_every_error_on_a_line(tmp_path: Path) -> None:
    path = tmp_path / "wshub.toml"
    path.write_text("prot = 1\nworkers = 'two'\n")
    assert await finish("check-config", str(path)) == (
        1,
        "",
        f"wshub: {path}: unknown setting prot: did you mean port?\n"
        f"wshub: {path}: workers must be an integer, not a string\n",
    )
    assert (await finish("serve", "--config", str(path)))[0] == 1
    path.write_text("port = 1\n")
    assert await finish("check-config", str(path)) == (0, f"{path} is valid\n", "")


async def test_check_config_checks_the_url_of_redis_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "wshub.toml"
    path.write_text(f'redis = "http://:{SECRET}@localhost"\n')
    code, _, errors = await finish("check-config", str(path))
    assert code == 1
    assert errors.count("\n") == 1
    assert SECRET not in errors


async def test_check_config_reports_every_invalid_value(tmp_path: Path) -> None:
    path = tmp_path / "wshub.toml"
    path.write_text("workers = 0\nport = 99999\nadmin_key = 'short'\nopen_timeout = -1\n")
    code, _, errors = await finish("check-config", str(path))
    assert code == 1
    assert errors == (
        "wshub: workers must be 1 to 1000, not 0\n"
        "wshub: port must be 0 to 65535, not 99999\n"
        "wshub: admin_key: the admin key needs at least 16 characters\n"
        "wshub: open_timeout must be above 0, not -1.0\n"
    )


async def test_check_config_counts_the_variables_as_serve_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("wshub_redis", "wshub_auth.jwt"):
        pytest.importorskip(package, exc_type=ImportError)
    path = tmp_path / "wshub.toml"
    path.write_text("workers = 2\nready_needs_redis = true\njwt_audience = 'wshub'\n")
    assert (await finish("check-config", str(path)))[0] == 1
    monkeypatch.setenv("WSHUB_REDIS", "redis://localhost:1")
    monkeypatch.setenv("WSHUB_JWT_SECRET", "x" * 32)
    assert await finish("check-config", str(path)) == (0, f"{path} is valid\n", "")
    monkeypatch.setenv("WSHUB_PORT", "tcp://10.0.0.7:8080")
    code, _, errors = await finish("check-config", str(path))
    assert (code, errors.startswith("wshub: WSHUB_PORT must be an integer")) == (1, True)


@pytest.mark.parametrize("path", ["", "/", "a\\u0000b", "none"])
async def test_a_key_file_that_cannot_be_read_is_an_error(tmp_path: Path, path: str) -> None:
    pytest.importorskip("wshub_auth")
    file = tmp_path / "wshub.toml"
    file.write_text(f'port = 0\napi_keys = "{path}"\n')
    for command in (("check-config",), ("serve", "--config")):
        code, _, errors = await finish(*command, str(file))
        assert code == 1
        assert errors.startswith("wshub: the file of api_keys cannot be read: ")
        assert errors.count("\n") == 1
