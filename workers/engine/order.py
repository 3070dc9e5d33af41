"""Which tokens are read when: a pure function of the seed and two integers.

Contexts are dealt once into groups, the same for every seed and run; a group goes through the
language model as one. An epoch permutes the groups and takes several of them as a chunk; the tokens
of a chunk are shuffled among themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .tokens import TokenizeError, Tokens

Indices = npt.NDArray[np.int64]
# Streams of randomness that must not meet: one for each purpose.
_HELD_OUT, _GROUPS, _TOKENS = 1, 2, 3


@dataclass(frozen=True)
class Position:
    """All that a stream needs to go on: the chunk, counted over all epochs, and tokens taken."""

    chunk: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Part:
    """Contexts of one group, from `start` up to `stop` within it."""

    group: int
    start: int
    stop: int


@dataclass(frozen=True)
class Groups:
    """All contexts in a random order that is the same for every run, `size` of them to a group.

    Which contexts share a forward pass may change the last bits of its products, so what is read
    must not depend on who reads it: on the seed, on the epoch, or on what a cache holds.
    """

    contexts: Indices
    size: int

    @classmethod
    def of(cls, tokens: Tokens, size: int) -> Groups:
        return cls(_random(_HELD_OUT).permutation(tokens.manifest.n_contexts), size)

    def __len__(self) -> int:
        return -(-len(self.contexts) // self.size)

    def whole(self, number: int) -> Indices:
        """The contexts of a group; the last one may have fewer than the others."""
        return self.contexts[number * self.size : (number + 1) * self.size]

    def part(self, number: int) -> Part:
        """All of a group."""
        return Part(number, 0, len(self.whole(number)))

    def read(self, part: Part) -> Indices:
        """The contexts of a part."""
        return self.whole(part.group)[part.start : part.stop]


@dataclass(frozen=True)
class Side:
    """The contexts of a split from `first` up to `end`; it may begin or end inside a group."""

    groups: Groups
    first: int
    end: int

    @property
    def contexts(self) -> Indices:
        return self.groups.contexts[self.first : self.end]

    @cached_property
    def numbers(self) -> Indices:
        """The groups that hold any of these contexts."""
        return np.arange(self.first // self.groups.size, -(-self.end // self.groups.size))

    def part(self, number: int) -> Part:
        """What lies on this side of a group."""
        size, begin = self.groups.size, number * self.groups.size
        return Part(number, max(0, self.first - begin), min(size, self.end - begin))

    def parts(self) -> list[Part]:
        return [self.part(int(number)) for number in self.numbers]


@dataclass(frozen=True)
class Split:
    """Contexts held out and contexts to train on; `n_usable` counts the tokens to train on."""

    held_out: Side
    training: Side
    n_usable: int

    @property
    def groups(self) -> Groups:
        return self.training.groups

    @classmethod
    def of(cls, tokens: Tokens, held_out_tokens: int, group_contexts: int) -> Split:
        """Hold out enough contexts for that many tokens, at most a tenth of all.

        Raises `TokenizeError` where that would leave nothing on either side.
        """
        m = tokens.manifest
        wanted = -(-held_out_tokens // (m.context_length - m.bos))
        count = min(wanted, m.n_contexts // 10)
        if count < 1:
            raise TokenizeError(
                f"The tokenization has only {m.n_contexts} contexts of {m.context_length} tokens; "
                "at least 10 are needed. Use a longer text or a shorter context."
            )
        groups = Groups.of(tokens, group_contexts)
        held_out, training = Side(groups, 0, count), Side(groups, count, m.n_contexts)
        n_usable = m.n_usable - int(tokens.usable(held_out.contexts).sum())
        return cls(held_out, training, n_usable)


class Order:
    """The order of groups and of tokens within a chunk, for one seed."""

    def __init__(self, side: Side, chunk_groups: int, seed: int) -> None:
        self.side = side
        self._chunk_groups = chunk_groups
        self._seed = seed
        self._epoch: tuple[int, Indices] | None = None
        self.chunks_per_epoch = -(-len(side.numbers) // chunk_groups)

    def parts(self, chunk: int) -> list[Part]:
        """What a chunk is read from; chunks are counted on over the epochs."""
        epoch, within = divmod(chunk, self.chunks_per_epoch)
        start = within * self._chunk_groups
        numbers = self._permuted(epoch)[start : start + self._chunk_groups]
        return [self.side.part(int(number)) for number in numbers]

    def shuffle(self, chunk: int, n_tokens: int) -> Indices:
        """The order in which the chunk's tokens leave it."""
        return _random(_TOKENS, self._seed, chunk).permutation(n_tokens)

    def _permuted(self, epoch: int) -> Indices:
        if self._epoch is None or self._epoch[0] != epoch:
            permuted = _random(_GROUPS, self._seed, epoch).permutation(self.side.numbers)
            self._epoch = (epoch, permuted)
        return self._epoch[1]


def _random(*key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(key))
