"""What Neuronpedia's own client would send of a feature is what is written of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.test_features import a_feature
from tests.engine.test_neuronpedia import TARGET, written

pytest.importorskip(
    "neuronpedia", reason="neuronpedia is not installed: pip install -e '.[interop]'"
)
pytestmark = pytest.mark.interop


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The bodies of requests, which go nowhere."""
    from neuronpedia.requests.base_request import NPRequest

    bodies: list[Any] = []

    def keep(self: Any, method: str, json: Any, uri: str) -> dict[str, Any]:
        bodies.append((self.endpoint, uri, json))
        source = {"id": TARGET.source, "modelId": TARGET.model_id, "setName": TARGET.source_set}
        told = {"layers": 4, "displayName": "", "website": None, "urls": [], "sources": [source]}
        return json | told | {"description": ""}

    monkeypatch.setattr(NPRequest, "send_request", keep)
    monkeypatch.setenv("NEURONPEDIA_API_KEY", "nobody's")
    return bodies


def present(value: Any) -> Any:
    """Without what is null or an empty list: the server takes both for left out."""
    if isinstance(value, dict):
        kept = {name: present(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in (None, [])}
    return [present(item) for item in value] if isinstance(value, list) else value


def test_the_client_sends_the_same_bodies(tmp_path: Path, sent: list[Any]) -> None:
    from neuronpedia.np_activation import Activation
    from neuronpedia.np_feature import Feature, Logit
    from neuronpedia.np_model import Model
    from neuronpedia.np_source_set import SourceSet

    files = written(tmp_path / "up", [a_feature(i) for i in range(3)])
    upload, batch = files["upload.json"], files["batch-0.json"]
    model, chosen = upload["model"], upload["sourceSet"]
    Model.new(model["id"], model["layers"], model["displayName"])
    source_set = SourceSet.new(chosen["name"], chosen["modelId"], chosen["description"])
    at = (TARGET.model_id, TARGET.source)
    source_set.get_source_for_layer_number(TARGET.layer).upload_batch(
        [
            Feature(
                *at,
                index=f["index"],
                density=f["density"],
                top_logits=[Logit(**logit) for logit in f["topLogits"]],
                bottom_logits=[Logit(**logit) for logit in f["bottomLogits"]],
                activations=[Activation(*at, f["index"], **a) for a in f["activations"]],
            )
            for f in batch["features"]
        ]
    )
    assert [place for *place, _ in sent] == [
        ["model", "new"],
        ["source-set", "new"],
        ["feature", "upload-batch"],
    ]
    assert [present(body) for *_, body in sent] == [
        present(body) for body in (model, chosen, batch)
    ]


def test_the_lines_of_the_documentation_send_all_files(
    tmp_path: Path, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = written(tmp_path / "up", [a_feature(i) for i in range(130)])
    document = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
    [code] = [
        part.split("```")[0]
        for part in document.read_text(encoding="utf-8").split("```python\n")[1:]
        if "NPRequest" in part
    ]
    monkeypatch.chdir(tmp_path / "up")
    exec(code, {"json": json})
    assert [body for *_, body in sent] == [
        files["upload.json"]["model"],
        files["upload.json"]["sourceSet"],
        files["batch-0.json"],
        files["batch-1.json"],
    ]
