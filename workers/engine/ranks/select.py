"""The largest of all ranks' values, found exactly by exchanging each rank's own largest.

Shapes: B rows, K values kept of a row.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .group import Ranks


def among_largest(own_BN: Tensor, k: int, width: int, ranks: Ranks) -> Tensor:
    """Which of this rank's values [B, N] are among the `k` largest of a row over all ranks.

    N may differ from rank to rank; it is at most `width`, and so many are exchanged. Exactly `k`
    are kept where there are so many: of values equal to the smallest one those of lower ranks, and
    within a rank those that stand first.
    """
    padded = pad(own_BN, (0, width - own_BN.shape[1]), value=-torch.inf)
    all_RBW = ranks.stacked(padded)
    all_BM = all_RBW.transpose(0, 1).flatten(1)
    cut_B1 = all_BM.topk(min(k, all_BM.shape[1]), dim=1).values[:, -1:]
    left_B = k - (all_BM > cut_B1).sum(1)
    equal_BR = (all_RBW == cut_B1).sum(2).T
    taken_B = equal_BR[:, : ranks.number].sum(1)
    equal_BN = own_BN == cut_B1
    first_BN = equal_BN.cumsum(1) <= (left_B - taken_B)[:, None]
    return (own_BN > cut_B1) | (equal_BN & first_BN)


def nth_largest(own_N: Tensor, n: int, ranks: Ranks) -> Tensor:
    """The n-th largest value of all ranks, which hold at least `n` together."""
    largest = own_N.topk(min(n, len(own_N))).values
    padded = pad(largest, (0, n - len(largest)), value=-torch.inf)
    return ranks.stacked(padded).flatten().topk(n).values[-1]
