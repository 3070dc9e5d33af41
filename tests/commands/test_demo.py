"""`manage.py demo` queues the demo once."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from trainings import demo
from trainings.models import Training

pytestmark = pytest.mark.django_db(transaction=True)


def test_demo_command_queues_one_training(
    home: Path, redis_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("demo")
    call_command("demo")
    training = Training.objects.get()
    line = f"{training.pk}  {training.name}  pending"
    assert capsys.readouterr().out.splitlines() == [line, line]


def test_demo_without_its_package_says_how_to_get_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "PACKAGE", "llm-nowhere")
    with pytest.raises(CommandError, match="pip install"):
        call_command("demo")
