"""`manage.py sweep` queues a whole sweep for the workers, or names what is wrong with it."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.rows import a_tokenization, an_sae
from tests.trainings.conftest import nudges
from trainings.models import Sweep, Training

__all__ = ["nudges"]
pytestmark = pytest.mark.django_db
PLACE = ("--model", "tiny-llama", "--dataset", "topics", "--layer", "1")


def sweep(*words: str) -> str:
    out = StringIO()
    call_command("sweep", *words, stdout=out)
    return out.getvalue()


def test_every_combination_is_queued_and_told(nudges: Any) -> None:
    a_tokenization()
    told = sweep(
        *(*PLACE, "--set", "num_steps=2000", "--vary", "l1_alpha=1e-3,0.002"),
        *("--vary", "seed=1, 2", "--name", "alphas", "--json"),
    )
    found = json.loads(told)
    row = Sweep.objects.get()
    assert (found["id"], found["name"], row.name) == (str(row.pk), "alphas", "alphas")
    assert [each["own"] for each in found["trainings"]] == [
        {"l1_alpha": alpha, "seed": seed} for alpha in (0.001, 0.002) for seed in (1, 2)
    ]
    runs = {str(run.pk): run for run in Training.objects.all()}
    assert set(runs) == {each["id"] for each in found["trainings"]}
    assert {run.num_steps for run in runs.values()} == {2000}
    assert len(nudges) == 1


def test_architectures_vary_and_null_is_automatic(nudges: Any) -> None:
    a_tokenization()
    words = ("--vary", "architecture=standard,jumprelu", "--vary", "target_l0=null,8")
    assert sweep(*PLACE, *words) == "tiny-llama-layer1-sweep is queued: 4 trainings.\n"
    targets = {run.hyperparameters["target_l0"] for run in Training.objects.all()}
    assert targets == {None, 8.0}


def test_an_sae_is_continued(tmp_path: Path, nudges: Any) -> None:
    sae = an_sae(tmp_path / "sae")
    sweep("--from", str(sae.pk), "--set", "num_steps=2000", "--vary", "l1_alpha=0.001,0.002")
    assert {run.started_from for run in Sweep.objects.get().trainings.all()} == {sae}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "grid: Nothing varies"),
        (("--vary", "l1_alpha"), "l1_alpha: It has no values; write --vary l1_alpha=VALUE,VALUE."),
        (("--vary", "seed=1", "--vary", "seed=2"), "seed: It is there twice"),
        (("--vary", "l1_alpha=much"), "l1_alpha: Write a number"),
        (("--vary", "colour=red"), "grid: colour is no hyperparameter"),
        (("--vary", "seed=1,2", "--set", "num_steps=3"), "num_steps: 3 is too small"),
    ],
)
def test_what_is_no_sweep_is_named(words: tuple[str, ...], message: str) -> None:
    a_tokenization()
    with pytest.raises(CommandError) as caught:
        sweep(*PLACE, *words)
    assert caught.value.returncode == 2
    assert message in str(caught.value)
    assert not Training.objects.exists()
