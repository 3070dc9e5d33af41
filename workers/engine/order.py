"""Which tokens are read when: a pure function of the seed and two integers.

Contexts are permuted once per epoch and taken in chunks; the tokens of a chunk are shuffled among
themselves. Held-out contexts are chosen before, the same for every seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .tokens import TokenizeError, Tokens

Indices = npt.NDArray[np.int64]
# Streams of randomness that must not meet: one for each purpose.
_HELD_OUT, _CONTEXTS, _TOKENS = 1, 2, 3


@dataclass(frozen=True)
class Position:
    """All that a stream needs to go on: the chunk, counted over all epochs, and tokens taken."""

    chunk: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Split:
    """Contexts to train on and contexts held out; `n_usable` counts the tokens to train on."""

    training: Indices
    held_out: Indices
    n_usable: int

    @classmethod
    def of(cls, tokens: Tokens, held_out_tokens: int) -> Split:
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
        permuted = _random(_HELD_OUT).permutation(m.n_contexts)
        held_out, training = np.sort(permuted[:count]), np.sort(permuted[count:])
        n_usable = m.n_usable - int(tokens.usable(held_out).sum())
        return cls(training, held_out, n_usable)


class Order:
    """The order of contexts and of tokens within a chunk, for one seed."""

    def __init__(self, contexts: Indices, chunk_contexts: int, seed: int) -> None:
        self._contexts = contexts
        self._chunk_contexts = chunk_contexts
        self._seed = seed
        self._epoch: tuple[int, Indices] | None = None
        self.chunks_per_epoch = -(-len(contexts) // chunk_contexts)

    def contexts(self, chunk: int) -> Indices:
        """The contexts of a chunk; chunks are counted on over the epochs."""
        epoch, within = divmod(chunk, self.chunks_per_epoch)
        start = within * self._chunk_contexts
        return self._permuted(epoch)[start : start + self._chunk_contexts]

    def shuffle(self, chunk: int, n_tokens: int) -> Indices:
        """The order in which the chunk's tokens leave it."""
        return _random(_TOKENS, self._seed, chunk).permutation(n_tokens)

    def _permuted(self, epoch: int) -> Indices:
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, _random(_CONTEXTS, self._seed, epoch).permutation(self._contexts))
        return self._epoch[1]


def _random(*key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(key))
