"""SAEs in a terminal: written in other tools' formats, with a card, and sent to a hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now

from tests.commands.test_trainings import ran
from tests.engine.saes import an_sae, no_tools
from tests.rows import a_training
from tests.trainings.conftest import nudges
from tests.workers.conftest import writable_hub
from tests.workers.fake_hub_writes import WritableHub
from trainings.management.exporting import FORMATS
from trainings.models import Sae, Training
from workers.engine.saved import Kind, open_sae, plain
from workers.engine.saved.formats import Format

__all__ = ["no_tools", "nudges", "writable_hub"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home", "nudges", "no_tools")]


@pytest.fixture
def trained(tmp_path: Path) -> Training:
    """A completed training with a real SAE, which nothing but a TopK transcoder's format holds."""
    run = a_training(name="Words l1", status="completed", completed_at=Now())
    plain.write(an_sae(Kind.TOPK, "transcoder"), tmp_path / "sae")
    evaluation: dict[str, Any] = {"fvu": 0.25, "l0": 8.0}
    path = str(tmp_path / "sae")
    Sae.objects.create(training=run, path=path, format="safetensors", step=5, evaluation=evaluation)
    return run


def test_formats_are_those_of_the_engine() -> None:
    assert list(FORMATS) == [format.value for format in Format]


def test_an_sae_is_written_in_a_format_and_proved(
    trained: Training, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "there" / "l1"
    told = json.loads(
        ran(capsys, "export_sae", "Words l1", str(target), "--format", "sparsify", "--json")
    )
    assert (told["format"], told["folder"]) == ("sparsify", str(target))
    assert sorted(told["files"]) == ["config.json", "layers.2/cfg.json", "layers.2/sae.safetensors"]
    assert told["max_difference"] < 1e-6
    assert told["read_by"] == "SAE Studio; eai-sparsify is not installed"
    assert open_sae(target / "layers.2").k == 8
    assert [path.name for path in target.parent.iterdir()] == ["l1"]


def test_a_card_comes_with_it_when_asked_for(
    trained: Training, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "l1"
    said = ran(capsys, "export_sae", "Words l1", str(target), "--card", "--license", "mit")
    assert "read by SAE Studio: differs by at most" in said
    card = (target / "README.md").read_text()
    assert 'license: "mit"' in card
    assert "# Words l1" in card
    assert "for tiny-llama" in card
    assert "| Fraction of variance unexplained (FVU) | 0.25 |" in card
    assert 'load_file("l1/sae_weights.safetensors")' in card
    assert str(tmp_path) not in card
    said = ran(capsys, "export_sae", "Words l1", str(tmp_path / "x"), "--license", "mit", code=2)
    assert "add --card" in said


def test_a_format_that_has_no_such_sae_leaves_nothing(
    trained: Training, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "out" / "l1"
    said = ran(capsys, "export_sae", "Words l1", str(target), "--format", "saelens", code=2)
    assert said.startswith("SAELens has no TopK transcoder: export it to sparsify")
    assert not list(target.parent.iterdir())


def test_latents_are_scaled_to_unit_rows_where_it_is_asked_for(
    trained: Training, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = ran(capsys, "export_sae", "Words l1", str(tmp_path / "x"), "--unit-norm", code=2)
    assert "would choose other latents" in said
    plain.write(an_sae(Kind.RELU), tmp_path / "sae")
    ran(capsys, "export_sae", "Words l1", str(tmp_path / "x"), "--unit-norm")
    assert open_sae(tmp_path / "x").W_dec.norm(dim=1).tolist() == pytest.approx([1] * 96)


def test_an_sae_that_cannot_be_read_is_said(
    trained: Training, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "sae" / "cfg.json").write_text("{")
    said = ran(capsys, "export_sae", "Words l1", str(tmp_path / "x"), "--card", code=1)
    assert "cannot be" in said
    assert not (tmp_path / "x").exists()


def test_an_empty_folder_in_which_somebody_stands_is_filled(
    trained: Training,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    ran(capsys, "export_sae", "Words l1", ".", "--format", "sparsify")
    assert sorted(path.name for path in here.iterdir()) == ["config.json", "layers.2"]


def test_an_sae_is_sent_to_a_hub(
    trained: Training, capsys: pytest.CaptureFixture[str], writable_hub: WritableHub, home: Path
) -> None:
    told = json.loads(ran(capsys, "push_sae", "Words l1", "owner/saes", "--private", "--json"))
    assert told["url"] == f"{writable_hub.url}/owner/saes/tree/main/words-l1"
    assert told["own_card"] is True
    folder = writable_hub.repository("models", "owner/saes")
    assert (
        'hf_hub_download("owner/saes", "words-l1/sae_weights.safetensors")'
        in (folder / "README.md").read_text()
    )
    assert open_sae(folder / "words-l1").is_transcoder
    assert writable_hub.private == {"owner/saes"}
    assert not list(home.glob("push-*"))


def test_a_subfolder_and_a_format_may_be_named(
    trained: Training, capsys: pytest.CaptureFixture[str], writable_hub: WritableHub
) -> None:
    folder = writable_hub.repository("models", "owner/saes")
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("Mine")
    said = ran(
        capsys, "push_sae", "Words l1", "owner/saes", "--subfolder", "b", "--format", "sparsify"
    )
    assert "this one is in b/README.md" in said
    assert (folder / "b" / "layers.2" / "cfg.json").is_file()


def test_a_push_that_is_refused_says_why(
    trained: Training,
    capsys: pytest.CaptureFixture[str],
    writable_hub: WritableHub,
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert "does not let you write" in ran(capsys, "push_sae", "Words l1", "owner/saes", code=1)
    said = ran(capsys, "push_sae", "Words l1", "owner/saes", "--format", "saelens", code=2)
    assert "no TopK transcoder" in said
    a_training(name="early", status="running")
    assert "has no SAE" in ran(capsys, "push_sae", "early", "owner/saes", code=2)
    assert not list(home.glob("push-*"))
