"""The largest over all ranks, also where values are equal, beside a selection over the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workers.engine.ranks import Ranks
from workers.engine.ranks.select import among_largest, nth_largest

B, K = 40, 5


class Pretended(Ranks):
    """A rank that knows what all of them have to say."""

    def __init__(self, number: int, everyones: Tensor) -> None:
        self.number, self.count, self._everyones = number, len(everyones), everyones

    def stacked(self, own: Tensor) -> Tensor:
        assert torch.equal(own, self._everyones[self.number])
        return self._everyones


@pytest.mark.parametrize("levels", [3, 10**6])
def test_as_many_are_kept_as_over_the_whole(levels: int) -> None:
    """With three different values nearly every cut goes through equal ones."""
    values_RBK = torch.randint(levels, (4, B, K), generator=torch.manual_seed(0)).float()

    kept_RBK = _kept(values_RBK)

    whole_BM = values_RBK.transpose(0, 1).flatten(1)
    for row, values_M in enumerate(whole_BM):
        kept = values_RBK[:, row][kept_RBK[:, row]]
        assert torch.equal(kept.sort().values, values_M.topk(K).values.sort().values)


def test_of_equal_ones_those_of_lower_ranks_are_kept() -> None:
    kept_RBK = _kept(torch.ones(4, B, 3))

    assert kept_RBK[0].all()
    assert kept_RBK[1, :, :2].all()
    assert kept_RBK.sum() == B * K


def test_ranks_with_fewer_values_than_are_wanted() -> None:
    """One has none at all, and there are fewer than K together."""
    values_RBK = torch.full((2, B, K), -torch.inf)
    values_RBK[1, :, :2] = torch.tensor([-1.0, 2.0])

    none = among_largest(torch.empty(B, 0), K, K, Pretended(0, values_RBK))
    both = among_largest(values_RBK[1, :, :2], K, K, Pretended(1, values_RBK))

    assert none.shape == (B, 0)
    assert both.all()


def test_the_nth_largest_of_all() -> None:
    values_RN = torch.randn(3, 50, generator=torch.manual_seed(0))
    largest_RN = values_RN.sort(descending=True).values[:, :7]

    found = nth_largest(values_RN[1], 7, Pretended(1, largest_RN))

    assert found == values_RN.flatten().sort(descending=True).values[6]


def test_shares_are_whole_and_even() -> None:
    shares = Pretended(0, torch.empty(4, 0)).slices(130)

    assert [len(range(130)[own]) for own in shares] == [32, 33, 32, 33]
    assert [n for own in shares for n in range(130)[own]] == list(range(130))


def _kept(values_RBK: Tensor) -> Tensor:
    ranks = [Pretended(number, values_RBK) for number in range(len(values_RBK))]
    width = values_RBK.shape[2]
    return torch.stack([among_largest(values_RBK[r.number], K, width, r) for r in ranks])
