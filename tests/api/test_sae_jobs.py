"""Evaluations, features and texts over the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.engine.test_features import a_feature
from tests.rows import an_sae
from tests.trainings.conftest import nudges
from trainings.models import LanguageModel, Sae, SaeJob, Tokenization
from workers.engine.features import FeatureTable, table

__all__ = ["nudges"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nudges")]


@pytest.fixture
def sae(tmp_path: Path) -> Sae:
    found = an_sae(tmp_path / "attempt-1" / "sae")
    table.write(found.features_path, {"tokens": 1000}, (a_feature(i) for i in range(120)))
    return found


def post(api: Client, sae: Sae, path: str, **body: Any) -> Any:
    address = f"/api/v1/saes/{sae.pk}/{path}"
    return api.post(address, json.dumps(body), content_type="application/json")


def get(api: Client, sae: Sae, path: str) -> Any:
    answer = api.get(f"/api/v1/saes/{sae.pk}/{path}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_an_evaluation_is_asked_for_followed_and_read(api: Client, sae: Sae, nudges: Any) -> None:
    answer = post(api, sae, "evaluate")
    assert answer.status_code == 202
    job = answer.json()
    assert (job["kind"], job["status"], job["tokenization_id"]) == (
        "evaluate",
        "pending",
        str(sae.text.pk),
    )
    assert post(api, sae, "evaluate").json()["id"] == job["id"]
    assert len(nudges) == 1
    SaeJob.objects.update(status="done", progress=1.0, result={"ce_recovered": 0.99})
    assert get(api, sae, f"jobs/{job['id']}")["result"] == {"ce_recovered": 0.99}
    assert post(api, sae, "evaluate").json()["id"] != job["id"]
    assert len(get(api, sae, "jobs")) == 2


def test_a_text_of_another_model_is_not_found(api: Client, sae: Sae) -> None:
    other = LanguageModel.objects.create(name="b", source="folder", location="b", status="ready")
    foreign = Tokenization.objects.create(
        model=other, dataset=sae.text.dataset, context_length=64, status="ready"
    )
    answer = post(api, sae, "evaluate", tokenization_id=str(foreign.pk))
    assert answer.status_code == 404
    assert not SaeJob.objects.exists()


def test_a_text_is_probed(api: Client, sae: Sae) -> None:
    answer = post(api, sae, "activations", text="import os")
    assert answer.status_code == 202
    assert SaeJob.objects.get().text == "import os"
    assert post(api, sae, "activations", text="").status_code == 422
    assert post(api, sae, "activations", text="x" * 20_001).status_code == 422


def test_an_export_is_asked_for_and_its_files_are_sent(
    api: Client, sae: Sae, tmp_path: Path
) -> None:
    answer = post(api, sae, "exports", format="sparsify")
    assert (answer.status_code, answer.json()["format"]) == (202, "sparsify")
    assert post(api, sae, "exports", format="sparsify").json()["id"] == answer.json()["id"]
    assert post(api, sae, "exports", format="saelens").json()["id"] != answer.json()["id"]
    assert post(api, sae, "exports", format="pickle").status_code == 422
    folder = sae.export_path("sparsify") / "layers.1"
    folder.mkdir(parents=True)
    (folder / "cfg.json").write_text("{}")
    (tmp_path / "secret").write_text("hush")
    (folder / "link").symlink_to(tmp_path / "secret")
    address = f"/api/v1/saes/{sae.pk}/exports"
    sent = api.get(f"{address}/sparsify/layers.1/cfg.json")
    assert b"".join(sent) == b"{}"  # type: ignore[arg-type]
    for wrong in ("sparsify/layers.1/link", "sparsify/../../secret", "../secret", "sparsify/none"):
        assert api.get(f"{address}/{wrong}").status_code == 404


def test_latents_are_listed_searched_and_read(api: Client, sae: Sae) -> None:
    assert post(api, sae, "collect-features").status_code == 202
    found = get(api, sae, "features?sort=id&descending=false&limit=3&offset=5")
    assert found["count"] == 120
    assert [row["id"] for row in found["items"]] == [5, 6, 7]
    assert get(api, sae, "features?token=t96")["count"] == 1
    assert get(api, sae, "features?token=b&by=promotes")["count"] == 120
    one = get(api, sae, "features/7")
    assert one["examples"][0]["tokens"] == ["a", " t7"]
    for wrong in ("features/999", f"features/{2**80}"):
        assert api.get(f"/api/v1/saes/{sae.pk}/{wrong}").status_code == 404
    assert api.get(f"/api/v1/saes/{sae.pk}/features?sort=drop").status_code == 422


def test_the_table_is_sent_as_a_file(api: Client, sae: Sae, tmp_path: Path) -> None:
    answer = api.get(f"/api/v1/saes/{sae.pk}/features.sqlite")
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(b"".join(answer))  # type: ignore[arg-type]
    assert FeatureTable(copy).count == 120
    sae.features_path.unlink()
    assert api.get(f"/api/v1/saes/{sae.pk}/features.sqlite").status_code == 404
    missing = api.get(f"/api/v1/saes/{sae.pk}/features")
    assert missing.status_code == 404
