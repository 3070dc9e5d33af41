"""A language model in several places gives what it gives in one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from tests.engine.conftest import FAMILIES
from workers.engine import language_model
from workers.engine.failure import TrainingError
from workers.engine.language_model import LanguageModel, Site, block_list
from workers.engine.spread import bytes_of, spread
from workers.engine.whole_model import WholeModel

IDS = torch.arange(3, 43).view(2, 20)
CPU = torch.device("cpu")
SITES = (Site(1, "resid_post"), Site(2, "mlp_in"), Site(2, "mlp_out"))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What exceeds the room goes to the disk here, as it does to the host from a GPU."""
    found: list[dict[str, Any]] = []

    def to_disk(model: Any, block: Any, there: dict[Any, int]) -> None:
        found.append(spread(model, block, {"cpu": there["cpu"], "disk": 2**40}, tmp_path))

    monkeypatch.setattr(language_model, "places", lambda device, room: {"cpu": room})
    monkeypatch.setattr(language_model, "spread", to_disk)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_is_the_same(
    families: dict[str, Path], family: str, elsewhere: list[dict[str, Any]]
) -> None:
    whole = LanguageModel.load(families[family], SITES, CPU, torch.float32)
    room = bytes_of(whole.transformer) // 2
    parts = LanguageModel.load(families[family], SITES, CPU, torch.float32, room)
    assert {"cpu", "disk"} <= set(elsewhere[0].values())
    for _ in range(2):  # the pass before ended in the midst of a block
        for one, other in zip(whole.capture(IDS), parts.capture(IDS), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_model_is_the_same(
    families: dict[str, Path], family: str, elsewhere: list[dict[str, Any]]
) -> None:
    whole = WholeModel.load(families[family], CPU, torch.float32)
    parts = WholeModel.load(families[family], CPU, torch.float32, bytes_of(whole.model) // 2)
    assert "disk" in elsewhere[0].values()
    for one, other in zip(_told(whole), _told(parts), strict=True):
        assert torch.equal(one, other)


def _told(model: WholeModel) -> Iterator[torch.Tensor]:
    yield model.logits(IDS)
    logits, seen = model.logits_and(IDS, SITES)
    yield from (logits, *seen)
    yield model.logits_with(IDS, SITES[0], lambda value: 0.5 * value)
    yield model.unembedding().effects(torch.eye(model.width())[:3])


def test_one_that_fits_is_in_one_place(
    families: dict[str, Path], elsewhere: list[dict[str, Any]]
) -> None:
    LanguageModel.load(families["llama"], SITES, CPU, torch.float32, 2**40)
    assert not elsewhere


def test_more_than_there_is_anywhere_is_refused(families: dict[str, Path]) -> None:
    model = AutoModel.from_pretrained(families["llama"])
    with pytest.raises(TrainingError, match="more than the GPUs of this worker"):
        spread(model, type(block_list(model)[0]), {"cpu": bytes_of(model) // 2})


@pytest.mark.gpu
def test_on_a_gpu_what_exceeds_the_room_stays_in_the_host(families: dict[str, Path]) -> None:
    device = torch.device("cuda", 0)
    whole = LanguageModel.load(families["llama"], SITES, device, torch.float32)
    room = bytes_of(whole.transformer) // 2
    parts = LanguageModel.load(families["llama"], SITES, device, torch.float32, room)
    ids = IDS.to(device)
    for one, other in zip(whole.capture(ids), parts.capture(ids), strict=True):
        torch.testing.assert_close(one, other.to(device), rtol=0, atol=0)
