"""The features of an SAE as Neuronpedia's files, in a terminal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.commands.test_trainings import ran
from tests.engine.test_features import a_feature
from tests.rows import an_sae
from tests.trainings.conftest import nudges
from trainings.models import LanguageModel, Sae
from workers.engine.features import Feature, table

__all__ = ["nudges"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home", "nudges")]


@pytest.fixture
def sae(tmp_path: Path) -> Sae:
    return an_sae(tmp_path / "attempt-1" / "sae")


def collected(sae: Sae, features: Iterable[Feature]) -> None:
    table.write(sae.features_path, {"latents": 256, "tokens": 9000}, features)


def test_a_crosscoder_has_no_place_there(sae: Sae, tmp_path: Path) -> None:
    sae.training.architecture = "crosscoder"
    sae.training.save()
    collected(sae, (a_feature(i) for i in range(2)))
    with pytest.raises(CommandError, match=r"several \(layers 1, 2\)"):
        call_command("export_neuronpedia", "a run", str(tmp_path / "up"))


def test_features_are_written_in_batches(
    sae: Sae, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    collected(sae, (a_feature(i) for i in range(200)))
    target = tmp_path / "there" / "up"
    said = ran(capsys, "export_neuronpedia", "a run", str(target))
    assert "200 of 256 latents in 2 batches for 1-a-run of tiny-llama" in said
    assert [path.name for path in target.parent.iterdir()] == ["up"]
    upload = json.loads((target / "upload.json").read_text())
    assert upload["sourceSet"]["description"] == "Residual stream, Standard, 256 latents"
    assert (upload["model"]["layers"], upload["model"]["url"]) == (4, None)


def test_names_may_be_given_and_files_are_told(
    sae: Sae, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    collected(sae, [a_feature(0)])
    words = ["--source-set", "res-256", "--model-id", "pup-xl", "--json"]
    told = json.loads(ran(capsys, "export_neuronpedia", "a run", str(tmp_path / "up"), *words))
    content = (tmp_path / "up" / "batch-0.json").read_bytes()
    assert told == {
        "folder": str(tmp_path / "up"),
        "model_id": "pup-xl",
        "source": "1-res-256",
        "features": 1,
        "latents": 256,
        "files": {"batch-0.json": hashlib.sha256(content).hexdigest()},
    }
    assert json.loads(content)["source"] == "1-res-256"


def test_a_model_of_the_hub_is_linked(
    sae: Sae, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    LanguageModel.objects.update(source="hub", location="openai-community/gpt2")
    collected(sae, [a_feature(0)])
    ran(capsys, "export_neuronpedia", "a run", str(tmp_path / "up"))
    model = json.loads((tmp_path / "up" / "upload.json").read_text())["model"]
    assert model["id"] == "gpt2-small"
    assert model["url"] == "https://huggingface.co/openai-community/gpt2"


def test_without_features_it_says_what_collects_them(
    sae: Sae, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = ran(capsys, "export_neuronpedia", "a run", str(tmp_path / "up"), code=2)
    assert "have not been collected yet" in said
    assert said.endswith(f"manage.py features {sae.training_id}")


@pytest.mark.parametrize(
    ("words", "why", "hint"),
    [
        (["a run", "--model-id", "Llama"], "no model ids like 'Llama'", "--model-id"),
        (["a run", "--source-set", "a--b"], "no source sets called 'a--b'", "--source-set"),
        (["nothing"], "There is no training", "There are: a run"),
    ],
)
def test_names_that_cannot_be_are_refused(
    sae: Sae,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: list[str],
    why: str,
    hint: str,
) -> None:
    collected(sae, [a_feature(0)])
    said = ran(capsys, "export_neuronpedia", words[0], str(tmp_path / "up"), *words[1:], code=2)
    assert why in said
    assert hint in said
    assert not (tmp_path / "up").exists()


def test_what_cannot_be_uploaded_leaves_nothing(
    sae: Sae, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Where no latent fired, and where the last batch has something wrong in it."""
    out = tmp_path / "out"
    for features, why in (
        ([], "None of its latents fired, so there is nothing to upload."),
        ([a_feature(i) for i in range(200)] + [a_feature(10_000_001)], "refuse batch-1.json"),
    ):
        collected(sae, features)
        assert why in ran(capsys, "export_neuronpedia", "a run", str(out / "up"), code=1)
        assert not list(out.iterdir())


def test_a_folder_with_something_in_it_is_left_alone(
    sae: Sae, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    collected(sae, [a_feature(0)])
    assert "is not empty" in ran(capsys, "export_neuronpedia", "a run", str(tmp_path), code=2)
