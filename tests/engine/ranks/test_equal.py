"""One, two and four ranks train the same SAE, and go on from each other's checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from .conftest import KINDS, Outcome, Trained

# What is added up in another order differs in the last bits, and thirty steps carry that on.
TOLERANCE = 1e-4
# Rounded moments are drawn for the elements of a rank as for those of a whole matrix.
ROUNDED = 1e-2
NUMBERS = ("loss", "l0", "l1", "reconstruction_loss", "fvu", "coefficient", "fvu_latents")


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_the_losses_of_one_rank(trained: Trained, name: str, count: int) -> None:
    one, several = trained[1][name], trained[count][name]

    _assert_alike(one, several, ROUNDED if name == "moments" else TOLERANCE)
    # A checkpoint is told as soon as it is written.
    assert sorted(e["event"] for e in several.events) == sorted(e["event"] for e in one.events)


@pytest.mark.parametrize("name", KINDS)
def test_the_sae_of_four_ranks_is_that_of_one(trained: Trained, name: str) -> None:
    one, four = (trained[count][name].events[-1] for count in (1, 4))

    assert four["event"] == "completed"
    assert four["export"] | {"max_difference": 0} == one["export"] | {"max_difference": 0}
    tolerance = ROUNDED if name == "moments" else TOLERANCE
    for key in ("fvu", "l0"):
        assert four["evaluation"][key] == pytest.approx(one["evaluation"][key], rel=tolerance)


def test_latents_died_and_were_drawn_anew(trained: Trained) -> None:
    """Otherwise the cases above say nothing about the auxiliary loss and about resampling."""
    for name in ("topk", "batchtopk", "matryoshka"):
        assert trained[1][name].points[-1]["dead_neurons"] > 10, name
    for name in ("resampled", "jumprelu"):
        counts = [[e["count"] for e in trained[n][name].events if "count" in e] for n in (1, 2, 4)]
        assert counts[0]
        assert counts[0] == counts[1] == counts[2]


def test_a_checkpoint_knows_nothing_of_the_ranks(trained: Trained) -> None:
    one, four = (_tensors(trained[count]["topk"].checkpoint) for count in (1, 4))

    assert {n: (t.shape, t.dtype) for n, t in one.items() if n != "dead.indices"} == {
        n: (t.shape, t.dtype) for n, t in four.items() if n != "dead.indices"
    }
    torch.testing.assert_close(four["weights.W_enc"], one["weights.W_enc"], rtol=1e-3, atol=1e-4)
    assert torch.equal(four["dead.indices"], one["dead.indices"])


@pytest.mark.parametrize(
    ("count", "resumed", "whole"),
    [
        (2, "four_to_two", "topk"),
        (2, "jump_four_to_two", "jumprelu"),
        (1, "two_to_one", "topk"),
    ],
)
def test_another_number_of_ranks_goes_on(
    trained: Trained, count: int, resumed: str, whole: str
) -> None:
    again = trained[count][resumed]

    assert _started(again)["resumed_from"] == 20
    for point, expected in zip(again.points, trained[1][whole].points[4:], strict=True):
        assert point["step"] == expected["step"]
        assert point["loss"] == pytest.approx(expected["loss"], rel=TOLERANCE)


def test_one_rank_ends_what_others_have_begun(trained: Trained) -> None:
    """Four ranks trained to step 20, two to step 30, one evaluates."""
    last = trained[1]["from_the_end"]

    assert _started(last)["resumed_from"] == 30
    expected = trained[1]["topk"].events[-1]["evaluation"]["fvu"]
    assert last.events[-1]["evaluation"]["fvu"] == pytest.approx(expected, rel=TOLERANCE)


def test_the_same_number_of_ranks_goes_on_to_the_last_bit(trained: Trained) -> None:
    whole, again = trained[2]["topk"], trained[2]["zz_two_again"]

    assert _started(again)["resumed_from"] == 20
    ends = [_tensors(run.folder / "checkpoints" / "step-000030") for run in (whole, again)]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


@pytest.mark.parametrize("last", ["stopped", "paused"])
def test_all_ranks_stop_where_one_was_asked_to(trained: Trained, last: str) -> None:
    """The second one was asked; the first alone evaluates and tells."""
    run = trained[2][last]

    step = run.events[-1]["step"]
    assert run.events[-1]["event"] == last
    assert 10 <= step < 15
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == [f"step-{step:06d}"]


def test_the_cache_is_filled_once_and_read_by_all_ranks(trained: Trained) -> None:
    filled, read = trained[2]["cache_filled"], trained[2]["cache_read"]

    assert [_started(run)["cached_fraction"] for run in (filled, read)] == [0.0, 1.0]
    losses = [[point["loss"] for point in run.points] for run in (filled, read)]
    assert losses[0] == losses[1] == [point["loss"] for point in trained[2]["standard"].points]


def _started(run: Outcome) -> dict[str, Any]:
    return next(event for event in run.events if event["event"] == "started")


def _tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "tensors.safetensors")


def _assert_alike(one: Outcome, several: Outcome, tolerance: float) -> None:
    assert len(one.points) == len(several.points) == 6
    for expected, point in zip(one.points, several.points, strict=True):
        for key in NUMBERS:
            if expected[key] is None:
                assert point[key] is None
                continue
            assert math.isclose(point[key], expected[key], rel_tol=tolerance), (key, expected)
        assert abs(point["dead_neurons"] - expected["dead_neurons"]) <= 1
