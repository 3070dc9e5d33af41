"""Each finding is told once, with its evidence, and only where there is something to find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from workers.engine import events
from workers.engine.config import Hyperparameters, ModelFacts, Plan, RunSpec, TrainingConfig
from workers.engine.diagnosis import Diagnosis
from workers.engine.schedule import Penalty
from workers.engine.train import train

MakeSpec = Callable[..., RunSpec]
PLENTY = 10**9


def plan(architecture: str = "standard", **h: Any) -> Plan:
    small = {"latent_dim": 100, "batch_size": 10, "num_steps": 1000, "dead_window_tokens": 100}
    settled = Hyperparameters.below_ranges(**(small | h))
    config = TrainingConfig(architecture=architecture, layer=0, hyperparameters=settled)
    return Plan.of(config, ModelFacts(d_model=8, n_layers=2))


def point(step: int, **values: Any) -> events.Progress:
    fine: dict[str, Any] = {
        "loss": 1.0,
        "l0": 10.0,
        "l1": 1.0,
        "reconstruction_loss": 1.0,
        "fvu": 0.5,
        "fvu_skip": None,
        "fvu_latents": None,
        "dead_neurons": 0,
        "dead_window_tokens": 100,
        "progress_pct": 1.0,
        "tokens_seen": 10 * step,
        "tokens_per_second": 1.0,
        "extraction_seconds": 1.0,
        "sae_seconds": 1.0,
        "learning_rate": 1e-3,
        "coefficient": 0.1,
        "contexts_per_batch": 3.0,
    }
    return events.Progress(step=step, **(fine | values))


class Watch:
    """A diagnosis and all that it has said."""

    def __init__(self, settled: Plan, n_usable: int = PLENTY) -> None:
        self.weights = {"threshold": torch.full((100,), 0.5)}
        jump = settled.architecture == "jumprelu"
        self.diagnosis = Diagnosis(settled, self.weights["threshold"] if jump else None)
        kind = "l0" if jump else "l1"
        self.penalty = Penalty(settled, kind, torch.device("cpu"))
        self.n_usable = n_usable

    def see(self, *points: events.Progress) -> list[events.Warned]:
        return [
            warned
            for one in points
            for warned in self.diagnosis.look(one, self.weights, self.penalty, self.n_usable)
        ]


def test_dead_latents_that_rise_are_told_of_once() -> None:
    watch = Watch(plan())
    assert watch.see(point(10, dead_neurons=90, dead_window_tokens=50)) == []  # window not full
    assert watch.see(point(20, dead_neurons=6), point(30, dead_neurons=9)) == []
    (warned,) = watch.see(point(40, dead_neurons=20), point(50, dead_neurons=30))
    assert (warned.code, warned.step) == ("dead_rising", 40)
    assert warned.message.startswith("Dead latents rose from 6% at step 20 to 20% (20 of 100).")


def test_many_dead_latents_that_become_fewer_are_no_finding() -> None:
    watch = Watch(plan())
    assert watch.see(*(point(step, dead_neurons=60 - step) for step in range(10, 60, 10))) == []


def test_thresholds_that_stand_still_are_told_of_and_moving_ones_not() -> None:
    watch = Watch(plan("jumprelu", log_interval=100))
    for step in range(100, 501, 100):
        watch.weights["threshold"] += 0.01
        assert watch.see(point(step)) == []
    (warned,) = watch.see(*(point(step) for step in range(600, 1101, 100)))
    assert (warned.code, warned.step) == ("threshold_still", 1000)
    assert "0 on average in 500 steps, where Adam could have moved them by 0.5" in warned.message


@pytest.mark.parametrize(("l0", "share", "limit"), [(1e-3, 1e-3, "lower"), (90.0, 1e3, "upper")])
def test_a_coefficient_that_is_held_at_its_limit_is_told_of(
    l0: float, share: float, limit: str
) -> None:
    watch = Watch(plan(target_l0=20, sparsity_warmup_steps=0))
    assert watch.see(point(1)) == []
    for step in range(1, 300):
        watch.penalty.observe(step, torch.tensor(l0), torch.tensor(share))
    (warned,) = watch.see(point(2000, l0=l0, tokens_seen=0))
    assert warned.code == "coefficient_limit"
    assert f"stands at its {limit} limit and L0 is {l0:.1f}, not 20" in warned.message


def test_tokens_that_come_again_are_told_of_and_again_after_four_rounds() -> None:
    watch = Watch(plan(), n_usable=1000)
    found = watch.see(*(point(step) for step in range(10, 501, 10)))
    assert [(w.code, w.step) for w in found] == [
        ("dataset_exhausted", 110),
        ("tokens_repeated", 410),
    ]
    assert "All 1,000 training tokens" in found[0].message


def test_what_was_told_before_a_resume_is_not_told_again() -> None:
    first, second = Watch(plan("jumprelu")), Watch(plan("jumprelu"))
    assert len(first.see(point(20), point(40, dead_neurons=20))) == 1
    second.diagnosis.restore(*first.diagnosis.state())
    assert second.see(point(50, dead_neurons=30)) == []
    assert second.diagnosis.state()[1] == first.diagnosis.state()[1] | {"reach": 0.03}


def test_a_run_tells_its_findings_at_the_point_they_are_seen(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec("standard", num_steps=200, learning_rate=1e-3)
    found = list(train(spec, tmp_path))
    (started,) = [event for event in found if isinstance(event, events.Started)]
    told = [e for e in found if isinstance(e, events.Warned) and e.code == "dataset_exhausted"]
    expected = 10 * (-(-started.tokens // 2560) + (started.tokens % 2560 == 0))
    assert [event.step for event in told] == [expected]
    at = found.index(told[0])
    assert isinstance(found[at - 1], events.Progress)
    assert replace(told[0], message="") == events.Warned(
        step=expected, code="dataset_exhausted", message=""
    )
