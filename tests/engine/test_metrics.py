"""FVU, L0 and the rest equal their definitions, written naively in double precision."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest
import torch

from workers.engine.activations import Activations
from workers.engine.evaluate import density_histogram
from workers.engine.events import Failed, Progress
from workers.engine.metrics import Window
from workers.engine.normalize import Normalizer

CPU = torch.device("cpu")
G = torch.Generator().manual_seed(0)
SHIFT = 50.0  # a mean far from zero, as real activations have


def add(window: Window, y: torch.Tensor, x: torch.Tensor, y_hat: torch.Tensor) -> None:
    batch = Activations(x, y, np.arange(len(y)))
    normalized = Normalizer("constant_norm", False, 0.5, 0.25)(x, y)
    residual = (y_hat - y) * 0.25
    window.add(batch, normalized, residual, [torch.tensor(2.0)] * 4)


def test_fvu_is_a_ratio_of_sums_over_the_window_in_raw_space() -> None:
    sizes = (5, 50)  # batches so different that a mean of ratios would be another number
    ys = [torch.randn(n, 6, generator=G) * n + SHIFT for n in sizes]
    xs = [y + torch.randn(y.shape, generator=G) for y in ys]
    hats = [y + torch.randn(y.shape, generator=G) for y in ys]
    window = Window(6, has_skip=True, device=CPU)
    for y, x, hat in zip(ys, xs, hats, strict=True):
        add(window, y, x, hat)
    y, x, hat = (torch.cat(parts).double() for parts in (ys, xs, hats))
    variance = (y - y.mean(0)).square().sum()
    delta = y - x
    found = window.read()
    assert found["fvu"] == pytest.approx(float((y - hat).square().sum() / variance), rel=1e-4)
    assert found["fvu_skip"] == pytest.approx(float(delta.square().sum() / variance), rel=1e-4)
    spread = (delta - delta.mean(0)).square().sum()
    assert found["fvu_latents"] == pytest.approx(float((y - hat).square().sum() / spread), rel=1e-4)
    assert found["l0"] == pytest.approx(2.0)


def test_a_learned_skip_is_what_fvu_skip_and_the_latents_part_are_of() -> None:
    y, x, alone = torch.randn(3, 40, 6, generator=G, dtype=torch.float64) + SHIFT
    hat = alone + torch.randn(40, 6, generator=G)
    window = Window(6, has_skip=True, device=CPU)
    batch = Activations(x, y, np.arange(40))
    normalized = Normalizer("constant_norm", False, 0.5, 0.25)(x, y)
    terms = [torch.tensor(2.0)] * 4
    window.add(batch, normalized, (hat - y) * 0.25, terms, skip_BO=alone * 0.25)
    variance, delta = (y - y.mean(0)).square().sum(), y - alone
    found = window.read()
    assert found["fvu_skip"] == pytest.approx(float(delta.square().sum() / variance), rel=1e-4)
    spread = (delta - delta.mean(0)).square().sum()
    assert found["fvu_latents"] == pytest.approx(float((y - hat).square().sum() / spread), rel=1e-4)


def test_reconstructing_the_mean_has_an_fvu_of_one() -> None:
    y = torch.randn(100, 6, generator=G) + SHIFT
    window = Window(6, has_skip=False, device=CPU)
    add(window, y, y, y.mean(0).expand_as(y))
    assert window.read()["fvu"] == pytest.approx(1.0, rel=1e-4)


def test_a_cleared_window_starts_anew() -> None:
    y = torch.randn(10, 6, generator=G)
    window = Window(6, has_skip=False, device=CPU)
    add(window, y, y, y + 1)
    window.clear()
    add(window, y, y, y)
    assert window.read()["fvu"] == 0.0
    assert window.tokens == 10


def test_numbers_that_json_has_no_word_for_become_null() -> None:
    assert json.loads(Failed(step=3, error="é").to_json()) == {
        "event": "failed",
        "step": 3,
        "error": "é",
    }
    values = {field.name: 1.0 for field in fields(Progress)} | {"loss": float("nan")}
    event = json.loads(Progress(**values).to_json())  # type: ignore[arg-type]
    assert event["loss"] is None
    assert event["fvu"] == 1.0


def test_density_counts_every_latent_once() -> None:
    frequency_F = torch.tensor([0.0, 0.0, 1.0, 0.5, 0.1, 1e-3, 1e-12])
    found = density_histogram(frequency_F)
    counts, start, width = found["counts"], found["start"], found["width"]
    assert (found["never"], sum(counts)) == (2, 5)
    assert start + width * len(counts) == 0
    by_power = {round(start + i * width, 2): n for i, n in enumerate(counts) if n}
    # The last bin holds 1, the first what is rarer than it reaches.
    assert by_power == {-8.0: 1, -3.0: 1, -1.0: 1, -0.5: 1, -0.25: 1}
