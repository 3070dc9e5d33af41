"""Templates on the page: kept from the dialog, loaded into it, and all that a list does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from templates_app.models import TrainingTemplate
from tests.rows import a_tokenization
from tests.trainings.test_start_form import filled
from trainings.models import Training

from .test_exchange import a_file, a_template

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def dialog(**changes: Any) -> dict[str, Any]:
    """What the Start Training dialog holds."""
    return filled(architecture="jumprelu") | changes


def keep(client: Client, **changes: Any) -> Any:
    return client.post(reverse("keep_template"), dialog(**changes), headers=HTMX)


def test_settings_of_the_dialog_are_kept_under_a_name(client: Client) -> None:
    answer = keep(client, kept_name=" mine ", learning_rate="2e-4")
    assert answer.status_code == 200
    assert "is saved" in answer.content.decode()
    found = TrainingTemplate.objects.get()
    assert (found.name, found.architecture) == ("mine", "jumprelu")
    assert found.changed == {"num_steps": 1000, "batch_size": 512, "learning_rate": 2e-4}
    keep(client, kept_name="mine")
    assert set(TrainingTemplate.objects.values_list("name", flat=True)) == {"mine", "mine (2)"}


def test_settings_take_the_place_of_a_templates(client: Client) -> None:
    old = a_template("old", is_favorite=True, usage_count=3)
    keep(client, kept_name="new name", replaces=str(old.pk), num_steps="3000", template=str(old.pk))
    old.refresh_from_db()
    assert (old.name, old.hyperparameters["num_steps"]) == ("new name", 3000)
    assert (old.is_favorite, old.usage_count) == (True, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"kept_name": ""}, "required"), ({"kept_name": "a", "num_steps": "5"}, "Correct the fields")],
)
def test_what_is_wrong_is_said_and_nothing_is_kept(
    client: Client,
    changes: dict[str, str],
    words: str,
) -> None:
    answer = keep(client, **changes)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not TrainingTemplate.objects.exists()


def test_loading_fills_the_form_and_leaves_source_and_name(client: Client) -> None:
    a_tokenization()
    template = a_template("mine", hyperparameters={"num_steps": 7000, "l0_alpha": 2e-4})
    chosen = {"template": str(template.pk), "layer": "2", "name": "typed", "num_steps": "99"}
    page = client.get(reverse("use_template"), chosen).content.decode()
    assert 'value="7,000"' in page
    assert 'value="typed"' in page
    assert '<option value="jumprelu" selected>' in page
    assert '<option value="2" selected>' in page
    assert f'<option value="{template.pk}" selected>' in page


def test_a_preset_fills_the_form_too(client: Client) -> None:
    a_tokenization()
    page = client.get(reverse("use_template"), {"template": "jumprelu-l0-64"}).content.decode()
    assert '<option value="jumprelu" selected>' in page
    assert 'name="target_l0" value="64"' in page


@pytest.mark.parametrize("unknown", ["", "no-such", "00000000-0000-4000-8000-000000000000"])
def test_an_unknown_template_is_the_defaults(client: Client, unknown: str) -> None:
    a_tokenization()
    assert client.get(reverse("use_template"), {"template": unknown}).status_code == 200


def test_a_start_counts_as_use_once(client: Client, nudges: Any) -> None:
    template = a_template("mine")
    form = dialog(template=str(template.pk))
    for _ in range(2):  # a double click
        client.post(reverse("new_training"), form)
    template.refresh_from_db()
    assert (Training.objects.count(), template.usage_count) == (1, 1)
    assert template.last_used_at is not None
    client.post(reverse("new_training"), dialog(template="topk-32"))  # a preset has no row
    assert Training.objects.count() == 2


def test_list_shows_favourites_first_with_what_differs(client: Client) -> None:
    a_template("b")
    a_template("z", is_favorite=True, usage_count=1234, description="for all")
    page = client.get(reverse("templates")).content.decode()
    assert page.index(">z<") < page.index(">b<")
    for part in ("num_steps=2000", "1,234", "for all"):
        assert part in page
    assert "All" not in page.split("Templates ▾")[0]


def test_favourite_duplicate_and_delete(client: Client) -> None:
    template = a_template("mine")
    client.post(reverse("favorite_template", args=[template.pk]), {"favorite": "true"})
    client.post(reverse("duplicate_template", args=[template.pk]))
    names = list(TrainingTemplate.objects.values_list("name", "is_favorite"))
    assert names == [("mine", True), ("mine (2)", False)]
    url = reverse("delete_template", args=[template.pk])
    assert "keep their settings" in client.get(url).content.decode()
    assert TrainingTemplate.objects.count() == 2
    client.post(url)
    assert TrainingTemplate.objects.get().name == "mine (2)"
    assert client.post(url).status_code == 404


def test_edit_changes_words_and_settings_and_names_what_is_wrong(
    client: Client,
) -> None:
    template = a_template("mine")
    url = reverse("edit_template", args=[template.pk])
    assert "&quot;num_steps&quot;: 2000" in client.get(url).content.decode()
    fields = {"name": "other", "description": "why", "architecture": "standard"}
    wrong = client.post(url, {**fields, "settings": '{"num_steps": 1, "lernrate": 2}'})
    assert wrong.status_code == 422
    assert "lernrate: There is no such hyperparameter." in wrong.content.decode()
    for text in ("{", "[1]", "[" * 100_000):
        assert client.post(url, {**fields, "settings": text}).status_code == 422
    template.refresh_from_db()
    assert template.name == "mine"
    client.post(url, {**fields, "settings": '{"num_steps": 5000}'})
    template.refresh_from_db()
    assert (template.name, template.architecture) == ("other", "standard")
    assert template.changed == {"num_steps": 5000}


def test_export_of_the_chosen_or_of_all_is_a_file(client: Client) -> None:
    first = a_template("My first!")
    a_template("second")
    one = client.get(reverse("export_templates"), {"ids": [str(first.pk)]})
    assert one.headers["Content-Disposition"] == 'attachment; filename="my-first.json"'
    assert [t["name"] for t in json.loads(one.content)["templates"]] == ["My first!"]
    whole = json.loads(client.get(reverse("export_templates")).content)
    assert len(whole["templates"]) == 2
    assert client.get(reverse("export_templates"), {"ids": ["x"]}).status_code == 302


def test_import_shows_first_and_makes_then(client: Client) -> None:
    url = reverse("import_templates")
    assert client.get(url).status_code == 200
    data = a_file({"name": "from elsewhere", "hyperparameters": {"num_steps": 4000}})
    page = client.post(url, {"file": SimpleUploadedFile("t.json", data)}).content.decode()
    assert "1 template would be made" in page
    assert not TrainingTemplate.objects.exists()
    done = client.post(url, {"text": data.decode(), "confirmed": "1"}, follow=True)
    assert "Imported: from elsewhere." in done.content.decode()
    assert TrainingTemplate.objects.get().hyperparameters["num_steps"] == 4000


def test_import_names_every_fault_and_makes_nothing(client: Client) -> None:
    url = reverse("import_templates")
    data = a_file(
        {"name": "good", "hyperparameters": {}}, {"name": "bad", "hyperparameters": {"x": 1}}
    )
    page = client.post(url, {"text": data.decode()}).content.decode()
    assert "1 of 2 templates has errors" in page
    assert "There is no such hyperparameter." in page
    forced = client.post(url, {"text": data.decode(), "confirmed": "1"})
    assert forced.status_code == 422
    assert not TrainingTemplate.objects.exists()
    for text in ("", "nonsense"):
        assert client.post(url, {"text": text}).status_code == 422
    large = SimpleUploadedFile("t.json", b" " * 300_000)
    assert "at most 262,144" in client.post(url, {"file": large}).content.decode()


def test_markup_in_names_stays_text(client: Client) -> None:
    a_template('<img src=x onerror="alert(1)">')
    a_tokenization()
    for url in (reverse("templates"), "/", reverse("new_training")):
        assert "<img src=x" not in client.get(url).content.decode()
