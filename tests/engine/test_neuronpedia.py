"""What is written for Neuronpedia is what its server takes, and nothing else is put in place."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tests.engine.test_evaluation import random_sae, spec_of, write
from tests.engine.test_features import a_feature
from workers.engine.features import Feature, FeatureTable, table
from workers.engine.features.collect import collect_features
from workers.engine.features.neuronpedia import (
    NotAccepted,
    Target,
    check_names,
    read,
    usual_model_id,
    usual_source_set,
    write_upload,
)
from workers.engine.features.neuronpedia_format import FeatureBatch, Upload, json_schema

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "neuronpedia.schema.json"
TARGET = Target(
    model_id="tiny-llama",
    source_set="words-l1",
    layer=1,
    layers=4,
    model_name="owner/tiny-llama",
    description="Residual stream",
)


def a_table(path: Path, features: Any) -> FeatureTable:
    table.write(path, {"latents": 4096, "tokens": 262_144}, features)
    return FeatureTable(path)


def written(folder: Path, features: Any, target: Target = TARGET) -> dict[str, Any]:
    """All files of an upload, by their names."""
    folder.mkdir()
    write_upload(a_table(folder.with_suffix(".sqlite"), features), target, folder)
    return {path.name: json.loads(path.read_text()) for path in folder.iterdir()}


def test_batches_hold_at_most_128_latents_each_once(tmp_path: Path) -> None:
    files = written(tmp_path / "up", [a_feature(3 * i) for i in range(300)])
    upload = files.pop("upload.json")
    batches = [files[told["file"]] for told in upload["batches"]]
    assert sorted(files) == ["batch-0.json", "batch-1.json", "batch-2.json"]
    assert [len(batch["features"]) for batch in batches] == [128, 128, 44]
    assert [f["index"] for b in batches for f in b["features"]] == [3 * i for i in range(300)]
    assert (upload["features"], upload["latents"], upload["tokens"]) == (300, 4096, 262_144)
    for told in upload["batches"]:
        content = (tmp_path / "up" / told["file"]).read_bytes()
        assert told["sha256"] == hashlib.sha256(content).hexdigest()
        assert (told["bytes"], told["features"]) == (
            len(content),
            len(files[told["file"]]["features"]),
        )


def test_a_latent_is_told_as_the_table_has_it(tmp_path: Path) -> None:
    files = written(tmp_path / "up", [a_feature(5)])
    batch = files["batch-0.json"]
    assert (batch["modelId"], batch["source"]) == ("tiny-llama", "1-words-l1")
    assert batch["features"] == [
        {
            "index": 5,
            "density": a_feature(5).frequency,
            "topLogits": [{"token": "b", "value": 1.0}],
            "bottomLogits": [{"token": "c", "value": -1.0}],
            "activations": [{"tokens": ["a", " t5"], "values": [0.0, 1.0]}],
        }
    ]


def test_the_upload_file_says_what_is_made_first(tmp_path: Path) -> None:
    upload = written(tmp_path / "up", [a_feature(0)])["upload.json"]
    assert upload["model"] == {
        "id": "tiny-llama",
        "layers": 4,
        "displayName": "owner/tiny-llama",
        "url": None,
    }
    assert upload["sourceSet"] == {
        "name": "words-l1",
        "modelId": "tiny-llama",
        "description": "Residual stream",
        "url": None,
    }
    assert upload["source"] == "1-words-l1"


def test_latents_without_an_example_are_left_out(tmp_path: Path) -> None:
    """One has no examples, one only such that are zero in the half precision that keeps them."""
    zero = {"tokens": ["a"], "values": [0.0], "peak": 0, "context": 0}
    features = [a_feature(0), replace(a_feature(1), examples=[])]
    features += [replace(a_feature(2), examples=[zero]), a_feature(3)]
    batch = written(tmp_path / "up", features)["batch-0.json"]
    assert [feature["index"] for feature in batch["features"]] == [0, 3]
    (tmp_path / "none").mkdir()
    with pytest.raises(NotAccepted, match="None of its latents fired"):
        write_upload(a_table(tmp_path / "n.sqlite", features[1:3]), TARGET, tmp_path / "none")


def test_tokens_that_the_server_would_refuse_are_replaced(tmp_path: Path) -> None:
    """An empty string counts as missing there, and its database has no zero bytes."""
    odd = {"tokens": ["", "\0b", " "], "values": [1.0, 0.0, 0.0], "peak": 0, "context": 0}
    feature = replace(a_feature(0), examples=[odd], promotes=[("", 1.0)])
    found = written(tmp_path / "up", [feature])["batch-0.json"]["features"][0]
    assert found["activations"][0]["tokens"] == ["�", "�b", " "]
    assert found["topLogits"] == [{"token": "�", "value": 1.0}]


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(tmp_path / name, [a_feature(i) for i in range(200)])
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    def most(count: int) -> int:
        features = a_table(tmp_path / f"{count}.sqlite", (a_feature(i) for i in range(count)))
        folder = tmp_path / str(count)
        folder.mkdir()
        tracemalloc.start()
        write_upload(features, TARGET, folder)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    most(128)  # what is loaded once
    assert most(128 * 40) < 2 * most(128 * 2)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"index": -1}, "features.0.index: .*greater than or equal to 0"),
        ({"index": "5"}, "features.0.index: .*valid integer"),
        ({"density": 1.5}, "features.0.density: .*less than or equal to 1"),
        ({"density": None}, "features.0.density: .*valid number"),
        ({"activations": []}, "features.0.activations: .*at least 1 item"),
        ({"activations": [{"tokens": ["a"], "values": [1.0, 2.0]}]}, "1 tokens have 2 values"),
        ({"activations": [{"tokens": [""], "values": [1.0]}]}, "tokens.0: .*at least 1 character"),
        ({"activations": [{"tokens": ["a"], "values": [float("nan")]}]}, "values.0: .*finite"),
        ({"topLogits": [{"token": "a", "value": 1.0}] * 21}, "topLogits: .*at most 20 items"),
        ({"pos_str": ["a"]}, "features.0.pos_str: .*not permitted"),
    ],
)
def test_a_batch_with_a_wrong_field_is_refused(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    batch = written(tmp_path / "up", [a_feature(5)])["batch-0.json"]
    batch["features"][0] |= change
    path = tmp_path / "batch-7.json"
    path.write_text(json.dumps(batch))
    with pytest.raises(NotAccepted, match=f"Neuronpedia would refuse batch-7.json.*{why}"):
        read(path, FeatureBatch)


def test_a_batch_is_refused_where_it_has_a_latent_twice_or_too_many(tmp_path: Path) -> None:
    batch = written(tmp_path / "up", [a_feature(5)])["batch-0.json"]
    path = tmp_path / "batch-0.json"
    for features, why in ((batch["features"] * 2, "comes twice"), ([], "at least 1 item")):
        path.write_text(json.dumps(batch | {"features": features}))
        with pytest.raises(NotAccepted, match=why):
            read(path, FeatureBatch)
    many = [batch["features"][0] | {"index": i} for i in range(129)]
    path.write_text(json.dumps(batch | {"features": many}))
    with pytest.raises(NotAccepted, match="at most 128 items"):
        read(path, FeatureBatch)


def test_what_the_table_has_wrong_is_not_put_in_place(tmp_path: Path) -> None:
    broken: list[Feature] = [a_feature(0), replace(a_feature(1), frequency=2.0)]
    (tmp_path / "up").mkdir()
    with pytest.raises(NotAccepted, match=r"batch-0.json, features.1.density"):
        write_upload(a_table(tmp_path / "f.sqlite", broken), TARGET, tmp_path / "up")
    with pytest.raises(NotAccepted, match=r"upload.json, model.layers: .*less than or equal"):
        written(tmp_path / "deep", [a_feature(0)], replace(TARGET, layers=128))


def test_names_are_those_that_neuronpedia_takes() -> None:
    for model in ("g", "Gemma", "gemma--2", "gemma-2-", "a" * 33, "2b", ""):
        with pytest.raises(NotAccepted, match="no model ids like"):
            check_names(replace(TARGET, model_id=model))
    for name in ("Words", "words_l1", "words--l1", "-words", "neurons", ""):
        with pytest.raises(NotAccepted, match="no source sets called"):
            check_names(replace(TARGET, source_set=name))
    check_names(replace(TARGET, model_id="qwen2.5-7b-it", source_set="res-16k"))


def test_usual_names_are_made_of_what_is_known() -> None:
    assert usual_model_id("HuggingFaceTB/SmolLM2-135M") == "smollm2-135m"
    assert usual_model_id("EleutherAI/pythia-70m-deduped") == "pythia-70m-deduped"
    assert usual_model_id("openai-community/gpt2") == "gpt2-small"
    assert usual_model_id("x/3_Odd__name..v2-") == "odd-name.v2"
    assert usual_source_set("SmolLM2 l5 -- JumpReLU 8x") == "smollm2-l5-jumprelu-8x"


def test_the_published_schema_is_that_of_the_models_and_takes_what_is_written(
    tmp_path: Path,
) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert schema == json_schema()
    validator = jsonschema_rs.validator_for(schema)
    for content in written(tmp_path / "up", [a_feature(i) for i in range(130)]).values():
        validator.validate(content)
    assert not validator.is_valid({"modelId": "tiny", "source": "1-a", "features": []})
    assert {"FeatureBatch", "Upload"} <= set(schema["$defs"])
    assert Upload.model_fields.keys() == schema["$defs"]["Upload"]["properties"].keys()


def test_what_was_collected_of_a_model_is_taken(
    model_folder: Path, tokens_folder: Path, tmp_path: Path
) -> None:
    sae = write(tmp_path / "sae", random_sae(W_enc=random_sae().W_enc * 40))
    spec = spec_of(sae, model_folder, tokens_folder, feature_tokens=2000)
    result = collect_features(spec, lambda share, note: None)
    (tmp_path / "up").mkdir()
    upload = write_upload(FeatureTable(tmp_path / "features.sqlite"), TARGET, tmp_path / "up")
    assert upload.features == result["latents_alive"] > 0
    first = read(tmp_path / "up" / "batch-0.json", FeatureBatch).features[0]
    assert len(first.topLogits or []) == len(first.bottomLogits or []) == 10
    assert max(first.activations[0].values) >= max(first.activations[-1].values) > 0
