"""What supervisord is told to run."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from saestudio import redis_server
from saestudio.programs import write_supervisor_config


@pytest.fixture
def config(home: Path, settings: object, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    settings.REDIS_FOLDER = home / "redis"  # type: ignore[attr-defined]

    def read() -> configparser.ConfigParser:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(write_supervisor_config())
        return parser

    return read


def test_everything_that_dies_is_started_again(config) -> None:  # type: ignore[no-untyped-def]
    programs = {s: dict(v) for s, v in config().items() if s.startswith("program:")}
    assert set(programs) == {
        f"program:{name}" for name in ("web", "trainer", "jobs", "sweeper", "redis")
    }
    assert all(p["autorestart"] == "true" for p in programs.values())


def test_a_redis_named_by_the_environment_is_not_started(config, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:6379")
    assert "program:redis" not in config()


def test_a_long_data_folder_gets_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    assert len(str(redis_server.socket_path(deep))) <= redis_server.MAX_SOCKET_PATH
    assert redis_server.socket_path(deep) != redis_server.socket_path(tmp_path / ("y" * 120))
