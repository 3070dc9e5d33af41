"""Models, datasets, tokenizations and SAEs over the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.rows import a_tokenization, a_training
from tests.trainings.conftest import nudges
from trainings.models import Dataset, LanguageModel, Sae, Tokenization

__all__ = ["nudges"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home", "nudges")]


def post(api: Client, path: str, **body: Any) -> Any:
    return api.post(f"/api/v1/{path}", json.dumps(body), content_type="application/json")


def test_model_is_registered_and_its_job_is_sent(
    api: Client, nudges: list[tuple[str, Any]]
) -> None:
    made = post(api, "models", source="hub", location="EleutherAI/pythia-70m").json()
    assert (made["name"], made["status"], made["owner"]) == ("pythia-70m", "pending", "ada")
    assert [kind for kind, _ in nudges] == ["prepare"]
    assert api.get(f"/api/v1/models/{made['id']}").json() == made
    again = post(api, "models", source="hub", location="EleutherAI/pythia-70m")
    assert again.status_code == 422


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("models", {"source": "folder", "location": "/etc"}, "location"),
        ("models", {"source": "hub", "location": "http://169.254.169.254/"}, "location"),
        ("models", {"source": "hub", "location": "../../etc/passwd"}, "location"),
        ("models", {"source": "package", "location": "os"}, "source"),
        ("datasets", {"source": "file", "location": "/etc/passwd"}, "location"),
        ("datasets", {"source": "hub", "location": "a/b", "name": "x" * 256}, "name"),
        ("datasets", {"source": "hub", "location": "a\x00b"}, "location"),
        ("tokenizations", {"dataset_id": "x", "model_id": "y"}, "dataset_id"),
    ],
)
def test_what_cannot_be_registered_is_named(
    api: Client, path: str, body: dict[str, Any], field: str
) -> None:
    answer = post(api, path, **body)
    assert answer.status_code == 422
    assert field in {error["field"] for error in answer.json()["errors"]}
    assert not LanguageModel.objects.exists()
    assert not Dataset.objects.exists()


def test_tokenization_is_cut_once(api: Client) -> None:
    known = a_tokenization()
    body = {
        "dataset_id": str(known.dataset_id),
        "model_id": str(known.model_id),
        "context_length": 128,
    }
    made = post(api, "tokenizations", **body)
    assert made.status_code == 201
    assert post(api, "tokenizations", **body).status_code == 422
    found = api.get("/api/v1/tokenizations?status=ready").json()
    assert [item["id"] for item in found["items"]] == [str(known.pk)]
    missing = post(api, "tokenizations", **body | {"model_id": str(known.pk)})
    assert missing.json()["errors"][0]["field"] == "model_id"


def test_what_is_in_use_is_not_deleted(api: Client) -> None:
    run = a_training()
    answer = api.delete(f"/api/v1/models/{run.model_id}")
    assert (answer.status_code, "in use" in answer.content.decode()) == (409, True)
    run.delete()
    assert api.delete(f"/api/v1/tokenizations/{run.tokenization_id}").status_code == 204
    assert not Tokenization.objects.exists()


def test_only_what_failed_is_prepared_again(api: Client, nudges: list[tuple[str, Any]]) -> None:
    known = a_tokenization()
    address = f"/api/v1/models/{known.model_id}/prepare"
    assert api.post(address).status_code == 409
    LanguageModel.objects.update(status="failed", error_message="No luck.")
    assert api.post(address).json()["status"] == "pending"
    assert [kind for kind, _ in nudges] == ["prepare"]


def test_sae_and_its_files_are_served_by_id(api: Client, tmp_path: Path) -> None:
    run = a_training(status="completed")
    folder, secret = tmp_path / "sae", tmp_path / "secret"
    folder.mkdir()
    secret.write_text("hush")
    (folder / "cfg.json").write_text("{}")
    (folder / "link.json").symlink_to(secret)
    sae = Sae.objects.create(training=run, path=str(folder), format="saelens", step=5)
    [found] = api.get("/api/v1/saes").json()["items"]
    assert (found["id"], found["architecture"], found["layer"]) == (str(sae.pk), "standard", 1)
    address = f"/api/v1/saes/{sae.pk}/files"
    assert api.get(address).json() == [{"name": "cfg.json", "size_bytes": 2}]
    assert b"".join(api.get(f"{address}/cfg.json")) == b"{}"  # type: ignore[arg-type]
    for name in ("link.json", "..%2Fsecret", "%2Fetc%2Fpasswd", "none"):
        assert api.get(f"{address}/{name}").status_code == 404
