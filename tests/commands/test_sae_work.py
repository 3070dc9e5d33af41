"""`manage.py evaluate` and `features` do the work here and tell what came of it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.rows import a_tokenization, an_sae
from tests.workers.test_rehearsal import Install, child
from tests.workers.test_sae_jobs import said
from trainings.models import LanguageModel, Sae, SaeJob, Tokenization

__all__ = ["child"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def sae(tmp_path: Path) -> Sae:
    return an_sae(tmp_path / "attempt-1" / "sae")


def call(*words: str) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def test_an_evaluation_is_told_in_groups_and_as_json(sae: Sae, child: Install) -> None:
    child(said(event="done", result={"fvu": 0.25, "ce_recovered": 0.9, "ce_recovered_error": 0.01}))
    text = call("evaluate", "a run")
    assert "Reconstruction\n  FVU" in text
    assert "0.25" in text
    assert "± 0.0100" in text
    told = json.loads(call("evaluate", str(sae.training_id), "--json"))
    assert told["result"]["ce_recovered"] == 0.9
    assert told["sae_id"] == str(sae.pk)


def test_features_are_counted(sae: Sae, child: Install) -> None:
    child(said(event="done", result={"latents_alive": 1200, "latents": 4608, "tokens": 9000}))
    assert "1,200 of 4,608 latents fired on 9,000 tokens" in call("features", "a run")
    assert SaeJob.objects.get().kind == "features"


def test_a_failure_ends_with_its_sentence(sae: Sae, child: Install) -> None:
    child(said(event="failed", step=0, error="It has no layer 9."))
    with pytest.raises(CommandError, match=r"It has no layer 9\.") as failed:
        call("evaluate", "a run")
    assert failed.value.returncode == 1


def test_what_cannot_be_is_refused(sae: Sae, child: Install) -> None:
    other = LanguageModel.objects.create(name="b", source="folder", location="b", status="ready")
    foreign = Tokenization.objects.create(
        model=other, dataset=sae.text.dataset, context_length=64, status="ready"
    )
    cases: list[tuple[list[Any], str]] = [
        (["a run", "--on", str(foreign.pk)], "was tokenized for b"),
        (["nothing"], "There is no training"),
    ]
    for words, why in cases:
        with pytest.raises(CommandError, match=why) as refused:
            call("evaluate", *words)
        assert refused.value.returncode == 2
    Path(sae.path).rmdir()
    with pytest.raises(CommandError, match="has no SAE"):
        call("evaluate", "a run")


def test_an_sae_is_taken_in_or_leaves_nothing(
    home: Path, settings: Any, child: Install, tmp_path: Path
) -> None:
    settings.ALLOWED_ROOTS = [tmp_path]
    folder, text = tmp_path / "theirs", str(a_tokenization().pk)
    folder.mkdir()
    facts = {"architecture": "TopK 8", "layer": 1, "hook": "resid_post", "d_sae": 96}
    proof = {"max_difference": 0.0, "read_by": "x", "digest": "y", "why_plain": ""}
    child(said(event="done", result={**facts, **proof, "format": "saelens"}))
    assert "theirs: TopK 8, layer 1" in call("import_sae", str(folder), "--on", text)
    sae = Sae.objects.get()
    assert (sae.ready, sae.own_name) == (True, "theirs")
    child(said(event="failed", step=0, error="It belongs to another model."))
    with pytest.raises(CommandError, match="another model"):
        call("import_sae", str(folder), "--on", text)
    assert Sae.objects.get() == sae
    with pytest.raises(CommandError, match="layer: Name the layer") as refused:
        call("import_sae", str(folder), "--on", text, "--hook", "mlp_out")
    assert refused.value.returncode == 2
