"""Training templates over the API."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client

from templates_app.models import TrainingTemplate
from workers.engine.config import PRESETS

from .test_exchange import a_file, a_template

pytestmark = pytest.mark.django_db
ROOT = "/api/v1/training-templates"
CONTRACT = {
    "id",
    "name",
    "description",
    "hyperparameters",
    "is_favorite",
    "usage_count",
    "created_at",
    "updated_at",
}


@pytest.fixture
def api(client: Client) -> Client:
    return client


def send(api: Client, method: str, path: str, data: Any) -> Any:
    return getattr(api, method)(f"{ROOT}{path}", data, content_type="application/json")


def test_a_template_is_made_read_replaced_and_deleted(api: Client) -> None:
    made = send(api, "post", "", {"name": " wide ", "hyperparameters": {"num_steps": 5000}})
    assert made.status_code == 201
    assert set(made.json()) >= CONTRACT
    assert made.json()["name"] == "wide"
    assert made.json()["hyperparameters"]["num_steps"] == 5000
    assert made.json()["hyperparameters"]["batch_size"] == 4096  # the default, settled
    pk = made.json()["id"]
    assert api.get(f"{ROOT}/{pk}").json() == made.json()
    body = {"name": "narrow", "architecture": "topk", "hyperparameters": {}}
    assert send(api, "put", f"/{pk}", body).status_code == 422
    body |= {"architecture": "standard", "description": "for small models"}
    replaced = send(api, "put", f"/{pk}", body).json()
    assert (replaced["name"], replaced["hyperparameters"]["num_steps"]) == ("narrow", 100_000)
    assert api.delete(f"{ROOT}/{pk}").status_code == 204
    assert api.get(f"{ROOT}/{pk}").status_code == 404


def test_every_wrong_field_is_named_and_nothing_is_kept(api: Client) -> None:
    wrong = {"name": "", "description": "x" * 4001, "hyperparameters": {"num_steps": 1, "x": 1}}
    answer = send(api, "post", "", wrong)
    assert answer.status_code == 422
    fields = {error["field"] for error in answer.json()["errors"]}
    assert fields == {"name", "description", "num_steps", "x"}
    assert not TrainingTemplate.objects.exists()


def test_favourites_stand_first_and_the_list_is_searched(api: Client) -> None:
    a_template("b")
    favourite = a_template("c")
    a_template("a")
    answer = send(api, "post", f"/{favourite.pk}/favorite", {"is_favorite": True})
    assert answer.json()["is_favorite"]
    names = [item["name"] for item in api.get(ROOT).json()["items"]]
    assert names == ["c", "a", "b"]
    assert api.get(ROOT, {"q": "B"}).json()["count"] == 1
    assert api.get(ROOT, {"is_favorite": "true"}).json()["count"] == 1
    assert api.get(ROOT, {"limit": 2, "offset": 2}).json()["items"][0]["name"] == "b"


def test_a_copy_has_its_own_name_and_no_history(api: Client) -> None:
    template = a_template("mine", is_favorite=True, usage_count=7)
    copy = api.post(f"{ROOT}/{template.pk}/duplicate")
    assert copy.status_code == 201
    found = copy.json()
    assert (found["name"], found["usage_count"], found["is_favorite"]) == ("mine (2)", 0, False)
    assert found["hyperparameters"] == template.hyperparameters


def test_export_preview_and_import_go_round(api: Client) -> None:
    template = a_template("mine")
    data = api.get(f"{ROOT}/export", {"id": str(template.pk)}).content
    assert api.get(f"{ROOT}/export", {"id": str(uuid.uuid4())}).status_code == 404
    preview = api.post(f"{ROOT}/import/preview", data, content_type="application/json").json()
    assert (preview["importable"], len(preview["templates"])) == (True, 1)
    assert TrainingTemplate.objects.count() == 1
    taken = api.post(f"{ROOT}/import", data, content_type="application/json")
    assert taken.status_code == 201
    assert taken.json()[0]["hyperparameters"] == template.hyperparameters
    bad = a_file({"name": "ok", "hyperparameters": {}}, {"name": "no", "hyperparameters": {"x": 1}})
    preview = api.post(f"{ROOT}/import/preview", bad, content_type="application/json").json()
    assert not preview["importable"]
    assert preview["templates"][1]["problems"][0]["field"] == "x"
    refused = api.post(f"{ROOT}/import", bad, content_type="application/json")
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "templates.1.x"
    assert TrainingTemplate.objects.count() == 2


def test_a_preset_makes_a_template(api: Client) -> None:
    found = {preset["name"]: preset for preset in api.get(f"{ROOT}/presets").json()}
    assert set(found) == set(PRESETS)
    given = found["jumprelu-l0-64"]
    assert (given["architecture"], "FVU" in given["description"]) == ("jumprelu", True)
    made = send(api, "post", "", given)
    assert made.status_code == 201, made.content
    assert made.json()["hyperparameters"]["target_l0"] == 64


def test_strangers_are_refused(db: None) -> None:
    stranger = Client()
    assert stranger.get(ROOT).status_code == 401
    assert (
        stranger.post(f"{ROOT}/import", b"{}", content_type="application/json").status_code == 401
    )
