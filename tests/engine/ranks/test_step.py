"""What the ranks make of a step that each has done with its own latents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.saes import an_sae
from workers.engine import member
from workers.engine.member import Member
from workers.engine.normalize import Normalizer
from workers.engine.ranks import Ranks
from workers.engine.sae.batch import TopOfBatch
from workers.engine.sae.batchtopk import BatchTopK
from workers.engine.sae.relu import Relu
from workers.engine.sae.standard import Standard
from workers.engine.sae.step import Step
from workers.engine.sae.topk import TopK
from workers.engine.saved import Kind
from workers.engine.start import take_over

TOTAL = torch.tensor([0.3, 5.0, 7.0])


class Heard(Ranks):
    """One of two, whose sums are known."""

    count = 2

    def sum(self, own: Tensor) -> Tensor:
        return TOTAL.clone()


def a_step(own_penalty: float, auxiliary: float = 0.1) -> Step:
    mse, own = torch.tensor(0.7), torch.tensor(own_penalty)
    nothing = torch.zeros(())
    return Step({}, mse + auxiliary + own, mse, nothing, nothing, nothing, nothing, auxiliary)


def test_the_loss_has_the_same_bits_on_every_rank() -> None:
    """The penalty's weight follows it: with other bits the ranks would part for good."""
    sae = Standard({}, Relu(), ranks=Heard())
    losses = {float(sae._of_all_ranks(a_step(own)).loss) for own in torch.rand(200).tolist()}
    assert len(losses) == 1
    assert losses.pop() == pytest.approx(0.7 + 0.1 + 0.3)


def test_what_has_no_penalty_keeps_its_loss() -> None:
    """The auxiliary loss of TopK is of all ranks already, and stands in the loss alone."""
    step = Step({}, torch.tensor(0.9), torch.tensor(0.7), *[torch.zeros(())] * 4)
    whole = Standard({}, TopK(4, 0.1), ranks=Heard())._of_all_ranks(step)
    assert float(whole.loss) == pytest.approx(0.9)
    assert (float(whole.l0), float(whole.l1)) == (5.0, 7.0)


def test_a_state_is_gathered_once_the_one_before_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first rank has room for one whole state, as `preflight` reckons it."""
    order: list[str] = []

    class Writing:
        def wait(self) -> Iterator[Any]:
            order.append("written")
            yield from ()

        def begin(self, *_: Any, **__: Any) -> Iterator[Any]:
            order.append("begun")
            yield from ()

    weights = {"W_dec": torch.zeros(2, 2)}
    sae = Standard(weights, Relu(), ranks=Heard())
    state = SimpleNamespace(
        sae=sae, step=1, last_fvu=None, snapshot=lambda: ({}, {}), final_loss=lambda: 0.5
    )
    monkeypatch.setattr(Heard, "any", lambda self, said: said)
    monkeypatch.setattr(member, "gathered", lambda *_: order.append("gathered") or {})
    run = Member.__new__(Member)
    run.__dict__ |= {"_state": state, "_plan": SimpleNamespace(d_sae=2), "_saver": Writing()}
    run.__dict__["_label"] = dict
    list(run._save())
    assert order == ["written", "gathered", "begun"]


def test_ranks_begin_a_continued_batchtopk_with_one_threshold() -> None:
    """A file of thresholds that are one but for rounding has another mean in each half."""
    saved = an_sae(Kind.JUMPRELU)
    theta_F = torch.linspace(0.5, 0.504, saved.d_sae)
    found = set()
    for number in (0, 1):
        ranks = Heard()
        ranks.number = number
        own, (d_in, F) = ranks.share(saved.d_sae), saved.W_enc.shape
        weights = {"W_enc": torch.zeros(F, d_in)[own], "b_enc": torch.zeros(F)[own]}
        weights |= {"W_dec": torch.zeros_like(saved.W_dec)[own], "b_dec": torch.zeros(saved.d_out)}
        sae = BatchTopK(weights, TopOfBatch(4, 0.1), ranks=ranks)
        take_over(sae, replace(saved, threshold=theta_F), Normalizer("none", False))
        found.add(float(sae.activation.running["threshold"]))
    assert len(found) == 1
