"""The measures that docs/experiments compares by, and that every contender in it still trains."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import ROOT


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "experiments"))
    import measure

    yield measure
    for name in ("measure", "ours", "contenders"):
        sys.modules.pop(name, None)


def point(l0: float, fvu: float) -> dict[str, Any]:
    return {"l0": l0, "fvu": fvu}


def test_between_two_points_log_fvu_is_linear_in_log_l0(measure: ModuleType) -> None:
    points = [point(16, 0.2), point(64, 0.05), point(256, 0.01)]
    assert measure.at_l0(points, 32) == pytest.approx(0.1)
    assert measure.at_l0(points, 64) == pytest.approx(0.05)


def test_nothing_is_extrapolated(measure: ModuleType) -> None:
    assert math.isnan(measure.at_l0([point(16, 0.2), point(32, 0.1)], 64))


def test_the_mean_leaves_all_of_the_variance(measure: ModuleType) -> None:
    x_MD = torch.randn(100, 8) + 5
    none_BF = torch.zeros(100, 4, dtype=torch.bool)
    found = measure.evaluated(lambda x_BD: (x_MD.mean(0).expand_as(x_BD), none_BF), x_MD)
    assert found["fvu"] == pytest.approx(1, abs=1e-5)
    assert (found["l0"], found["alive"]) == (0, 0)


def test_a_recorded_question_is_not_asked_again(measure: ModuleType, tmp_path: Path) -> None:
    asked: list[int] = []

    def answer() -> dict[str, Any]:
        asked.append(1)
        return {"fvu": 0.123456}

    for _ in range(2):
        record = measure.Record(tmp_path / "points.json")
        assert record.ask({"kind": "topk"}, answer) == {"kind": "topk", "fvu": 0.1235}
    assert asked == [1]


@pytest.mark.interop
def test_every_contender_takes_steps_and_reconstructs(measure: ModuleType, tmp_path: Path) -> None:
    for package in ("sae_lens", "sparsify", "dictionary_learning"):
        pytest.importorskip(package)
    import contenders
    from ours import Ours

    generator = torch.Generator().manual_seed(0)
    for name, tokens in (("training-000", 4096), ("held_out", 512)):
        rows = torch.randn(2, tokens, 16, generator=generator) + 1
        np.save(tmp_path / f"{name}.npy", rows.numpy())
    data = measure.Data(tmp_path, 4096, 64)
    makes = [*contenders.standard(32).values(), *contenders.jumprelu(32).values()]
    found = [make(data, 1e-3, 1.0) for make in makes]
    found += [make(data, 1e-3, 4) for make in contenders.topk(32).values()]
    found.append(Ours(data, "standard", latent_dim=32, target_l0=4))
    for contender in found:
        point = measure.trained(contender, data)
        assert math.isfinite(point["fvu"])
