"""What a run costs by its shapes: operations, bytes, seconds. No torch, nothing is measured here.

Shapes: B tokens in a batch, D width, F latents, K active latents, T tokens of a context, R ranks.
Operations count a multiplication and an addition as two. Rates are per second, sizes in bytes.
`docs/scaling.md` names the source of every constant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

CONTEXT = 256
# Adam reads weight, gradient and two moments in float32 and writes all but the gradient.
ADAM_BYTES = 28
# And a step writes the gradient (4), and keeps W_dec's rows, half of all weights, at unit length.
WEIGHT_BYTES = ADAM_BYTES + 4 + 6
# Decoding, sampling and the two weight gradients each read a row of the width for a pair.
PAIR_PASSES = 4
# Pre-activations are written, counted or selected from, and listed.
PRE_PASSES, DENSE_PASSES = 3, 8
STATE_BYTES = 12
FORWARD_TOKENS = {"cpu": 4096, "gpu": 32_768}
BUFFER_TOKENS = 65_536
KEPT_CHECKPOINTS = 4
# As workers/engine/preflight.py: arrays of a forward pass, bytes a pair, arrays [B, D] of a step.
_HIDDEN, _INNER, _PAIR, _ROWS = 6, 6, 64, 7
SPLICE_TOKENS = {"cpu": 8128, "gpu": 131_072}


@dataclass(frozen=True)
class Model:
    """A transformer with gated MLPs and grouped queries, read after `blocks` of its `layers`."""

    name: str
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    tied: bool = False
    blocks: int = 0

    def up_to(self, blocks: int) -> Model:
        return replace(self, blocks=blocks)

    @property
    def of_block(self) -> int:
        """Parameters of a block that multiply; norms are left out."""
        attention = self.width * self.head_width * 2 * (self.heads + self.kv_heads)
        return attention + 3 * self.width * self.inner

    @property
    def embedding(self) -> int:
        return self.width * self.vocabulary

    @property
    def parameters(self) -> int:
        return self.layers * self.of_block + self.embedding * (1 if self.tied else 2)

    @property
    def kept(self) -> int:
        """Parameters up to the layer that is read, which is all that a run loads."""
        return self.blocks * self.of_block + self.embedding

    def flops(self, blocks: int, context: int = CONTEXT) -> float:
        """Of a token through so many blocks; a token attends to half of its context on average."""
        scores_and_sums = 4 * self.heads * self.head_width * context / 2
        return blocks * (2 * self.of_block + scores_and_sums)

    @property
    def reading(self) -> float:
        """Operations that give the activation of a token."""
        return self.flops(self.blocks)

    @property
    def whole(self) -> float:
        """Operations from a token to its logits."""
        return self.flops(self.layers) + 2 * self.embedding

    @property
    def activation_bytes(self) -> int:
        """Of a token in bfloat16, in the buffer and in the cache."""
        return 2 * self.width

    @property
    def token_bytes(self) -> int:
        return 2 if self.vocabulary <= 2**16 else 4


@dataclass(frozen=True)
class Sae:
    """An SAE of the layer itself."""

    width: int
    latents: int
    active: int = 64
    batch: int = 4096

    @property
    def parameters(self) -> int:
        return 2 * self.width * self.latents + self.latents + self.width

    @property
    def dense(self) -> float:
        """Operations of a token in a step by dense products."""
        return 12 * self.width * self.latents

    @property
    def sparse(self) -> float:
        """Of the same gradient from the active pairs alone."""
        return 2 * self.width * self.latents + 8 * self.active * self.width

    @property
    def checkpoint_bytes(self) -> int:
        """Weights and two moments in float32."""
        return STATE_BYTES * self.parameters


@dataclass(frozen=True)
class Machine:
    """`products` are what a step's products reach, `forward` a language model's pass.

    `memory` is the rate of passes over large arrays, `gather` that of rows of single latents, which
    caches hold in part; `link` what one rank receives of others; `launch` seconds that the host
    needs for a step, whatever its size.
    """

    name: str
    kind: str
    products: float
    forward: float
    memory: float
    gather: float
    capacity: float
    value_bytes: int = 2
    link: float = 0.0
    launch: float = 0.0


def step_seconds(sae: Sae, machine: Machine, ranks: int = 1, dense: bool = False) -> float:
    """Of one optimizer step, its latents split over the ranks; without what they exchange."""
    pairs = sae.batch * sae.latents / ranks
    weights = sae.parameters / ranks * WEIGHT_BYTES / machine.memory
    if dense:
        products = sae.batch * sae.dense / ranks / machine.products
        between = DENSE_PASSES * pairs * machine.value_bytes / machine.memory
        return max(machine.launch, products + weights + between)
    encoder = 2 * pairs * sae.width / machine.products
    selecting = PRE_PASSES * pairs * machine.value_bytes / machine.memory
    rows = sae.batch * sae.active * sae.width * PAIR_PASSES * machine.value_bytes
    return max(machine.launch, encoder + weights + selecting + rows / ranks / machine.gather)


@dataclass(frozen=True)
class Exchange:
    """Bytes that one rank receives of the others for one step."""

    reconstruction: float
    candidates: float
    activations: float

    @classmethod
    def of(cls, sae: Sae, ranks: int) -> Exchange:
        """A sum over a ring, each rank's K candidates of a token, the activations others read."""
        others = (ranks - 1) / ranks
        return cls(
            reconstruction=2 * others * sae.batch * sae.width * 4,
            candidates=(ranks - 1) * sae.batch * sae.active * 4,
            activations=others * sae.batch * sae.width * 2,
        )

    @property
    def bytes(self) -> float:
        return self.reconstruction + self.candidates + self.activations


def reading_seconds(
    model: Model, tokens: float, machine: Machine, readers: int = 1, context: int = CONTEXT
) -> float:
    return tokens * model.flops(model.blocks, context) / machine.forward / readers


def token_seconds(model: Model, sae: Sae, machine: Machine, ranks: int = 1) -> float:
    """Of a token read and trained on by `ranks` devices that share one run.

    A GPU that reads beside its steps shares itself between both, so that they add up.
    """
    step = step_seconds(sae, machine, ranks)
    if ranks > 1:
        step += Exchange.of(sae, ranks).bytes / machine.link
    return reading_seconds(model, 1, machine, ranks) + step / sae.batch


def buffer_tokens(ranks: int) -> int:
    """A chunk with a forward pass for each rank, and no less than the default."""
    return max(BUFFER_TOKENS, ranks * FORWARD_TOKENS["gpu"])


def device_bytes(model: Model, sae: Sae, ranks: int = 1, reads_model: bool = True) -> float:
    """At the peak on one GPU, as workers/engine/preflight.py reckons it, with one chunk held."""
    own, latents = sae.parameters / ranks, sae.latents / ranks
    language_model = 2 * model.kept if reads_model else 0
    stays = language_model + STATE_BYTES * own + buffer_tokens(ranks) * model.activation_bytes
    a_pass = FORWARD_TOKENS["gpu"] * (_HIDDEN * model.width + _INNER * model.inner) * 2
    pre = sae.batch * latents * 2
    work = sae.batch * (sae.active * _PAIR + _ROWS * sae.width * 4)
    step = 4 * own + max(work, latents * sae.width * 4)
    return stays + pre + max(a_pass if reads_model else 0, step)


def host_bytes(model: Model, sae: Sae, libraries: float) -> float:
    """At the peak of a run on a processor in float32; `libraries` is the process before it."""
    stays = 4 * model.kept + 2 * sae.checkpoint_bytes + BUFFER_TOKENS * model.activation_bytes
    a_pass = FORWARD_TOKENS["cpu"] * (_HIDDEN * model.width + _INNER * model.inner) * 4
    pre = sae.batch * sae.latents * 4
    work = sae.batch * (sae.active * _PAIR + _ROWS * sae.width * 4)
    step = 4 * sae.parameters + max(work, sae.latents * sae.width * 4)
    return libraries + stays + pre + max(a_pass, step)


def evaluation_flops(model: Model, sae: Sae, splice_tokens: int, held_out: int = 32_768) -> float:
    """The model to its end three times, and the held-out tokens read and encoded and decoded."""
    splice = 3 * splice_tokens * model.whole
    return splice + held_out * (model.reading + 4 * sae.width * sae.latents)


def break_even_bandwidth(model: Model, machine: Machine) -> float:
    """Bytes per second from the cache at which reading it is as fast as one GPU's passes."""
    return model.activation_bytes * machine.forward / model.reading


def gpu_hours_in(model: Model, machine: Machine, size: float) -> float:
    """Hours of one device that so many bytes of activations stand for."""
    return size / break_even_bandwidth(model, machine) / 3600
