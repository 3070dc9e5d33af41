"""`manage.py train` refuses what cannot be trained, naming each field, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.rows import a_tokenization, an_sae
from trainings.management.commands.train import Command
from trainings.models import Tokenization, Training
from workers.engine.config import PRESETS

pytestmark = pytest.mark.django_db(transaction=True)

PLACE = ("--model", "tiny-llama", "--dataset", "topics")


def refusal(*words: str) -> str:
    with pytest.raises(CommandError) as caught:
        call_command("train", *words)
    assert caught.value.returncode == 2
    assert Training.objects.count() == 0
    return str(caught.value)


def settings(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


def test_every_wrong_setting_is_named_at_once() -> None:
    a_tokenization()
    wrong = settings("learnin_rate=1e-4", "batch_size=1", "num_steps=many", "seed")
    lines = refusal(*PLACE, "--layer", "1", *wrong).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "learnin_rate",
        "seed",
        "batch_size",
        "num_steps",
    ]
    assert "Did you mean learning_rate?" in lines[0]


def test_what_does_not_fit_the_model_is_named() -> None:
    a_tokenization()
    message = refusal(*PLACE, "--layer", "4", *settings("latent_dim=4096"))
    assert "layer: The model has layers 0 to 3" in message
    assert "latent_dim: 4,096 is outside" in message


def test_null_stands_for_automatic_and_none_for_no_normalization() -> None:
    from trainings.management.asking import hyperparameters

    found = hyperparameters(["gradient_clip=null", "normalize_activations=none", "top_k_sparsity="])
    assert found.gradient_clip is None
    assert found.normalize_activations == "none"
    assert found.top_k_sparsity is None


def test_values_are_read_as_the_schema_says() -> None:
    from trainings.management.asking import hyperparameters

    found = hyperparameters(["num_steps=2000", "learning_rate=5e-4", "target=next_layer"])
    assert (found.num_steps, found.learning_rate, found.target) == (2000, 5e-4, "next_layer")


def test_a_preset_is_where_it_starts_and_a_setting_wins_over_it() -> None:
    tokenization = a_tokenization()
    options = {"preset": "jumprelu-l0-64", "architecture": None, "layer": 1, "name": None}
    options |= {"from": None}
    options |= {"model": "tiny-llama", "dataset": "topics", "tokenization": str(tokenization.pk)}
    training = Command()._queued({**options, "set": ["target_l0=12", "num_steps=2000"]})
    found = training.config.hyperparameters
    assert training.config.architecture == "jumprelu"
    assert training.name.endswith("jumprelu")
    assert found.learning_rate == PRESETS["jumprelu-l0-64"].hyperparameters["learning_rate"]
    assert (found.target_l0, found.num_steps) == (12, 2000)


def test_a_crosscoders_layers_are_named_or_what_is_wrong_with_them() -> None:
    a_tokenization()
    place = (*PLACE, "--architecture", "crosscoder", "--layer", "1")
    assert "layers: The model has layers 0 to 3" in refusal(*place, *settings("layers=1,7"))
    assert "layers: They begin with 0" in refusal(*place, *settings("layers=0,2"))
    assert "layers: Name at least two" in refusal(*place, *settings("layers=1"))
    from trainings.management.asking import hyperparameters

    assert hyperparameters(["layers=1,3"]).layers == (1, 3)


def test_an_sae_is_continued_with_what_follows_from_it(tmp_path: Path) -> None:
    sae = an_sae(tmp_path / "sae", hyperparameters={"latent_dim": 128, "hook": "mlp_out"})
    options = {"preset": None, "architecture": None, "layer": None, "name": None, "model": None}
    options |= {"dataset": None, "tokenization": None, "from": str(sae.pk)}
    training = Command()._queued({**options, "set": ["num_steps=2000"]})
    found = training.config.hyperparameters
    assert (found.latent_dim, found.hook, found.num_steps) == (128, "mlp_out", 2000)
    assert (training.layer, training.tokenization) == (1, sae.text)
    assert training.started_from == sae


def test_what_contradicts_the_sae_that_is_continued_is_named(tmp_path: Path) -> None:
    sae = an_sae(tmp_path / "sae")
    words = ("train", "--from", sae.name, "--layer", "2")
    with pytest.raises(CommandError) as caught:
        call_command(*words, *settings("latent_dim=64", "hook=attn_out"))
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["layer", "hook", "latent_dim"]


def test_a_place_is_needed_where_no_sae_says_it() -> None:
    a_tokenization()
    assert "Name a --layer, or an SAE to continue" in refusal(*PLACE)


def test_a_preset_of_another_architecture_is_refused() -> None:
    a_tokenization()
    message = refusal(
        *PLACE, "--layer", "1", "--architecture", "standard", "--preset", "jumprelu-l0-64"
    )
    assert message == "The preset jumprelu-l0-64 is for jumprelu; leave --architecture out."


def test_text_that_is_not_tokenized_says_how_to_do_it() -> None:
    a_tokenization()
    message = refusal(*PLACE, "--layer", "1", "--context-length", "128")
    assert "manage.py tokenize --model 'tiny-llama' --dataset 'topics'" in message


def test_several_tokenizations_are_listed_to_choose_from() -> None:
    first = a_tokenization()
    second = Tokenization.objects.create(
        model=first.model, dataset=first.dataset, context_length=128, status="ready"
    )
    message = refusal(*PLACE, "--layer", "1")
    assert str(first.pk) in message
    assert str(second.pk) in message


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--model", "tiny-llama"), "--model and --dataset, or --tokenization"),
        (("--model", "tiny-lama", "--dataset", "topics"), "Did you mean 'tiny-llama'?"),
        (("--tokenization", "nonsense"), "no tokenization with the id"),
    ],
)
def test_source_that_is_not_there_is_said(words: tuple[str, ...], expected: str) -> None:
    a_tokenization()
    assert expected in refusal(*words, "--layer", "1")


def test_tokenization_that_is_not_ready_is_refused() -> None:
    row = a_tokenization("pending")
    assert "is not ready" in refusal("--tokenization", str(row.pk), "--layer", "1")
