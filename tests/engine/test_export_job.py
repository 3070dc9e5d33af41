"""An export is whole, proved and described, or it is not there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from tests.engine.saes import an_sae, no_tools
from workers.engine.saved import CannotExport, Kind, SavedSae, open_sae, plain, proof
from workers.engine.saved.card import Facts, Source, escaped, loading_snippet
from workers.engine.saved.export_job import export_saved
from workers.engine.saved.formats import Format, place_of
from workers.engine.saved.proof import NotProved, described_files, digest_of

__all__ = ["no_tools"]
pytestmark = pytest.mark.usefixtures("no_tools")

FACTS = Facts(
    name="l5 | *wide* <b>",
    architecture="TopK",
    model="tiny_llama",
    model_on_hub="owner/tiny",
    dataset="words",
    dataset_on_hub="owner/words",
    licence="apache-2.0",
    steps=500,
    tokens=256_000,
    context_length=128,
    hyperparameters={"learning_rate": 3e-4, "target": None, "hook": "resid_post"},
    evaluation={"fvu": 0.123456, "l0": 8.0, "alive": 90, "ce_recovered": None, "density": {}},
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = plain.write(an_sae(Kind.TOPK), tmp_path / "saved")
    save_file({"sparsity": torch.zeros(96)}, folder / "sparsity.safetensors")
    return folder


def card(folder: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text."""
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


@pytest.mark.parametrize("format", list(Format))
def test_an_export_tells_what_is_in_it(saved: Path, tmp_path: Path, format: Format) -> None:
    out = tmp_path / "there" / "out"
    told = export_saved(saved, format, out, FACTS)
    assert json.loads(json.dumps(told)) == told
    assert (told["format"], told["folder"]) == (format, str(out))
    assert told["files"] == described_files(out)
    assert told["digest"] == digest_of(told["files"])
    assert told["max_difference"] < 1e-6
    assert told["read_by"].startswith("SAE Studio")
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert open_sae(place_of(format, out)).k == 8
    assert (out / "sparsity.safetensors").exists() is (format is not Format.SPARSIFY)


def test_without_facts_there_is_no_card(saved: Path, tmp_path: Path) -> None:
    export_saved(saved, Format.SAELENS, tmp_path / "out")
    assert not (tmp_path / "out" / "README.md").exists()


def test_an_earlier_export_is_replaced_and_kept_where_the_new_one_fails(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export_saved(saved, Format.SAELENS, out)
    export_saved(saved, Format.SPARSIFY, out)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "layers.1"]
    monkeypatch.setattr(proof, "TOOLS", {})

    def other(place: Path) -> SavedSae:
        return an_sae(Kind.RELU)

    monkeypatch.setattr(proof, "open_sae", other)
    with pytest.raises(NotProved, match="fires other latents"):
        export_saved(saved, Format.SAELENS, out)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "layers.1"]
    assert not (tmp_path / "out.tmp").exists()


def test_what_a_tool_lacks_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = plain.write(an_sae(Kind.TOPK, "transcoder"), tmp_path / "saved")
    with pytest.raises(CannotExport):
        export_saved(folder, Format.SAELENS, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("format", list(Format))
def test_the_card_says_what_is_known(saved: Path, tmp_path: Path, format: Format) -> None:
    told = export_saved(saved, format, tmp_path / "out", FACTS)
    front, text = card(tmp_path / "out")
    library = {"saelens": "saelens", "sparsify": "sparsify"}.get(format)
    assert front.get("library_name") == library
    assert (front["license"], front["base_model"]) == ("apache-2.0", "owner/tiny")
    assert front["datasets"] == ["owner/words"]
    assert "sparse-autoencoder" in front["tags"]
    assert r"# l5 \| \*wide\* \<b\>" in text
    assert r"for tiny\_llama" in text
    assert "It reads `blocks.1.hook_resid_post`" in text
    assert "| Fraction of variance unexplained (FVU) | 0.1235 |" in text
    assert "| Latents that fired | 90 |" in text
    assert r"| learning\_rate | 0.0003 |" in text
    assert "256,000 tokens of words in 500 steps, contexts of 128 tokens" in text
    assert told["digest"] in text
    assert "None" not in text


def test_the_card_invents_nothing(saved: Path, tmp_path: Path) -> None:
    export_saved(saved, Format.SAFETENSORS, tmp_path / "out", Facts("plain"))
    front, text = card(tmp_path / "out")
    assert sorted(front) == ["tags"]
    for absent in ("## Evaluation", "## Training", "## Hyperparameters", "ross-entropy", "None"):
        assert absent not in text
    assert "A sparse autoencoder, with 96 latents" in text
    assert "It was not evaluated." in text
    assert "No licence was given" in text


@pytest.mark.parametrize(("trained_here", "words"), [(True, "Held-out tokens"), (False, "Tokens")])
def test_only_what_was_trained_here_is_known_to_be_measured_on_held_out_tokens(
    saved: Path, tmp_path: Path, trained_here: bool, words: str
) -> None:
    facts = replace(FACTS, evaluation={"tokens": 4096}, tokens=256_000 if trained_here else 0)
    export_saved(saved, Format.SAELENS, tmp_path / "out", facts)
    text = card(tmp_path / "out")[1]
    assert f"| {words}" in text
    assert ("Held-out" in text) is trained_here


def test_a_card_without_splicing_says_that_it_is_missing(saved: Path, tmp_path: Path) -> None:
    export_saved(saved, Format.SAELENS, tmp_path / "out", FACTS)
    assert (
        "loses with the reconstruction in its place was not measured" in card(tmp_path / "out")[1]
    )


@pytest.mark.parametrize("format", list(Format))
@pytest.mark.parametrize("repository", ["", "owner/saes"])
def test_the_snippet_is_two_lines_that_compile(format: Format, repository: str) -> None:
    place = "layers.5" if format is Format.SPARSIFY else "."
    snippet = loading_snippet(format, place, Source('l5 "x" ```', repository))
    assert snippet.count("\n") == 1
    assert "```" not in snippet
    compile(snippet, "card", "exec")


def test_the_snippet_of_a_plain_folder_loads_it_from_beside_it(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_saved(saved, Format.SAFETENSORS, tmp_path / "out", FACTS)
    monkeypatch.chdir(tmp_path)
    code = card(tmp_path / "out")[1].split("```python\n")[1].split("```")[0]
    found: dict[str, Any] = {}
    exec(code, found)
    assert torch.equal(found["weights"]["W_enc"], an_sae(Kind.TOPK).W_enc)


def test_markdown_shows_a_name_as_it_is() -> None:
    assert escaped("a\n# b [x](y) ![z] `c` _d_") == r"a \# b \[x\](y) \!\[z\] \`c\` \_d\_"
