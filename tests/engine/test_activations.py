"""What reaches the SAE, and in which order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from workers.engine.activations import Activations, Reader, StopRequested, group_shape
from workers.engine.forward import Forward
from workers.engine.language_model import LanguageModel, Site
from workers.engine.order import Groups, Order, Part, Position, Side, Split
from workers.engine.stream import Stream
from workers.engine.tokenize import tokenize
from workers.engine.tokens import TokenizeError, Tokens

CPU = torch.device("cpu")
BATCH, GROUP = 100, 5


@pytest.fixture(scope="module")
def model(model_folder: Path) -> LanguageModel:
    sites = (Site(1, "resid_post"), Site(2, "resid_post"))
    return LanguageModel.load(model_folder, sites, CPU, torch.float32)


@pytest.fixture
def reader(model: LanguageModel, tokens: Tokens) -> Reader:
    groups = Groups.of(tokens, GROUP)
    return Reader(tokens, groups, Forward(lambda: model, tokens, groups, CPU, torch.float32), CPU)


def stream(reader: Reader, tokens: Tokens, seed: int = 0) -> Stream:
    order = Order(Split.of(tokens, 1000, GROUP).training, chunk_groups=2, seed=seed)
    return Stream(reader, order, BATCH, lambda: False)


def side(n_contexts: int, size: int) -> Side:
    return Side(Groups(np.arange(n_contexts), size), 0, n_contexts)


def test_bos_and_padding_never_reach_the_sae(
    reader: Reader, model_folder: Path, tokens: Tokens
) -> None:
    last = tokens.manifest.n_contexts - 1
    (place,) = np.flatnonzero(reader.groups.contexts == last)
    group = int(place) // GROUP
    contexts = reader.groups.whole(group)
    read = reader.read([reader.groups.part(group)])
    ids = torch.from_numpy(tokens.ids[contexts].astype(np.int64))
    alone = LanguageModel.load(model_folder, (Site(1, "resid_post"),), CPU, torch.float32)
    (everything,) = alone.capture(ids)
    length = tokens.manifest.last_length
    assert 1 < length < tokens.manifest.context_length
    lengths = [
        length if context == last else tokens.manifest.context_length for context in contexts
    ]
    rows = [everything[row, 1:length] for row, length in enumerate(lengths)]
    assert torch.equal(read.x, torch.cat(rows))
    assert read.contexts.tolist() == np.repeat(contexts, [n - 1 for n in lengths]).tolist()


def test_input_and_target_stand_at_the_same_tokens(
    reader: Reader, model: LanguageModel, tokens: Tokens
) -> None:
    read = reader.read([Part(3, 1, 2)])
    ids = torch.from_numpy(tokens.ids[reader.groups.whole(3)].astype(np.int64))
    x, y = model.capture(ids)
    assert torch.equal(read.x, x[1, 1:])
    assert torch.equal(read.y, y[1, 1:])
    assert not torch.equal(read.x, read.y)


def test_what_is_read_of_a_context_depends_on_its_group_alone(reader: Reader) -> None:
    """Not on what is read beside it, nor on which side of the split wants it."""
    whole = reader.read([reader.groups.part(number) for number in (7, 2, 4)])
    tail = reader.read([Part(2, 3, 5), Part(9, 0, 2)])
    for context in reader.groups.read(Part(2, 3, 5)):
        rows = [torch.from_numpy(read.contexts == context) for read in (whole, tail)]
        assert torch.equal(whole.x[rows[0]], tail.x[rows[1]])
        assert torch.equal(whole.y[rows[0]], tail.y[rows[1]])


def test_activations_are_held_in_the_format_asked_for(
    model: LanguageModel, tokens: Tokens, reader: Reader
) -> None:
    forward = Forward(lambda: model, tokens, reader.groups, CPU, torch.bfloat16)
    rounded = Reader(tokens, reader.groups, forward, CPU).read([Part(1, 0, 4)])
    exact = reader.read([Part(1, 0, 4)])
    assert rounded.x.dtype == torch.bfloat16
    assert torch.equal(rounded.x, exact.x.bfloat16())


def test_a_group_is_a_forward_pass_and_a_chunk_takes_several(tokens: Tokens) -> None:
    assert group_shape(tokens, 63 * 200, CPU) == (64, 3)
    assert group_shape(tokens, 63 * 10, CPU) == (10, 1)
    assert group_shape(tokens, 1, CPU) == (1, 1)
    assert group_shape(tokens, 63 * 2000, torch.device("cuda")) == (512, 3)


def test_order_is_a_pure_function_of_seed_and_epoch() -> None:
    first, second, other = (Order(side(40, 2), 3, seed) for seed in (5, 5, 6))
    second.parts(11)  # what was asked before does not matter
    assert first.parts(2) == second.parts(2)
    assert first.shuffle(2, 50).tolist() == second.shuffle(2, 50).tolist()
    assert first.parts(2) != other.parts(2)
    assert first.shuffle(2, 50).tolist() != other.shuffle(2, 50).tolist()


def test_every_epoch_has_every_context_once_in_another_order() -> None:
    contexts = side(41, 3)
    order = Order(contexts, 4, seed=0)
    per_epoch = order.chunks_per_epoch
    epochs = [
        [
            int(context)
            for chunk in range(per_epoch)
            for part in order.parts(epoch * per_epoch + chunk)
            for context in contexts.groups.read(part)
        ]
        for epoch in range(2)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(41))
    assert epochs[0] != epochs[1]


def test_groups_are_the_same_for_every_seed(tokens: Tokens) -> None:
    one, two = (Order(Split.of(tokens, 1000, GROUP).training, 1, seed) for seed in (0, 1))
    parts = [[order.parts(c)[0] for c in range(order.chunks_per_epoch)] for order in (one, two)]
    assert parts[0] != parts[1]
    assert set(parts[0]) == set(parts[1])


def test_the_groups_ahead_are_those_a_stream_then_reads(reader: Reader, tokens: Tokens) -> None:
    running = stream(reader, tokens)
    running.position = Position(3, 100)
    ahead = running.groups_ahead(12 * BATCH)
    read: set[int] = set()
    whole = reader.read

    def watched(parts, stop=bool):  # type: ignore[no-untyped-def]
        read.update(part.group for part in parts)
        return whole(parts, stop)

    reader.read = watched  # type: ignore[method-assign]
    for _ in range(12):
        running.next()
    assert ahead == read


def test_a_stream_resumed_at_a_position_sees_the_same_batches(
    reader: Reader, tokens: Tokens
) -> None:
    running = stream(reader, tokens)
    for _ in range(4):
        running.next()
    position = running.position
    assert position.offset > 0
    resumed = stream(reader, tokens)
    resumed.position = Position(position.chunk, position.offset)
    for _ in range(8):  # through the end of more than one chunk
        one, two = running.next(), resumed.next()
        assert torch.equal(one.x, two.x)
        assert torch.equal(one.y, two.y)
        assert one.contexts.tolist() == two.contexts.tolist()


def test_batches_are_full_and_mix_contexts(reader: Reader, tokens: Tokens) -> None:
    batches = [stream(reader, tokens).next() for _ in range(3)]
    assert all(len(batch) == BATCH for batch in batches)
    assert all(len(np.unique(batch.contexts)) == 2 * GROUP for batch in batches)


def test_after_the_last_token_comes_the_next_epoch(reader: Reader, tokens: Tokens) -> None:
    training = Side(reader.groups, 2, 3 * GROUP + 1)
    total = int(tokens.usable(training.contexts).sum())
    short = Stream(reader, Order(training, 2, seed=0), total, lambda: False)
    first, second = short.next(), short.next()
    assert sorted(first.contexts) == sorted(second.contexts)
    assert not torch.equal(first.x, second.x)
    torch.testing.assert_close(*(torch.sort(batch.x.sum(1)).values for batch in (first, second)))


def test_a_stop_between_forward_passes_leaves_the_position(reader: Reader, tokens: Tokens) -> None:
    asked: list[bool] = []
    order = Order(Split.of(tokens, 1000, GROUP).training, chunk_groups=1, seed=0)
    stopping = Stream(reader, order, BATCH, lambda: bool(asked))
    stopping.next()
    before = stopping.position
    asked.append(True)
    with pytest.raises(StopRequested):
        stopping.next()
    assert stopping.position == before


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_held_out_contexts_are_never_trained_on_and_the_same_for_all(
    tokens: Tokens, size: int
) -> None:
    split = Split.of(tokens, 1000, size)
    read = [
        [int(c) for part in side.parts() for c in split.groups.read(part)]
        for side in (split.held_out, split.training)
    ]
    assert read[0] == Split.of(tokens, 1000, 1).held_out.contexts.tolist()
    assert not set(read[0]) & set(read[1])
    assert sorted(read[0] + read[1]) == list(range(tokens.manifest.n_contexts))
    held = int(tokens.usable(split.held_out.contexts).sum())
    assert held >= 1000
    assert split.n_usable + held == tokens.manifest.n_usable


def test_at_most_a_tenth_is_held_out(tokens: Tokens) -> None:
    split = Split.of(tokens, 10**9, GROUP)
    assert len(split.held_out.contexts) == tokens.manifest.n_contexts // 10


def test_a_text_of_too_few_contexts_is_refused(model_folder: Path, tmp_path: Path) -> None:
    tokenize(["w0 " * 60], model_folder, tmp_path / "t", 8, "auto", lambda done: None)
    with pytest.raises(TokenizeError, match="only 9 contexts of 8 tokens"):
        Split.of(Tokens.open(tmp_path / "t"), 1000, GROUP)


def test_rows_of_one_layer_are_converted_once() -> None:
    x = torch.randn(6, 3).bfloat16()
    rows = Activations(x, x, np.arange(6)).rows(np.array([4, 1]))
    assert rows.y is rows.x
    assert rows.x.dtype == torch.float32
    assert rows.contexts.tolist() == [4, 1]
