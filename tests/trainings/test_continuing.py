"""A training that continues an SAE: asked for on its page and over the API, and what is kept."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.http import QueryDict
from django.test import Client
from django.urls import reverse

from tests.rows import a_tokenization, a_training, an_sae
from trainings import continuing, wishes
from trainings.forms import StartForm
from trainings.models import LanguageModel, Rehearsal, Sae, Tokenization, Training
from workers.attempt import run_spec
from workers.engine.config import ConfigError, TrainingConfig
from workers.rehearsal import RehearsalError, measure
from workers.sae_facts import facts_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home", "nudges")]
NEW, API = "/trainings/new", "/api/v1/trainings"
IMPORTED: dict[str, Any] = {
    "start": {
        "architecture": "standard",
        "layer": 2,
        "hook": "mlp_out",
        "target": "same_layer",
        "latent_dim": 4096,
        "k": 2,
        "per_token": True,
        "skip": None,
        "groups": None,
    },
    "layer": 2,
}


def imported(**changes: Any) -> Sae:
    source = a_tokenization()
    columns = {"own_name": "theirs", "own_model": source.model, "own_text": source}
    return Sae.objects.create(**(columns | {"path": "/sae", "facts": IMPORTED} | changes))


def filled(sae: Sae, **changes: Any) -> dict[str, Any]:
    usual = {"id": str(uuid.uuid4()), "start_from": str(sae.pk), "num_steps": "1000"}
    usual |= {"batch_size": "512", "accepted": "num_steps", "tokenization": str(sae.text.pk)}
    return usual | changes


def post(client: Client, path: str = "", key: str = "", **body: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    usual = {"name": "on", "tokenization_id": str(a_tokenization().pk)}
    text = json.dumps(usual | body)
    return client.post(API + path, text, content_type="application/json", headers=headers)


def test_the_page_leads_to_a_dialog_with_its_settings(client: Client, tmp_path: Path) -> None:
    own = {"learning_rate": 3e-4, "hook": "mlp_out", "sparsity_warmup_steps": 7, "target_l0": 9}
    sae = an_sae(tmp_path / "sae", architecture="jumprelu", hyperparameters=own)
    address = reverse("continue_sae", args=[sae.pk])
    assert address in client.get(f"/saes/{sae.pk}").content.decode()
    page = client.get(address).content.decode()
    assert "JumpReLU, layer 1, mlp_out, 256 latents" in page
    assert 'value="0.0003"' in page
    assert 'value="9"' in page
    for name in ("architecture", "layer", "hook", "target", "latent_dim", "jumprelu_threshold"):
        assert f'name="{name}"' not in page
    assert 'value="7"' not in page
    assert "a run-continued" in page


def test_the_dialog_starts_it(client: Client, tmp_path: Path, nudges: Any) -> None:
    sae = an_sae(tmp_path / "sae", architecture="batchtopk", hyperparameters={"target_l0": 5})
    client.post(NEW, filled(sae))
    run = Training.objects.get(name="a run-continued")
    assert (run.architecture, run.layer, run.started_from) == ("batchtopk", 1, sae)
    assert run.config.start_from == sae.pk
    assert run.hyperparameters["target_l0"] == 5
    assert nudges == [("run", run.pk)]
    page = client.get(reverse("training", args=[run.pk])).content.decode()
    assert f'Continues</dt><dd><a href="/saes/{sae.pk}">a run</a>' in page
    assert "--from" in page
    assert f'name="start_from" value="{sae.pk}"' in (
        client.get(reverse("clone", args=[run.pk])).content.decode()
    )
    report = client.get(reverse("report", args=[run.pk])).content.decode()
    assert "Continues</dt><dd>a run" in report


def test_an_imported_one_is_as_wide_and_as_sparse_as_it_is(client: Client) -> None:
    """4,096 latents are beyond what may be chosen here, and 2 of them are too few percent."""
    sae = imported()
    page = client.get(reverse("continue_sae", args=[sae.pk])).content.decode()
    assert "as the SAE: K = 2" in page
    client.post(NEW, filled(sae, top_k_sparsity=""))
    plain = Training.objects.get(name="theirs-continued")
    assert (plain.layer, plain.hyperparameters["latent_dim"]) == (2, 4096)
    assert plain.hyperparameters["top_k_sparsity"] == 100 * 2 / 4096
    assert plain.hyperparameters["normalize_activations"] == "layer_norm"
    assert run_spec(plain, 1).start_from == plain.start_spec
    assert plain.start_spec is not None
    assert (plain.start_spec.name, plain.start_spec.folder) == ("theirs", Path("/sae"))
    client.post(NEW, filled(sae, name="sparser", top_k_sparsity="0.5"))
    assert Training.objects.get(name="sparser").hyperparameters["top_k_sparsity"] == 0.5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ready": False}, "has not been imported yet"),
        ({"facts": {"start": None, "no_start": "It is none."}}, "cannot be continued. It is none."),
        ({"facts": {}}, "imported by an earlier version"),
    ],
)
def test_what_cannot_be_continued_says_why(
    client: Client, changes: dict[str, Any], reason: str
) -> None:
    sae = imported(**changes)
    answer = client.get(reverse("continue_sae", args=[sae.pk]), follow=True)
    assert reason in answer.content.decode()
    refused = client.post(NEW, filled(sae, layer="1", architecture="standard"))
    assert refused.status_code == 422
    assert reason in refused.content.decode()
    error = post(client, start_from=str(sae.pk)).json()["errors"][0]
    assert error["field"] == "start_from"
    assert reason in error["message"]
    assert not Training.objects.exists()


def test_a_crosscoder_is_not_offered(client: Client, tmp_path: Path) -> None:
    sae = an_sae(tmp_path / "sae")
    kept = {**Training.objects.get().hyperparameters, "layers": [1, 2]}
    Training.objects.update(architecture="crosscoder", hyperparameters=kept)
    assert "Continue training" not in client.get(f"/saes/{sae.pk}").content.decode()
    error = post(client, start_from=str(sae.pk)).json()["errors"][0]
    assert (error["field"], "crosscoder cannot be continued" in error["message"]) == (
        "start_from",
        True,
    )


@pytest.mark.parametrize("wrong", [str(uuid.UUID(int=7)), "nonsense"])
def test_an_sae_that_is_not_there_is_told(wrong: str) -> None:
    form = StartForm(QueryDict(f"id={uuid.uuid4()}&start_from={wrong}&t={a_tokenization().pk}"))
    assert not form.is_valid()
    assert "There is no such SAE" in str(form.non_field_errors())


def test_only_texts_of_its_model_are_offered(client: Client, tmp_path: Path) -> None:
    sae = an_sae(tmp_path / "sae")
    other = LanguageModel.objects.create(name="other", source="folder", location="o", d_model=32,
                                         n_layers=4, status="ready")  # fmt: skip
    foreign = Tokenization.objects.create(
        model=other, dataset=sae.text.dataset, context_length=64, status="ready"
    )
    page = client.get(reverse("continue_sae", args=[sae.pk])).content.decode()
    assert str(sae.text.pk) in page
    assert str(foreign.pk) not in page
    answer = post(client, start_from=str(sae.pk), tokenization_id=str(foreign.pk))
    assert answer.status_code == 422
    assert "choose a text of that" in answer.json()["errors"][0]["message"]


def test_the_api_starts_estimates_and_tells_it(client: Client, tmp_path: Path) -> None:
    sae = an_sae(tmp_path / "sae", hyperparameters={"latent_dim": 64})
    asked = {"start_from": str(sae.pk), "hyperparameters": {"num_steps": 1000}}
    assert post(client, "/estimate", **asked).json()["parameters"] == 64 * (2 * 32 + 1) + 32
    answer = post(client, key="k", **asked)
    assert answer.status_code == 201, answer.content
    told = answer.json()
    assert told["started_from"] == {"id": str(sae.pk), "name": "a run", "step": 1000}
    assert (told["layer"], told["hyperparameters"]["latent_dim"]) == (1, 64)
    assert post(client, key="k", **asked).status_code == 200
    again = asked | {"start_from": None, "layer": 1, "architecture": "standard"}
    assert post(client, key="k", **again).status_code == 409
    run = Training.objects.get(pk=told["id"])
    made = Sae.objects.create(training=run, path="/none", format="saelens", step=1)
    assert client.get(f"/api/v1/saes/{made.pk}").json()["started_from"]["name"] == "a run"
    assert facts_of(made).started_from == "a run"
    page = client.get(f"/saes/{made.pk}").content.decode()
    assert f'continues <a href="/saes/{sae.pk}">a run</a>' in page


def test_the_api_names_what_contradicts_and_what_is_missing(client: Client, tmp_path: Path) -> None:
    sae = an_sae(tmp_path / "sae")
    wrong = {"architecture": "gated", "layer": 0, "hyperparameters": {"latent_dim": 64}}
    errors = post(client, start_from=str(sae.pk), **wrong).json()["errors"]
    assert {error["field"] for error in errors} == {"architecture", "layer", "latent_dim"}
    errors = post(client).json()["errors"]
    assert {error["field"] for error in errors} == {"architecture", "layer"}


def continued(sae: Sae) -> Training:
    config = continuing.settled({"hyperparameters": {"num_steps": 1000}}, sae.text, sae)
    return Training.objects.start(
        name="on", tokenization=sae.text, config=config, nudge_workers=False
    )


def test_what_it_started_from_is_kept_when_that_is_deleted(client: Client, tmp_path: Path) -> None:
    sae = an_sae(tmp_path / "sae")
    run, config = continued(sae), continued(sae).config
    assert sae.training
    wishes.delete(sae.training)
    wishes.discard(sae.training.pk)
    run.refresh_from_db()
    assert (run.started_from, run.status) == (None, "pending")
    assert run.config == config
    assert run.start_spec is not None
    assert run.start_spec.folder == tmp_path / "sae"
    page = client.get(reverse("training", args=[run.pk])).content.decode()
    assert "Continues</dt><dd>a run, deleted since" in page
    with pytest.raises(ConfigError, match="no such SAE"):
        Training.objects.start(name="again", tokenization=run.tokenization, config=config)
    with pytest.raises(RehearsalError, match="no such SAE"):
        measure(run.tokenization, config)


def test_the_digest_that_a_run_told_is_asked_for_when_it_goes_on(tmp_path: Path) -> None:
    run = continued(an_sae(tmp_path / "sae"))
    Training.objects.filter(pk=run.pk).update(run_facts={"start_digest": "abc"})
    run.refresh_from_db()
    assert run.start_spec is not None
    assert run.start_spec.digest == "abc"
    assert a_training().start_spec is None


def test_a_measurement_belongs_to_one_start(tmp_path: Path) -> None:
    sae = an_sae(tmp_path / "sae")
    config = continuing.settled({}, sae.text, sae)
    row = Rehearsal.objects.ask(sae.text, config)
    assert row.config == config
    plain = TrainingConfig.model_validate(config.model_dump() | {"start_from": None})
    assert Rehearsal.objects.of(sae.text, config) == row
    assert Rehearsal.objects.of(sae.text, plain) is None


def test_prune_leaves_what_a_training_is_about_to_start_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sae = an_sae(tmp_path / "sae")
    run, _ = continued(sae), continued(imported(own_name="other"))
    call_command("prune", "--status", "completed", "--yes")
    assert Training.objects.filter(pk=sae.training_id).exists()
    run.checkpoints.create(attempt=1, step=5, path="/c", size_bytes=1, sha256="0")
    call_command("prune", "--status", "completed", "--yes")
    assert not Training.objects.filter(pk=sae.training_id).exists()
