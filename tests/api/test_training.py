"""The REST API over trainings: contract, errors, states."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client

from tests.people import somebody
from tests.rows import a_tokenization, a_training
from trainings.models import Checkpoint, Training

pytestmark = pytest.mark.django_db

CONTRACT = {
    "id",
    "name",
    "model_id",
    "dataset_id",
    "tokenization_id",
    "layer",
    "architecture",
    "hyperparameters",
    "status",
    "current_step",
    "final_loss",
    "sae_path",
    "error_message",
    "created_at",
    "started_at",
    "completed_at",
}


@pytest.fixture
def api(client: Client) -> Client:
    client.force_login(somebody())
    return client


def body(**changes: Any) -> dict[str, Any]:
    return {
        "name": "from a script",
        "tokenization_id": str(a_tokenization().pk),
        "layer": 1,
        "architecture": "jumprelu",
        "hyperparameters": {"num_steps": 2000},
        **changes,
    }


def post(api: Client, path: str, data: Any = None) -> Any:
    return api.post(f"/api/v1/trainings{path}", data, content_type="application/json")


def test_a_started_training_carries_the_contracts_names(api: Client) -> None:
    answer = post(api, "", body())
    assert answer.status_code == 201
    assert set(answer.json()) >= CONTRACT
    assert answer.json()["hyperparameters"]["num_steps"] == 2000
    assert answer.json()["status"] == "pending"


def test_bad_values_are_named_one_by_one(api: Client) -> None:
    wrong = {"num_steps": 5, "learning_rate": "fast", "lernrate": 1}
    answer = post(api, "", body(hyperparameters=wrong))
    assert answer.status_code == 422
    assert {e["field"] for e in answer.json()["errors"]} == {
        "num_steps",
        "learning_rate",
        "lernrate",
    }
    assert not Training.objects.exists()


def test_a_layer_beyond_the_model_is_refused(api: Client) -> None:
    answer = post(api, "", body(layer=99))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "layer"


def test_a_crosscoder_is_asked_for_with_a_list_of_layers(api: Client) -> None:
    answer = post(api, "", body(architecture="crosscoder", hyperparameters={"layers": [1, 3]}))
    assert answer.status_code == 201
    assert answer.json()["hyperparameters"]["layers"] == [1, 3]
    for wrong in ([1], [3, 1], [1, 99], "many", [1.5, 2]):
        h = {"layers": wrong}
        answer = post(api, "", body(architecture="crosscoder", hyperparameters=h))
        assert answer.status_code == 422
        assert [e["field"] for e in answer.json()["errors"]] == ["layers"]


def test_an_unknown_training_is_404_with_the_one_error_shape(api: Client) -> None:
    answer = api.get(f"/api/v1/trainings/{uuid.uuid4()}")
    assert (answer.status_code, list(answer.json())) == (404, ["errors"])


def test_metrics_can_be_asked_for_after_a_step(api: Client) -> None:
    training = a_training()
    for step in (10, 20, 30):
        training.metrics.create(step=step, loss=1.0)
    found = api.get(f"/api/v1/trainings/{training.pk}/metrics?after_step=10").json()
    assert [point["step"] for point in found] == [20, 30]


def test_a_wrong_state_is_409_and_changes_nothing(api: Client) -> None:
    training = a_training(status="completed")
    for wish in ("/stop", "/resume", "/retry"):
        assert post(api, f"/{training.pk}{wish}").status_code == 409
    training.refresh_from_db()
    assert training.status == "completed"


def test_stop_retry_and_delete_do_what_they_say(api: Client) -> None:
    training = a_training()
    assert post(api, f"/{training.pk}/stop").json()["status"] == "stopped"
    again = post(api, f"/{training.pk}/retry", {"from_scratch": True}).json()
    assert again["status"] == "pending"
    assert api.delete(f"/api/v1/trainings/{training.pk}").status_code == 202
    assert api.get(f"/api/v1/trainings/{training.pk}").status_code == 404


def test_the_list_is_filtered_by_status(api: Client) -> None:
    a_training(status="failed")
    a_training(status="completed")
    page = api.get("/api/v1/trainings?status=failed").json()
    assert (page["count"], page["items"][0]["status"]) == (1, "failed")


def test_strangers_get_401(client: Client) -> None:
    assert client.get("/api/v1/trainings").status_code == 401


def test_a_write_without_csrf_token_is_refused(api: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(somebody())
    answer = strict.post("/api/v1/trainings", body(), content_type="application/json")
    assert answer.status_code == 403
    assert not Training.objects.exists()


def test_a_checkpoint_is_pinned(api: Client) -> None:
    training = a_training()
    checkpoint = Checkpoint.objects.create(
        training=training, attempt=1, step=10, path="/c", size_bytes=1, fvu=0.5
    )
    path = f"/api/v1/trainings/{training.pk}/checkpoints/{checkpoint.pk}"
    answer = api.patch(path, {"pinned": True}, content_type="application/json")
    assert (answer.status_code, answer.json()["pinned"]) == (200, True)
    (listed,) = api.get(f"/api/v1/trainings/{training.pk}/checkpoints").json()
    assert (listed["pinned"], listed["fvu"], listed["set_aside"]) == (True, 0.5, "")


def test_priority_is_given_changed_and_kept_in_its_range(api: Client) -> None:
    first = a_training(name="first")
    answer = post(api, "", body(priority=5))
    assert answer.status_code == 201, answer.content
    pk = answer.json()["id"]
    assert answer.json()["priority"] == 5
    queue = api.get("/api/v1/trainings/queue").json()
    assert queue == [{"id": pk, "ahead": 0}, {"id": str(first.pk), "ahead": 1}]
    url = f"/api/v1/trainings/{pk}"
    changed = api.patch(url, {"priority": -5}, content_type="application/json")
    assert (changed.status_code, changed.json()["priority"]) == (200, -5)
    assert [item["ahead"] for item in api.get("/api/v1/trainings/queue").json()] == [0, 1]
    refused = api.patch(url, {"priority": 1001}, content_type="application/json")
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "priority"


def patch(api: Client, run: Training, **changes: Any) -> Any:
    address = f"/api/v1/trainings/{run.pk}"
    return api.patch(address, changes, content_type="application/json")


def test_name_notes_and_tags_are_changed_and_the_rest_stays(api: Client) -> None:
    run = a_training(priority=5)
    answer = patch(api, run, name="better", tags=["B", " a,c "]).json()
    assert (answer["name"], answer["tags"], answer["priority"]) == ("better", ["a", "b", "c"], 5)
    answer = patch(api, run, notes="why", priority=-3).json()
    assert (answer["name"], answer["notes"], answer["priority"]) == ("better", "why", -3)
    assert answer["tags"] == ["a", "b", "c"]
    assert patch(api, run, tags=[]).json()["tags"] == []
    for wrong in (
        {"name": " "},
        {"name": "a\x00"},
        {"notes": "x" * 20_001},
        {"notes": "\x00"},
        {"tags": ["x" * 51]},
        {"tags": ["\x00"]},
        {"priority": 5000},
    ):
        assert patch(api, run, **wrong).status_code == 422
    run.refresh_from_db()
    assert (run.name, run.notes, run.priority) == ("better", "why", -3)


def test_list_is_narrowed_by_tag(api: Client) -> None:
    run = a_training()
    a_training()
    patch(api, run, tags=["mine"])
    assert api.get("/api/v1/trainings?tag=%00").status_code == 422
    found = api.get("/api/v1/trainings?tag=Mine").json()
    assert [item["id"] for item in found["items"]] == [str(run.pk)]
    assert found["count"] == 1
