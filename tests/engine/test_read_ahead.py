"""Reading the next chunk beside the steps changes when it is read and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from workers.engine.activations import Activations, Reader, StopRequested
from workers.engine.forward import Forward
from workers.engine.language_model import LanguageModel, Site
from workers.engine.order import Groups, Order, Part, Position, Split
from workers.engine.stream import Stream
from workers.engine.tokens import Tokens

BATCH, GROUP, PATIENCE = 100, 5, 60
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


class Watched(Reader):
    """Tells which chunks were read in which thread; waits at a gate before each."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.threads: list[threading.Thread] = []
        self.gate: threading.Event | None = None
        self.error: Exception | None = None

    def read(self, parts: Sequence[Part], stop: Callable[[], bool] = bool) -> Activations:
        self.threads.append(threading.current_thread())
        if self.gate and threading.current_thread() is not threading.main_thread():
            assert self.gate.wait(PATIENCE)
        if self.error:
            raise self.error
        return super().read(parts, stop)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def reader(model_folder: Path, tokens: Tokens, device: torch.device) -> Watched:
    sites = (Site(1, "resid_post"), Site(2, "resid_post"))
    model = LanguageModel.load(model_folder, sites, device, torch.float32)
    groups = Groups.of(tokens, GROUP)
    forward = Forward(lambda: model, tokens, groups, device, torch.bfloat16)
    return Watched(tokens, groups, forward, device)


@pytest.fixture
def make_stream(reader: Watched, tokens: Tokens) -> Callable[..., Stream]:
    def make(stop: Callable[[], bool] = bool) -> Stream:
        order = Order(Split.of(tokens, 1000, GROUP).training, chunk_groups=2, seed=0)
        return Stream(reader, order, BATCH, stop)

    return make


def same(one: Activations, two: Activations) -> bool:
    equal = torch.equal(one.x, two.x) and torch.equal(one.y, two.y)
    return equal and one.contexts.tolist() == two.contexts.tolist()


def test_batches_are_those_read_in_turn(
    make_stream: Callable[..., Stream], reader: Watched, device: torch.device
) -> None:
    plain, ahead = make_stream(), make_stream()
    plain.position = ahead.position = Position(2, 50)
    expected = [plain.next() for _ in range(30)]
    reader.threads.clear()
    ahead.first_chunk()  # read here, before anything is read ahead
    with ahead.read_ahead(30 * BATCH, device):
        found = [ahead.next() for _ in range(30)]
    assert all(same(one, two) for one, two in zip(expected, found, strict=True))
    assert reader.threads[0] is threading.main_thread()
    assert len(reader.threads) > 3
    assert threading.main_thread() not in reader.threads[1:]
    assert ahead.position == plain.position


def test_steps_go_on_while_the_next_chunk_is_read(
    make_stream: Callable[..., Stream], reader: Watched, device: torch.device
) -> None:
    stream = make_stream()
    size = len(stream.first_chunk())
    reader.gate = threading.Event()  # the next chunk cannot be read before the steps have gone on
    with stream.read_ahead(10 * size, device):
        for _ in range(size // BATCH):
            stream.next()
        assert len(reader.threads) == 2
        reader.gate.set()
        stream.next()
    assert stream.seconds > 0


def test_nothing_is_read_beyond_what_is_wanted(
    make_stream: Callable[..., Stream], reader: Watched, device: torch.device
) -> None:
    stream = make_stream()
    size = len(stream.first_chunk())
    steps = size // BATCH + 2  # the last of them lie in the second chunk
    with stream.read_ahead(steps * BATCH, device):
        for _ in range(steps):
            stream.next()
    assert len(reader.threads) == 2


def test_a_stop_reaches_the_chunk_that_is_read(
    make_stream: Callable[..., Stream], reader: Watched, device: torch.device
) -> None:
    asked = threading.Event()
    stream = make_stream(asked.is_set)
    size = len(stream.first_chunk())
    reader.gate = threading.Event()
    with stream.read_ahead(10 * size, device):
        for _ in range(size // BATCH):
            stream.next()
        position = stream.position
        asked.set()
        reader.gate.set()
        with pytest.raises(StopRequested):
            stream.next()
    assert stream.position == position


def test_leaving_ends_the_reading(
    make_stream: Callable[..., Stream], reader: Watched, device: torch.device
) -> None:
    stream = make_stream()
    stream.first_chunk()
    with stream.read_ahead(10**6, device):
        stream.next()
    assert not any(thread.is_alive() for thread in reader.threads[1:])
    assert same(stream.next(), stream.next()) is False  # and goes on without


def test_what_reading_raises_is_raised_where_the_chunk_is_asked_for(
    make_stream: Callable[..., Stream], reader: Watched, device: torch.device
) -> None:
    stream = make_stream()
    size = len(stream.first_chunk())
    reader.error = OSError("the disk is gone")
    with stream.read_ahead(10 * size, device):
        for _ in range(size // BATCH):
            stream.next()
        with pytest.raises(OSError, match="the disk is gone"):
            stream.next()
    reader.error = None
    assert len(np.unique(stream.next().contexts)) > 1
