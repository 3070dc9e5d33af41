"""Sweeps over HTTP: made whole or not at all, seen with their front, added to, stopped, deleted."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.people import somebody
from tests.rows import a_tokenization, an_sae
from tests.trainings.conftest import nudges
from trainings.models import Sweep, Training

__all__ = ["nudges"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home", "nudges")]
URL = "/api/v1/sweeps"


def send(api: Client, path: str = "", body: Any = None, key: str = "") -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return api.post(
        URL + path, json.dumps(body or {}), content_type="application/json", headers=headers
    )


def asked(**changes: Any) -> dict[str, Any]:
    return {
        "name": "alphas",
        "tokenization_id": str(a_tokenization().pk),
        "layer": 1,
        "architecture": "standard",
        "hyperparameters": {"num_steps": 1000},
        "grid": {"l1_alpha": [0.001, 0.002]},
        **changes,
    }


def start(api: Client, **changes: Any) -> dict[str, Any]:
    answer = send(api, body=asked(**changes))
    assert answer.status_code == 201, answer.content
    found: dict[str, Any] = answer.json()
    return found


def errors(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422, answer.content
    return {each["field"]: each["message"] for each in answer.json()["errors"]}


def test_a_sweep_is_started_with_its_grid_and_its_list(api: Client, nudges: Any) -> None:
    made = start(api, members=[{"architecture": "jumprelu", "target_l0": 8}], priority=10)
    assert [each["own"] for each in made["trainings"]] == [
        {"architecture": "jumprelu", "l1_alpha": 0.001, "target_l0": 8},
        {"architecture": "standard", "l1_alpha": 0.001, "target_l0": None},
        {"architecture": "standard", "l1_alpha": 0.002, "target_l0": None},
    ]
    assert made["asked"]["hyperparameters"] == {"num_steps": 1000}
    assert made["statuses"] == {"pending": 3}
    assert len(nudges) == 1
    assert {run.priority for run in Training.objects.all()} == {10}
    page = api.get("/api/v1/trainings", {"sweep_id": made["id"]}).json()
    assert page["count"] == 3
    assert {item["sweep_id"] for item in page["items"]} == {made["id"]}
    (listed,) = api.get(URL).json()["items"]
    assert listed == {name: made[name] for name in listed}


def test_the_same_key_starts_one_and_other_settings_are_a_conflict(api: Client) -> None:
    body = asked(grid={"l1_alpha": ["1e-3", 0.002]})
    first, second = (send(api, body=body, key="k") for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    for change in ({"grid": {"l1_alpha": [0.004]}}, {"hyperparameters": {"num_steps": 2000}}):
        other = send(api, body=asked(**change), key="k")
        assert other.status_code == 409
        assert other.json()["errors"][0]["field"] == "Idempotency-Key"
    assert Sweep.objects.count() == 1
    assert api.delete(f"{URL}/{first.json()['id']}").status_code == 202
    assert send(api, body=body, key="k").status_code == 409
    assert Training.objects.visible().count() == 0


def test_members_tell_where_they_stand_and_which_none_beats(api: Client) -> None:
    made = start(api, grid={"l1_alpha": [0.001, 0.002, 0.004]})
    for each, (l0, fvu) in zip(made["trainings"], ((40, 0.05), (20, 0.1), (30, 0.2)), strict=True):
        Training.objects.filter(pk=each["id"]).update(latest={"l0": l0, "fvu": fvu})
    found = api.get(f"{URL}/{made['id']}").json()["trainings"]
    assert [(each["l0"], each["on_front"]) for each in found] == [
        (40, True),
        (20, True),
        (30, False),
    ]


def test_more_are_added_and_the_same_ones_are_refused(api: Client) -> None:
    made = start(api)
    more = {"grid": {"l1_alpha": [0.008]}, "members": [{"latent_dim": 512}]}
    answer = send(api, f"/{made['id']}/trainings", more)
    assert answer.status_code == 201
    assert len(answer.json()) == 2
    assert "there 2 times" in errors(send(api, f"/{made['id']}/trainings", more))["grid"]
    assert len(api.get(f"{URL}/{made['id']}").json()["trainings"]) == 4


def test_all_are_stopped_then_deleted(api: Client) -> None:
    made = start(api)
    assert send(api, f"/{made['id']}/stop").json()["done"] == 2
    again = send(api, f"/{made['id']}/stop").json()
    assert (again["done"], len(again["items"])) == (0, 2)
    assert api.delete(f"{URL}/{made['id']}").status_code == 202
    assert api.get(f"{URL}/{made['id']}").status_code == 404
    assert send(api, f"/{made['id']}/trainings", {"grid": {"seed": [1]}}).status_code == 404
    assert api.get(URL).json() == {"items": [], "count": 0}


def test_what_an_administrator_adds_is_the_owners(api: Client) -> None:
    made = start(api)
    Sweep.objects.update(owner=somebody("bob"))
    assert send(api, f"/{made['id']}/trainings", {"grid": {"seed": [1]}}).status_code == 403
    bob = Client()
    bob.force_login(somebody("bob"))
    assert send(bob, f"/{made['id']}/trainings", {"grid": {"seed": [1]}}).status_code == 201
    assert Training.objects.filter(owner=somebody("bob")).count() == 1


def test_an_sae_is_continued_by_several(api: Client, tmp_path: Path) -> None:
    sae = an_sae(tmp_path / "sae")
    body = {
        "name": "on",
        "tokenization_id": str(sae.text.pk),
        "start_from": str(sae.pk),
        "hyperparameters": {"num_steps": 1000},
        "grid": {"l1_alpha": [0.001, 0.002]},
    }
    assert len(send(api, body=body).json()["trainings"]) == 2
    assert "latent_dim" in errors(send(api, body=body | {"grid": {"latent_dim": [64]}}))


THOUSAND = list(range(1000))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"grid": {}}, "grid"),
        ({"grid": None}, "grid"),
        ({"grid": []}, "grid"),
        ({"grid": {"l1_alpha": None}}, "l1_alpha"),
        ({"grid": {"l1_alpha": 0.001}}, "l1_alpha"),
        ({"grid": {"l1_alpha": [[0.001]]}}, "l1_alpha"),
        ({"grid": {"l1_alpha": [{"a": 1}]}}, "l1_alpha"),
        ({"grid": {"l1_alpha": [None]}}, "l1_alpha"),
        ({"grid": {"seed": [1.5]}}, "seed"),
        ({"grid": {"seed": [10**400]}}, "seed"),
        ({"grid": {"seed": [1, 1]}}, "grid"),
        ({"grid": {"colour": ["red"]}}, "grid"),
        ({"grid": {"seed": THOUSAND}}, "seed"),
        ({"grid": {n: list(range(64)) for n in ("seed", "l1_alpha", "latent_dim")}}, "grid"),
        ({"grid": {str(n): [n] for n in range(1000)}}, "grid"),
        ({"grid": {"architecture": [None]}}, "architecture"),
        ({"grid": {"architecture": [[]]}}, "architecture"),
        ({"members": [None]}, "members.0"),
        ({"members": [{}] * 1000}, "members"),
        ({"members": [{}, {}]}, "grid"),
        ({"members": [{str(n): n for n in range(1000)}]}, "members.0"),
        ({"members": [{"batch_size": 1024}]}, "batch_size"),
        ({"name": ""}, "name"),
        ({"name": "\x00"}, "name"),
        ({"layer": 99}, "layer"),
        ({"hyperparameters": {"num_steps": 1}}, "num_steps"),
    ],
)
def test_what_is_no_sweep_is_refused_at_once(
    api: Client, changes: dict[str, Any], field: str
) -> None:
    begun = time.monotonic()
    assert field in errors(send(api, body=asked(**changes)))
    assert time.monotonic() - begun < 2
    assert not Sweep.objects.exists()
    assert not Training.objects.exists()
