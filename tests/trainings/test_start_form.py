"""The Start Training form: derived from the declaration, judged by the server, exactly one run."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.http import QueryDict
from django.test import Client
from django.urls import reverse

from tests.rows import a_tokenization, a_training
from trainings.forms import StartForm
from trainings.models import Training
from trainings.views.estimate import estimate
from workers.engine.config import FIELDS, Architecture, Hyperparameters, TrainingConfig

pytestmark = pytest.mark.django_db
NEW = "/trainings/new"


def filled(**changes: Any) -> dict[str, Any]:
    """What the form sends for a small run without warnings."""
    return {
        "id": str(uuid.uuid4()),
        "tokenization": str(a_tokenization().pk),
        "architecture": "standard",
        "layer": "1",
        "num_steps": "1000",
        "batch_size": "512",
        "accepted": "num_steps",
    } | changes


@pytest.mark.parametrize("architecture", list(Architecture))
def test_form_has_exactly_the_fields_of_the_architecture(
    client: Client, architecture: Architecture
) -> None:
    a_tokenization()
    page = client.get(NEW, {"architecture": architecture}).content.decode()
    shown = {name for name in FIELDS if f'name="{name}"' in page}
    assert shown == {n for n, spec in FIELDS.items() if spec.applies_to(architecture)}


def test_untouched_form_is_the_declared_defaults() -> None:
    a_tokenization()
    form = StartForm(QueryDict(f"id={uuid.uuid4()}"))
    assert form.is_valid(), form.errors
    assert form.config is not None
    assert form.config.hyperparameters.changed() == {}


def test_start_inserts_the_run_and_tells_the_workers(client: Client, nudges: Any) -> None:
    answer = client.post(NEW, filled(name="mine", l1_alpha="2e-3"))
    assert answer.headers["Location"] == "/"
    run = Training.objects.get()
    assert (run.name, run.layer, run.num_steps) == ("mine", 1, 1000)
    assert run.hyperparameters["l1_alpha"] == 0.002
    assert nudges == [("run", run.pk)]
    assert run.priority == 0


def test_a_run_is_started_with_the_chosen_priority(client: Client) -> None:
    client.post(NEW, filled(name="urgent", priority="10"))
    assert Training.objects.get().priority == 10
    refused = client.post(NEW, filled(priority="99"))
    assert refused.status_code == 422
    assert "Priority" in refused.content.decode()


def test_submitting_twice_starts_one_run(client: Client, nudges: Any) -> None:
    once = filled()
    client.post(NEW, once)
    client.post(NEW, once)
    assert Training.objects.count() == 1
    assert len(nudges) == 1


def test_run_without_a_name_gets_the_suggested_one(client: Client, nudges: Any) -> None:
    client.post(NEW, filled(architecture="jumprelu", layer="2", latent_dim="512"))
    assert Training.objects.get().name == "tiny-llama-l2-jumprelu-16x"


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("num_steps", "999", "is too small"),
        ("learning_rate", "1", "is too large"),
        ("batch_size", "many", "Write a whole number"),
        ("l1_alpha", "nan", "is not a number"),
        ("latent_dim", "33", "is outside"),
        ("layer", "4", "Select a valid choice"),
        ("hook", "head", "Select a valid choice"),
        ("lr_warmup_steps", "1000", "must be below"),
        ("architecture", "vanilla", "Select a valid choice"),
        ("tokenization", str(uuid.UUID(int=7)), "Select a valid choice"),
    ],
)
def test_wrong_value_starts_nothing_and_is_named(
    client: Client, field: str, value: str, sentence: str
) -> None:
    answer = client.post(NEW, filled(**{field: value}))
    assert answer.status_code == 422
    assert Training.objects.count() == 0
    if field != "tokenization":  # Without a source there is no form to show it in.
        beside = re.search(rf'id="start-{field}_error"[^>]*>([^<]*)<', answer.content.decode())
        assert beside is not None
        assert sentence in beside.group(1)


def test_numbers_may_be_written_as_they_are_shown(client: Client, nudges: Any) -> None:
    client.post(NEW, filled(num_steps="2,000"))
    assert Training.objects.get().num_steps == 2000


def test_warning_that_was_not_seen_holds_the_start_back(client: Client) -> None:
    answer = client.post(NEW, filled(accepted=""))
    assert answer.status_code == 200
    assert "every token is used about 5.1 times" in answer.content.decode()
    assert Training.objects.count() == 0


def test_check_judges_without_starting(client: Client) -> None:
    answer = client.get(f"{NEW}/check", filled(num_steps="12"))
    assert 'id="start-num_steps_error" hx-swap-oob="true">12 is too small' in (
        answer.content.decode()
    )
    assert Training.objects.count() == 0


def test_another_model_brings_its_own_layers(client: Client) -> None:
    answer = client.get(f"{NEW}/fields", filled(layer="29"))
    page = answer.content.decode()
    assert "of 4 decoder blocks" in page
    assert '<option value="2" selected>' in page


def test_estimate_says_where_its_time_comes_from(client: Client) -> None:
    a_tokenization()
    assert "no earlier run" in client.get(NEW).content.decode()
    a_training(status="completed", latest={"tokens_per_second": 512.0})
    page = client.get(NEW, {"num_steps": "1000", "batch_size": "512"}).content.decode()
    assert "16 min" in page
    assert "from 1 earlier run<" in page


def test_without_a_tokenization_the_form_says_where_to_get_one(client: Client) -> None:
    page = client.get(NEW).content.decode()
    assert reverse("datasets") in page
    assert "<select" not in page


def test_a_crosscoder_is_started_with_its_layers(client: Client, nudges: Any) -> None:
    asked = filled(architecture="crosscoder", layers="1, 3")
    assert 'value="1, 3"' in client.get(NEW, asked).content.decode()
    client.post(NEW, asked)
    run = Training.objects.get()
    assert (run.name, run.layer, run.layers) == ("tiny-llama-l1-3-crosscoder-8x", 1, (1, 3))
    assert run.hyperparameters["layers"] == [1, 3]
    assert "layers 1, 3" in client.get(f"/trainings/{run.pk}").content.decode()
    clone = client.get(reverse("clone", args=[run.pk])).content.decode()
    assert 'value="1, 3"' in clone


@pytest.mark.parametrize(
    ("layers", "right"),
    [("2, 3", "must be the first"), ("1, 9", "9 is beyond"), ("1", "at least two"), ("x", "3, 5")],
)
def test_layers_that_cannot_be_read_are_named_at_their_field(
    client: Client, layers: str, right: str
) -> None:
    answer = client.post(NEW, filled(architecture="crosscoder", layers=layers))
    assert answer.status_code == 422
    beside = re.search(r'id="start-layers_error"[^>]*>([^<]*)<', answer.content.decode())
    assert beside is not None
    assert right in beside.group(1)


def test_a_crosscoders_time_is_that_of_more_layers(client: Client) -> None:
    """Of 2 ms a token the pass took 0.5; the rest is for one layer, and twice as much for two."""
    a_training(
        status="completed",
        latest={"tokens_per_second": 500.0, "extraction_tokens_per_second": 2000.0},
    )
    source, asked = a_tokenization(), {"num_steps": 1000, "batch_size": 512}
    seconds = {}
    for architecture in ("standard", "crosscoder"):
        config = TrainingConfig(
            architecture=architecture, layer=1, hyperparameters=Hyperparameters(**asked)
        )
        found = estimate(config, source)
        assert found is not None
        seconds[architecture] = found.seconds
    assert seconds["standard"] == pytest.approx(1024)
    assert seconds["crosscoder"] == pytest.approx(512_000 * 3.5e-3)


def test_layer_of_the_last_block_cannot_be_transcoded(client: Client) -> None:
    answer = client.post(NEW, filled(architecture="transcoder", layer="3"))
    assert answer.status_code == 422
    assert "choose at most 2" in answer.content.decode()
