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
        f"program:{name}" for name in ("web", "trainer", "jobs", "saes", "sweeper", "redis")
    }
    assert all(p["autorestart"] == "true" for p in programs.values())


def trainers(config) -> dict[str, str]:  # type: ignore[no-untyped-def]
    found = {s.partition(":")[2]: v.get("environment", "") for s, v in config().items()}
    return {name: given for name, given in found.items() if name.startswith("trainer")}


def test_each_gpu_gets_a_trainer_that_sees_no_other(config, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    found = trainers(config)
    assert set(found) == {"trainer-0", "trainer-1"}
    assert 'CUDA_VISIBLE_DEVICES="0"' in found["trainer-0"]
    assert 'CUDA_VISIBLE_DEVICES="3"' in found["trainer-1"]


def test_a_trainer_may_have_several_gpus(config, monkeypatch, settings) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    settings.GPUS_PER_TRAINER = 2
    found = trainers(config)
    assert 'CUDA_VISIBLE_DEVICES="0,1"' in found["trainer-0"]
    assert 'CUDA_VISIBLE_DEVICES="2"' in found["trainer-1"]


def test_a_machine_that_joins_runs_what_it_is_told_in_a_folder_of_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(write_supervisor_config(["trainer", "saes"], "hosts/ada"))
    found = {s for s in parser if s.startswith("program:")}
    assert found == {"program:trainer", "program:saes"}
    assert parser["program:saes"]["stdout_logfile"] == f"{home}/hosts/ada/logs/saes.log"


def test_trainers_without_a_gpu_share_the_cores(config, monkeypatch, settings) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert trainers(config) == {"trainer": ""}
    settings.TRAINERS = 2
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    found = trainers(config)
    assert set(found) == {"trainer-0", "trainer-1"}
    assert all('OMP_NUM_THREADS="4"' in given for given in found.values())
    assert not any("CUDA" in given for given in found.values())
    assert config()["program:trainer-1"]["stopwaitsecs"] == "120"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # the user's own word
    assert all("OMP" not in given for given in trainers(config).values())


def test_a_redis_named_by_the_environment_is_not_started(config, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:6379")
    assert "program:redis" not in config()


def test_a_long_data_folder_gets_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    assert len(str(redis_server.socket_path(deep))) <= redis_server.MAX_SOCKET_PATH
    assert redis_server.socket_path(deep) != redis_server.socket_path(tmp_path / ("y" * 120))
