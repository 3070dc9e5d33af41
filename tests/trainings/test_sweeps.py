"""What a grid and a list make of a sweep, and what is refused before anything is queued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.rows import a_tokenization, an_sae
from trainings import sweeps
from trainings.models import Sweep, Training
from trainings.sweeps import Asked
from workers.engine.config import ConfigError

pytestmark = pytest.mark.django_db

BASE: dict[str, Any] = {"architecture": "standard", "layer": 1, "hyperparameters": {"seed": 3}}


def made(base: dict[str, Any] = BASE, /, *members: dict[str, Any], **grid: list[Any]) -> Any:
    return sweeps.members(Asked(base, grid, members), a_tokenization())


def refused(*members: dict[str, Any], **grid: list[Any]) -> dict[str, str]:
    with pytest.raises(ConfigError) as error:
        made(BASE, *members, **grid)
    return {problem.field: problem.message for problem in error.value.problems}


def a_sweep(**grid: list[Any]) -> Sweep:
    asked = Asked(BASE, grid or {"l1_alpha": [0.001, 0.002]})
    source = a_tokenization()
    members = sweeps.members(asked, source)
    return sweeps.start(name="alphas", source=source, asked=asked, made=members)[0]


def test_a_grid_makes_every_combination_and_a_list_adds_to_it() -> None:
    found = made(
        BASE, {"architecture": "jumprelu"}, l1_alpha=["1e-3", 0.002], latent_dim=[256, 512]
    )
    assert [member.words for member in found] == [
        "l1_alpha 0.001, latent_dim 256",
        "l1_alpha 0.001, latent_dim 512",
        "l1_alpha 0.002, latent_dim 256",
        "l1_alpha 0.002, latent_dim 512",
        "architecture jumprelu",
    ]
    assert found[1].config.hyperparameters.latent_dim == 512
    assert found[4].config.architecture == "jumprelu"


def test_what_was_asked_for_is_kept_as_it_was_read() -> None:
    base = {"architecture": "standard", "layer": "1"}
    asked = Asked(
        base | {"hyperparameters": {"seed": "3", "latent_dim": "256"}},
        {"l1_alpha": ["1e-3", "0.002"]},
        [{"latent_dim": "512"}],
    )
    source = a_tokenization()
    made = sweeps.members(asked, source)
    assert sweeps.as_read(asked, made, source) == {
        "architecture": "standard",
        "layer": 1,
        "hyperparameters": {"seed": 3, "latent_dim": 256},
        "grid": {"l1_alpha": [0.001, 0.002]},
        "members": [{"latent_dim": 512}],
        "tokenization_id": str(source.pk),
        "start_from": None,
    }


def test_a_grid_of_a_billion_is_counted_and_not_made() -> None:
    values = list(range(1000))
    found = refused(seed=values, l1_alpha=values, latent_dim=values)
    assert "these are 1,000,000,000" in found["grid"]


def test_several_seeds_read_in_the_order_of_the_first() -> None:
    found = made(seed=[7, 8])
    assert [m.config.hyperparameters.seed for m in found] == [7, 8]
    assert {m.config.hyperparameters.data_seed for m in found} == {7}
    (alone,) = made(seed=[7])
    assert alone.config.hyperparameters.data_seed is None


@pytest.mark.parametrize(
    ("grid", "field", "words"),
    [
        ({}, "grid", "Nothing varies"),
        ({"colour": ["red"]}, "grid", "colour is no hyperparameter"),
        ({"l1_alpha": []}, "grid", "l1_alpha has no value"),
        ({"l1_alpha": [0.001, 0.001]}, "grid", "l1_alpha 0.001 is there 2 times"),
        ({"l1_alpha": ["much"]}, "l1_alpha", "number"),
        ({"batch_size": [512, 1024]}, "batch_size", "share their activations"),
        ({"architecture": ["standard", "transcoder"]}, "target", "share their activations"),
        ({"architecture": [None]}, "architecture", "Name one"),
        ({"gpus": [2]}, "gpus", "choose 1"),
        ({"seed": list(range(65))}, "grid", "at most 64 trainings; these are 65"),
    ],
)
def test_what_is_no_sweep_is_refused(grid: dict[str, list[Any]], field: str, words: str) -> None:
    found = refused(**grid)
    assert list(found) == [field]
    assert words in found[field]


def test_its_trainings_are_queued_at_once_and_asked_for_twice_they_are_there_once() -> None:
    sweep = a_sweep()
    asked, source = Asked(BASE, {"l1_alpha": [0.001, 0.002]}), a_tokenization()
    members = sweeps.members(asked, source)
    again, created = sweeps.start(
        name="again", source=source, asked=asked, made=members, pk=sweep.pk
    )
    assert (again, created) == (sweep, False)
    runs = list(sweep.trainings.order_by("hyperparameters__l1_alpha"))
    assert [run.name for run in runs] == ["alphas l1_alpha 0.001", "alphas l1_alpha 0.002"]
    assert sweeps.own_names(runs) == ["l1_alpha"]
    assert {run.status for run in runs} == {"pending"}


def test_members_are_added_that_read_the_same() -> None:
    sweep = a_sweep(seed=[3, 4])
    (added,) = sweeps.add(sweep, Asked({}, {"seed": [5]}))
    assert added.sweep == sweep
    assert added.hyperparameters["data_seed"] == 3
    with pytest.raises(ConfigError, match="there 2 times"):
        sweeps.add(sweep, Asked({}, {"seed": [5]}))
    with pytest.raises(ConfigError, match="batch_size"):
        sweeps.add(sweep, Asked({}, {"batch_size": [512]}))
    assert sweep.trainings.count() == 3


def test_what_a_sweep_began_with_is_not_added_again() -> None:
    for sweep in (a_sweep(), a_sweep(l1_alpha=[0.001], seed=[3, 4])):
        with pytest.raises(ConfigError, match="there 2 times"):
            sweeps.add(sweep, Asked({}, {"l1_alpha": [0.001], "seed": [3]}))


def test_nothing_is_added_to_a_sweep_whose_sae_is_gone(tmp_path: Path) -> None:
    sae = an_sae(tmp_path / "sae")
    asked = Asked({"hyperparameters": {"num_steps": 2000}}, {"l1_alpha": [0.001, 0.002]})
    made = sweeps.members(asked, sae.text, sae)
    sweep, _ = sweeps.start(name="on", source=sae.text, asked=asked, made=made)
    (run,) = sweeps.add(sweep, Asked({}, {"l1_alpha": [0.003]}))
    assert (run.started_from, run.num_steps) == (sae, 2000)
    sae.delete()
    with pytest.raises(ConfigError, match="was deleted"):
        sweeps.add(sweep, Asked({}, {"l1_alpha": [0.004]}))


def test_a_deleted_member_may_be_added_again() -> None:
    sweep = a_sweep()
    run = sweep.trainings.get(name="alphas l1_alpha 0.001")
    Training.objects.request_delete(run.pk)
    (again,) = sweeps.add(sweep, Asked({}, {"l1_alpha": [0.001]}))
    assert again.name == run.name
    Training.objects.all().update(delete_requested_at=again.created_at)
    with pytest.raises(ConfigError, match="None of its trainings is left"):
        sweeps.add(sweep, Asked({}, {"l1_alpha": [0.005]}))


def test_whoever_claims_one_claims_all_that_stand_near_it() -> None:
    sweep = a_sweep(l1_alpha=[0.001, 0.002, 0.003, 0.004])
    first, second, third, fourth = sweep.trainings.order_by("hyperparameters__l1_alpha")
    steps = first.num_steps
    for run, step in ((first, steps // 20), (third, steps // 2)):
        run.checkpoints.create(step=step, attempt=1, path=f"/{run.pk}", size_bytes=1, sha256="")
    Training.objects.filter(pk=fourth.pk).update(status="running", attempt=1)
    assert Training.objects.claim_group(second.pk, "me") == {second.pk: 1, first.pk: 1}
    assert Training.objects.claim_group(second.pk, "other") == {}
    assert Training.objects.claim_group(third.pk, "other") == {third.pk: 1}


def test_a_sweep_without_trainings_is_not_shown_and_goes_with_the_last() -> None:
    sweep = a_sweep()
    assert list(Sweep.objects.visible()) == [sweep]
    for run in sweep.trainings.all():
        Training.objects.request_delete(run.pk)
    assert not Sweep.objects.visible()
    Sweep.objects.discard_empty(sweep.pk)
    assert Sweep.objects.filter(pk=sweep.pk).exists()
    sweep.trainings.all().delete()
    Sweep.objects.discard_empty(sweep.pk)
    assert not Sweep.objects.filter(pk=sweep.pk).exists()
