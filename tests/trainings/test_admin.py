"""The administration: every table can be looked at, and actions go through the transitions."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from saestudio.access.roles import Role
from saestudio.models import ApiToken
from templates_app.models import TrainingTemplate
from tests.people import somebody
from tests.rows import a_rehearsal, a_training
from trainings.models import Sae, Sweep, Tag, Training, TrainingMetric, Worker

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    found = Client()
    found.force_login(somebody("root", Role.ADMIN))
    return found


def act(client: Client, action: str, *runs: Training) -> str:
    """What the page says after the action."""
    chosen = {"action": action, "_selected_action": [str(run.pk) for run in runs]}
    answer = client.post(reverse("admin:trainings_training_changelist"), chosen, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_every_table_opens_with_its_rows_and_can_be_searched(client: Client) -> None:
    run = a_training(status="running")
    a_rehearsal(run.config)
    Sae.objects.create(training=run, path="/sae", format="saelens", step=5)
    run.checkpoints.create(attempt=1, step=5, path="/c", size_bytes=1, sha256="0")
    Tag.objects.give(run, ["mine"])
    Worker.objects.create(kind="trainer", host="here", pid=1)
    Sweep.objects.create(name="s", asked={})
    TrainingTemplate.objects.create(name="t", hyperparameters={})
    ApiToken.objects.create(user=somebody(), name="t", digest="0", hint="sae_0000")
    opened = 0
    for model, page in admin.site._registry.items():
        place = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        query = "?q=a" if page.search_fields else ""
        assert client.get(reverse(f"{place}_changelist") + query).status_code == 200
        if model._meta.app_label in ("trainings", "templates_app", "saestudio"):
            row = model._default_manager.first()
            assert row, f"a row of {model._meta.model_name} is missing here"
            assert client.get(reverse(f"{place}_change", args=[row.pk])).status_code == 200
            opened += 1
    assert opened == 12


def test_metrics_are_in_no_list() -> None:
    assert TrainingMetric not in admin.site._registry


def test_actions_are_the_same_transitions_as_on_the_page(
    client: Client, nudges: list[tuple[str, Any]]
) -> None:
    running, failed = a_training(status="running"), a_training(status="failed", attempt=2)
    page = act(client, "stop", running, failed)
    assert "1 × It stops" in page
    assert "1 × It has ended" in page
    running.refresh_from_db()
    assert running.stop_requested_at
    act(client, "retry_from_scratch", failed)
    failed.refresh_from_db()
    assert (failed.status, failed.fresh_since_attempt) == ("pending", 3)
    act(client, "delete_with_files", failed)
    failed.refresh_from_db()
    assert failed.delete_requested_at
    assert [kind for kind, _ in nudges] == ["run", "discard"]


def test_state_cannot_be_typed_in(client: Client) -> None:
    run = a_training(status="running")
    address = reverse("admin:trainings_training_change", args=[run.pk])
    typed = {"name": "new", "notes": "", "tags": [], "owner": "", "status": "completed"}
    assert client.post(address, typed).status_code == 302
    run.refresh_from_db()
    assert (run.name, run.status) == ("new", "running")
    assert client.post(reverse("admin:trainings_training_delete", args=[run.pk])).status_code == 403


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
def test_only_administrators_come_in(role: Role) -> None:
    client = Client()
    client.force_login(somebody("ada", role))
    assert client.get("/admin/", follow=False).status_code == 302
    assert client.get(reverse("admin:trainings_training_changelist")).status_code == 302
