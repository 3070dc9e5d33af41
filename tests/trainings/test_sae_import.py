"""Taking in an SAE from elsewhere: the form, the API, the rows, and removing it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.people import somebody
from tests.rows import a_tokenization
from trainings.models import LanguageModel, Sae, SaeJob, Tokenization

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home")]


@pytest.fixture
def folder(home: Path, settings: Any) -> Path:
    found = home / "imports" / "blocks.1"
    found.mkdir(parents=True)
    settings.ALLOWED_ROOTS = [home / "imports"]
    return found


def asked(folder: Path, **changed: Any) -> dict[str, Any]:
    usual = {
        "source": "folder",
        "location": str(folder),
        "tokenization": str(a_tokenization().pk),
    }
    return usual | changed


def test_the_form_makes_a_row_and_a_job(client: Client, folder: Path, nudges: Any) -> None:
    answer = client.post("/saes/import", asked(folder, layer="2", hook="mlp_out"))
    sae = Sae.objects.get()
    assert answer.headers["Location"] == f"/saes/{sae.pk}"
    assert (sae.name, sae.location, sae.ready) == ("blocks.1", str(folder), False)
    assert sae.owner == somebody()
    job = SaeJob.objects.get()
    assert (job.kind, job.tokenization) == ("import", sae.text)
    assert (job.options["layer"], job.options["hook"]) == (2, "mlp_out")
    assert [kind for kind, _ in nudges] == ["sae_job"]
    page = client.get(f"/saes/{sae.pk}").content.decode()
    assert "waiting for a worker" in page
    assert "Scorecard" not in page
    assert "not imported yet" in client.get("/saes").content.decode()


def test_a_place_on_the_hub_is_kept_in_parts(client: Client, folder: Path, nudges: Any) -> None:
    on_hub = {"source": "hub", "location": "EleutherAI/sae-x", "subfolder": "layers.5/"}
    client.post("/saes/import", asked(folder, **on_hub, revision="main", name="theirs"))
    sae = Sae.objects.get()
    assert (sae.name, sae.location) == ("theirs", "EleutherAI/sae-x/layers.5")
    assert SaeJob.objects.get().options["subfolder"] == "layers.5"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"location": "/etc"}, "location"),
        ({"location": ""}, "location"),
        ({"source": "hub", "location": "not an id"}, "location"),
        ({"source": "hub", "location": "a/b", "subfolder": "../x"}, "subfolder"),
        ({"source": "pickle"}, "source"),
        ({"tokenization": "nonsense"}, "tokenization"),
        ({"layer": "-1"}, "layer"),
        ({"hook": "mlp_out"}, "layer"),
        ({"hook": "nowhere"}, "hook"),
        ({"revision": "main"}, "location"),
        ({"name": "x" * 256}, "name"),
    ],
)
def test_what_cannot_be_is_refused_beside_its_field(
    client: Client, folder: Path, changed: dict[str, str], field: str
) -> None:
    answer = client.post("/saes/import", asked(folder, **changed))
    assert answer.status_code == 422
    assert f'id="import-{field}' in answer.content.decode()
    assert field in answer.context["form"].errors
    assert not Sae.objects.exists()


def test_a_failed_import_says_why_and_is_tried_again(
    client: Client, folder: Path, nudges: Any
) -> None:
    client.post("/saes/import", asked(folder))
    sae = Sae.objects.get()
    SaeJob.objects.update(status="failed", error_message="It belongs to another model.")
    page = client.get(f"/saes/{sae.pk}").content.decode()
    assert "It belongs to another model." in page
    assert "Try again" in page
    client.post(f"/saes/{sae.pk}/import")
    assert [job.status for job in SaeJob.objects.all()] == ["pending", "failed"]
    assert SaeJob.objects.first().options == SaeJob.objects.last().options


def imported(folder: Path) -> Sae:
    text = a_tokenization()
    sae = Sae(
        own_name="theirs",
        own_model=text.model,
        own_text=text,
        location="EleutherAI/sae-x",
        facts={"architecture": "TopK 32", "layer": 5, "hook": "resid_post", "d_sae": 4608},
        format="saelens",
        owner=somebody(),
    )
    sae.path = str(sae.home / "sae")
    sae.save()
    sae.folder.mkdir(parents=True)
    (sae.folder / "cfg.json").write_text("{}")
    return sae


def test_an_imported_sae_has_a_page_like_any_other(client: Client, folder: Path) -> None:
    sae = imported(folder)
    page = client.get(f"/saes/{sae.pk}").content.decode()
    for word in ("theirs", "TopK 32", "layer 5", "4,608 latents", "from EleutherAI/sae-x"):
        assert word in page
    assert "Its training" not in page
    assert "Delete" in page
    assert "theirs" in client.get("/saes").content.decode()
    told = client.get(f"/api/v1/saes/{sae.pk}").json()
    assert (told["training_id"], told["layer"], told["ready"]) == (None, 5, True)
    model = LanguageModel.objects.get()
    assert client.get(f"/api/v1/saes?model_id={model.pk}").json()["count"] == 1


def test_it_is_removed_with_its_files_by_its_owner_alone(client: Client, folder: Path) -> None:
    sae = imported(folder)
    other = Client()
    other.force_login(somebody("bob"))
    assert other.post(f"/saes/{sae.pk}/remove").status_code == 403
    client.post(f"/saes/{sae.pk}/remove")
    assert not Sae.objects.exists()
    assert not sae.home.exists()


def test_what_it_stands_on_is_not_deleted(client: Client, folder: Path) -> None:
    sae = imported(folder)
    client.post(f"/tokenizations/{sae.text.pk}/delete")
    client.post(f"/models/{sae.language_model.pk}/delete")
    assert Tokenization.objects.count() == LanguageModel.objects.count() == 1


def test_the_api_takes_in_and_deletes(client: Client, folder: Path, nudges: Any) -> None:
    body = asked(folder)
    body["tokenization_id"] = body.pop("tokenization")

    def post(**changed: Any) -> Any:
        text = json.dumps(body | changed)
        return client.post("/api/v1/saes", text, content_type="application/json")

    answer = post(name="theirs")
    assert (answer.status_code, answer.json()["ready"]) == (202, False)
    refused = post(location="/etc")
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "location"
    assert client.delete(f"/api/v1/saes/{answer.json()['id']}").status_code == 204
    assert not Sae.objects.exists()
