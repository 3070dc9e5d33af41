"""What compose.yaml and the files of deploy/ say fits the studio."""

from __future__ import annotations

from typing import Any

import yaml

from tests.studio import ROOT

COMPOSED: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
ENVIRONMENT = dict(
    line.split("=", 1)
    for line in (ROOT / "deploy" / "sae-studio.env").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)


def test_the_web_answers_to_the_host_that_its_health_check_asks_for() -> None:
    web = COMPOSED["services"]["web"]
    given = web["environment"]["SAESTUDIO_ALLOWED_HOSTS"]
    assert "http://127.0.0.1:8000/healthz" in web["healthcheck"]["test"][-1]
    assert "127.0.0.1" in given.rpartition("}")[2].split(","), "whatever else is given"
    assert "127.0.0.1" in ENVIRONMENT["SAESTUDIO_ALLOWED_HOSTS"].split(",")


def test_the_database_is_healthy_once_others_reach_it() -> None:
    asked = COMPOSED["services"]["postgres"]["healthcheck"]["test"]
    assert asked[asked.index("--host") + 1] == "127.0.0.1"


def test_every_program_has_a_service_that_runs_it() -> None:
    from saestudio.programs import COMMANDS

    commands = [str(service.get("command", "")) for service in COMPOSED["services"].values()]
    for words in COMMANDS.values():
        wanted = " ".join(words).format(bind="0.0.0.0", port=8000)
        assert f"python {wanted}" in commands


def test_a_worker_has_longer_to_end_than_its_run() -> None:
    from saestudio.programs import PATIENCE

    for name in ("trainer", "trainer-gpu"):
        given = COMPOSED["services"][name]["stop_grace_period"]
        assert int(given.removesuffix("s")) > PATIENCE["trainer"]
