"""Imports point one way: the web needs no torch, the engine no Django."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "datasets")


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after running the code."""
    report = "import sys; print(' '.join({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_web_application_loads_no_torch() -> None:
    found = loaded_by(
        "import saestudio.asgi, saestudio.urls\n"
        "from django.urls import get_resolver; get_resolver().url_patterns"
    )
    assert "django" in found
    assert not found.intersection(HEAVY)


def test_the_engine_loads_no_django() -> None:
    found = loaded_by("import workers.engine.train, workers.engine.__main__")
    assert "torch" in found
    assert not found.intersection({"django", "dramatiq", "channels", "redis"})


LIGHT = (
    "workers.engine.config",
    "workers.engine.features.neuronpedia",
    "workers.broker",
    "trainings",
)


def test_without_a_store_nothing_of_it_is_loaded() -> None:
    code = "import django; django.setup(); import workers.supervisor, trainings.urls"
    found = loaded_by(f"import os; os.environ.pop('SAESTUDIO_STORE', None); {code}")
    assert "workers" in found
    assert "fsspec" not in found


@pytest.mark.parametrize("module", LIGHT)
def test_what_the_web_imports_of_the_workers_is_light(module: str) -> None:
    assert not loaded_by(f"import {module}").intersection(HEAVY)
