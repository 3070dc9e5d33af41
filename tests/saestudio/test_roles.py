"""Every address of the studio, as stranger, viewer, member, other member and administrator."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.core import serializers
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from saestudio.access import tokens
from saestudio.access.roles import Role
from templates_app.models import TrainingTemplate
from tests.people import somebody
from tests.rows import a_training
from trainings.models import (
    Dataset,
    LanguageModel,
    Sae,
    SaeJob,
    Sweep,
    Tag,
    Tokenization,
    Training,
    Worker,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home", "nudges")]

# What changes nothing of the studio's: one's own session, account, and what one has seen.
OWN = {"login", "logout", "login_link", "account", "password", "revoke_token", "put_away"}
# Open to strangers: they say whether the server lives, and let people in.
OPEN = {"healthz", "readyz", "login", "login_link"}
ADMINS = {"clear_cache", "remove_cached", "drain_workers"}
# Of somebody: the first argument is a row of `ada`.
OWNED = {
    "stop", "resume", "run_next", "retry", "pin_checkpoint", "delete", "notes", "prepare_again",
    "delete_row", "edit_template", "delete_template", "evaluate_sae",
    "collect_features", "export_sae", "add_to_sweep",
}  # fmt: skip
ASKED = {"architecture": "standard", "layer": 1, "hyperparameters": {}}


def addresses() -> Iterator[tuple[str, str]]:
    """Name and path of each page, with ids that are none."""
    yield from _below(get_resolver(), "/")


def _below(resolver: URLResolver, before: str) -> Iterator[tuple[str, str]]:
    for found in resolver.url_patterns:
        path = before + str(found.pattern)
        if isinstance(found, URLResolver):
            if "admin" not in path and "api/" not in path:
                yield from _below(found, path)
        elif isinstance(found, URLPattern):
            yield str(found.name), path


@pytest.fixture
def rows() -> dict[str, str]:
    """One of everything, owned by ada, by the name its id has in addresses."""
    ada = somebody("ada")
    run = a_training(name="ada's", status="failed", owner=ada)
    sweep = Sweep.objects.create(name="ada's", asked=ASKED, owner=ada)
    Training.objects.filter(pk=run.pk).update(sweep=sweep)
    for kind in (LanguageModel, Dataset, Tokenization):
        kind.objects.update(owner=ada)
    checkpoint = run.checkpoints.create(
        attempt=1, step=5, path="/none", size_bytes=1, sha256="0" * 64
    )
    template = TrainingTemplate.objects.create(name="ada's", hyperparameters={}, owner=ada)
    sae = Sae.objects.create(training=run, path="/none", format="saelens", step=5)
    imported = Sae.objects.create(
        path="/none",
        own_name="theirs",
        own_model=run.model,
        own_text=run.tokenization,
        owner=ada,
    )
    worker = Worker.objects.create(kind="trainer", host="here", pid=1)
    job = SaeJob.objects.create(
        sae=sae, kind="export", tokenization=run.tokenization, status="failed", owner=ada
    )
    return {
        "worker": str(worker.pk),
        "job": str(job.pk),
        "imported": str(imported.pk),
        "training_id": str(run.pk),
        "sweep": str(sweep.pk),
        "checkpoint_id": str(checkpoint.pk),
        "rehearsal_id": str(uuid4()),
        "entry_id": "0" * 16,
        "template": str(template.pk),
        "model": str(LanguageModel.objects.get().pk),
        "sae": str(sae.pk),
    }


def everything() -> str:
    """All rows as text: equal before and after what must change nothing."""
    kinds = (
        Training,
        TrainingTemplate,
        LanguageModel,
        Dataset,
        Tokenization,
        Sae,
        SaeJob,
        Sweep,
        Tag,
        Worker,
    )
    found = [row for kind in kinds for row in kind.objects.order_by("pk")]
    return str(serializers.serialize("json", found))


def filled(name: str, path: str, rows: dict[str, str]) -> str:
    values = {
        "<uuid:training_id>": rows["training_id"],
        "<uuid:checkpoint_id>": rows["checkpoint_id"],
        "<uuid:rehearsal_id>": rows["rehearsal_id"],
        "<str:entry_id>": rows["entry_id"],
        "<uuid:sae_id>": rows["sae"],
        "<uuid:sweep_id>": rows["sweep"],
        "<int:latent>": "0",
        "<str:kind>": "csv",
        "<slug:kind>": "models",
        "<str:token>": "none",
        "<uuid:pk>": rows["template"] if "template" in path else rows["model"],
    }
    for part, value in values.items():
        path = path.replace(part, value)
    assert "<" not in path, f"{name}: {path} has a part this test does not know"
    return path


def client_of(who: str) -> Client:
    client = Client()
    if who != "stranger":
        roles = {"viewer": Role.VIEWER, "admin": Role.ADMIN}
        client.force_login(somebody(who, roles.get(who, Role.MEMBER)))
    return client


@pytest.mark.parametrize("who", ["stranger", "viewer"])
def test_whoever_may_only_look_changes_nothing_anywhere(who: str, rows: dict[str, str]) -> None:
    before, client = everything(), client_of(who)
    unlike = []
    for name, path in addresses():
        if name in OWN:
            continue
        for method in ("post", "put", "patch", "delete"):
            status = getattr(client, method)(filled(name, path, rows)).status_code
            if status not in ((302, 401, 403, 405) if who == "stranger" else (403,)):
                unlike.append((name, method, status))
    assert not unlike
    assert everything() == before


def test_strangers_see_nothing_but_the_login(rows: dict[str, str]) -> None:
    client = client_of("stranger")
    seen = {}
    for name, path in addresses():
        answer = client.get(filled(name, path, rows))
        sent_away = str(answer.get("Location", "")).startswith("/login")
        if name not in OPEN and not sent_away and answer.status_code != 401:
            seen[name] = answer.status_code
    assert not seen


def test_viewers_see_every_page(rows: dict[str, str]) -> None:
    client = client_of("viewer")
    hidden = {}
    for name, path in addresses():
        # Some need more than a path has: a measurement, an entry, what to do; or Redis.
        needs_more = {"rehearsal", "remove_cached", "log", "bulk", "edit_template", "feature"}
        if name in OWN | needs_more | {"readyz"}:
            continue
        status = client.get(filled(name, path, rows)).status_code
        if status not in (200, 302, 405):
            hidden[name] = status
    assert not hidden


@pytest.mark.parametrize(("who", "refused"), [("bob", OWNED | ADMINS), ("ada", ADMINS)])
def test_members_change_their_own_and_no_others(
    who: str, refused: set[str], rows: dict[str, str]
) -> None:
    before, client = everything(), client_of(who)
    found = set()
    for name, path in addresses():
        if name in (refused if who == "bob" else ADMINS):
            answer = client.post(filled(name, path, rows))
            if answer.status_code == 403:
                found.add(name)
    assert found == refused
    assert everything() == before


def test_owners_and_administrators_are_not_refused(rows: dict[str, str]) -> None:
    for who, names in (("ada", OWNED), ("admin", OWNED | ADMINS)):
        for name, path in addresses():
            if name in names - {"delete", "delete_row", "delete_template"}:
                assert client_of(who).post(filled(name, path, rows)).status_code != 403, name


def test_other_members_are_told_whose_it_is(rows: dict[str, str]) -> None:
    answer = client_of("bob").post(f"/trainings/{rows['training_id']}/stop")
    assert b"belongs to ada" in answer.content
    assert "belongs to ada" in json.loads(answer["X-Refusal"])


def test_what_nobody_owns_is_every_members(rows: dict[str, str]) -> None:
    Training.objects.update(owner=None)
    assert client_of("bob").post(f"/trainings/{rows['training_id']}/retry").status_code == 302


def test_bulk_does_what_may_be_done_and_says_what_not(rows: dict[str, str]) -> None:
    own = a_training(name="bob's", status="failed", owner=somebody("bob"))
    body = {"action": "retry", "ids": [str(own.pk), rows["training_id"]]}
    answer = client_of("bob").post(
        "/api/v1/trainings/bulk", json.dumps(body), content_type="application/json"
    )
    first, second = answer.json()["items"]
    assert (first["done"], second["done"]) == (True, False)
    assert "belongs to ada" in second["message"]


API_OWNED = (
    ("post", "trainings/{training_id}/stop", None),
    ("post", "trainings/{training_id}/resume", None),
    ("post", "trainings/{training_id}/retry", None),
    ("patch", "trainings/{training_id}", {"notes": "mine now"}),
    ("patch", "trainings/{training_id}/checkpoints/{checkpoint_id}", {"pinned": True}),
    ("delete", "trainings/{training_id}", None),
    ("post", "sweeps/{sweep}/trainings", {"grid": {"seed": [7]}}),
    ("post", "sweeps/{sweep}/stop", None),
    ("delete", "sweeps/{sweep}", None),
    ("put", "training-templates/{template}", {"name": "mine now"}),
    ("delete", "training-templates/{template}", None),
    ("post", "models/{model}/prepare", None),
    ("delete", "models/{model}", None),
    ("delete", "saes/{imported}", None),
    ("post", "saes/{sae}/evaluate", {}),
    ("post", "saes/{sae}/collect-features", {}),
    ("post", "saes/{sae}/exports", {"format": "saelens"}),
    ("delete", "saes/{sae}/jobs/{job}", None),
)
API_MADE: tuple[tuple[str, str, Any], ...] = (
    ("post", "trainings", {}),
    ("post", "sweeps", {}),
    ("post", "trainings/bulk", {"action": "delete", "ids": ["{training_id}"]}),
    ("post", "training-templates", {"name": "new"}),
    ("post", "training-templates/import", {}),
    ("post", "training-templates/{template}/duplicate", None),
    ("post", "training-templates/{template}/favorite", {"is_favorite": True}),
    ("post", "models", {"source": "hub", "location": "a/b"}),
    ("post", "datasets", {"source": "hub", "location": "a/b"}),
    ("post", "tokenizations", {}),
    ("post", "saes", {"source": "hub", "location": "a/b", "tokenization_id": "{model}"}),
    ("post", "saes/{sae}/activations", {"text": "a text"}),
)
API_ADMINS: tuple[tuple[str, str, Any], ...] = (("patch", "workers/{worker}", {"draining": True}),)


def call(client: Client, method: str, path: str, body: Any, rows: dict[str, str]) -> Any:
    text = "" if body is None else json.dumps(body)
    for name, value in rows.items():
        text = text.replace(f"{{{name}}}", value)
    address = f"/api/v1/{path.format(**rows)}"
    return getattr(client, method)(address, text, content_type="application/json")


@pytest.mark.parametrize(("who", "expected"), [("stranger", 401), ("viewer", 403)])
def test_api_changes_nothing_for_whoever_may_only_look(
    who: str, expected: int, rows: dict[str, str]
) -> None:
    before, client = everything(), client_of(who)
    for method, path, body in (*API_OWNED, *API_MADE, *API_ADMINS):
        answer = call(client, method, path, body, rows)
        assert (path, answer.status_code) == (path, expected)
        assert answer.json()["errors"][0]["message"]
    assert everything() == before


@pytest.mark.parametrize("way", ["session", "token"])
def test_api_refuses_another_members_rows(way: str, rows: dict[str, str]) -> None:
    before, client = everything(), client_of("bob")
    if way == "token":
        text = tokens.make(somebody("bob"), "t", read_only=False, days=None)[1]
        client = Client(headers={"Authorization": f"Bearer {text}"})
    for method, path, body in API_OWNED:
        answer = call(client, method, path, body, rows)
        assert (path, answer.status_code) == (path, 403)
        assert "belongs to ada" in answer.json()["errors"][0]["message"]
    assert everything() == before


def test_members_do_nothing_that_is_the_administrators(rows: dict[str, str]) -> None:
    before = everything()
    for method, path, body in API_ADMINS:
        answer = call(client_of("ada"), method, path, body, rows)
        assert (path, answer.status_code) == (path, 403)
        assert "only administrators" in answer.json()["errors"][0]["message"]
    assert everything() == before
    for method, path, body in API_ADMINS:
        assert call(client_of("admin"), method, path, body, rows).status_code == 200, path


def test_every_operation_of_the_api_is_in_one_of_the_lists() -> None:
    schema = client_of("admin").get("/api/v1/openapi.json").json()
    reads_only = {"trainings/estimate", "training-templates/import/preview"}
    tried = {
        (method, _kinds_alike(path)) for method, path, _ in (*API_OWNED, *API_MADE, *API_ADMINS)
    }
    missing = [
        (method, path)
        for path, methods in schema["paths"].items()
        for method in methods
        if method != "get"
        and (short := path.removeprefix("/api/v1/")) not in reads_only
        and (method, _kinds_alike(short)) not in tried
    ]
    assert not missing


def _kinds_alike(path: str) -> str:
    """Models, datasets and tokenizations share their code; what an id is called does not matter."""
    path = re.sub(r"^(datasets|tokenizations)", "models", path)
    return re.sub(r"\{\w+\}", "{}", path)
