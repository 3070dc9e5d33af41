"""What reaches the SAE, and in which order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from workers.engine.activations import Activations, Reader, StopRequested, Stream
from workers.engine.language_model import LanguageModel, Site
from workers.engine.order import Order, Position, Split
from workers.engine.tokens import TokenizeError, Tokens, tokenize

CPU = torch.device("cpu")
BATCH = 100


@pytest.fixture
def reader(model_folder: Path, tokens: Tokens) -> Reader:
    sites = (Site(1, "resid_post"), Site(2, "resid_post"))
    return Reader(LanguageModel.load(model_folder, sites, CPU, torch.float32), tokens, CPU)


def stream(reader: Reader, tokens: Tokens, seed: int = 0) -> Stream:
    order = Order(Split.of(tokens, 1000).training, chunk_contexts=5, seed=seed)
    return Stream(reader, order, BATCH, lambda: False)


def test_bos_and_padding_never_reach_the_sae(
    reader: Reader, model_folder: Path, tokens: Tokens
) -> None:
    last = tokens.manifest.n_contexts - 1
    chosen = np.array([3, last])
    read = reader.read(chosen)
    ids = torch.from_numpy(tokens.ids[chosen].astype(np.int64))
    whole = LanguageModel.load(model_folder, (Site(1, "resid_post"),), CPU, torch.float32)
    (everything,) = whole.capture(ids)
    length = tokens.manifest.last_length
    assert 1 < length < tokens.manifest.context_length
    expected = torch.cat([everything[0, 1:], everything[1, 1:length]])
    torch.testing.assert_close(read.x, expected)
    assert read.contexts.tolist() == [3] * (len(ids[0]) - 1) + [last] * (length - 1)


def test_input_and_target_stand_at_the_same_tokens(reader: Reader, tokens: Tokens) -> None:
    contexts = np.array([7, 8])
    read = reader.read(contexts)
    alone = [reader.read(np.array([c])) for c in contexts]
    torch.testing.assert_close(read.y, torch.cat([part.y for part in alone]))
    assert not torch.equal(read.x, read.y)


def test_order_is_a_pure_function_of_seed_and_epoch() -> None:
    contexts = np.arange(40)
    first, second, other = (Order(contexts, 7, seed) for seed in (5, 5, 6))
    second.contexts(11)  # what was asked before does not matter
    assert first.contexts(2).tolist() == second.contexts(2).tolist()
    assert first.shuffle(2, 50).tolist() == second.shuffle(2, 50).tolist()
    assert first.contexts(2).tolist() != other.contexts(2).tolist()
    assert first.shuffle(2, 50).tolist() != other.shuffle(2, 50).tolist()


def test_every_epoch_has_every_context_once_in_another_order() -> None:
    order = Order(np.arange(40), 7, seed=0)
    per_epoch = order.chunks_per_epoch
    epochs = [
        np.concatenate([order.contexts(e * per_epoch + c) for c in range(per_epoch)]).tolist()
        for e in range(2)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
    assert epochs[0] != epochs[1]


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
    assert all(len(np.unique(batch.contexts)) == 5 for batch in batches)


def test_after_the_last_token_comes_the_next_epoch(reader: Reader, tokens: Tokens) -> None:
    training = Split.of(tokens, 1000).training[:4]
    total = int(tokens.usable(training).sum())
    short = Stream(reader, Order(training, 2, seed=0), total, lambda: False)
    first, second = short.next(), short.next()
    assert sorted(first.contexts) == sorted(second.contexts)
    assert not torch.equal(first.x, second.x)
    torch.testing.assert_close(*(torch.sort(batch.x.sum(1)).values for batch in (first, second)))


def test_a_stop_between_forward_passes_leaves_the_position(reader: Reader, tokens: Tokens) -> None:
    asked: list[bool] = []
    order = Order(Split.of(tokens, 1000).training, chunk_contexts=3, seed=0)
    stopping = Stream(reader, order, BATCH, lambda: bool(asked))
    stopping.next()
    before = stopping.position
    asked.append(True)
    with pytest.raises(StopRequested):
        stopping.next()
    assert stopping.position == before


def test_held_out_contexts_are_never_trained_on_and_the_same_for_all(tokens: Tokens) -> None:
    split, again = Split.of(tokens, 1000), Split.of(tokens, 1000)
    assert split.held_out.tolist() == again.held_out.tolist()
    assert not set(split.held_out) & set(split.training)
    assert len(split.held_out) + len(split.training) == tokens.manifest.n_contexts
    held = int(tokens.usable(split.held_out).sum())
    assert held >= 1000
    assert split.n_usable + held == tokens.manifest.n_usable


def test_at_most_a_tenth_is_held_out(tokens: Tokens) -> None:
    split = Split.of(tokens, 10**9)
    assert len(split.held_out) == tokens.manifest.n_contexts // 10


def test_a_text_of_too_few_contexts_is_refused(model_folder: Path, tmp_path: Path) -> None:
    tokenize(["w0 " * 60], model_folder, tmp_path / "t", 8, "auto", lambda done: None)
    with pytest.raises(TokenizeError, match="only 9 contexts of 8 tokens"):
        Split.of(Tokens.open(tmp_path / "t"), 1000)


def test_rows_of_one_layer_are_converted_once() -> None:
    x = torch.randn(6, 3).bfloat16()
    rows = Activations(x, x, np.arange(6)).rows(np.array([4, 1]))
    assert rows.y is rows.x
    assert rows.x.dtype == torch.float32
    assert rows.contexts.tolist() == [4, 1]
