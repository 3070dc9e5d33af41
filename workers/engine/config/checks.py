"""Checks across fields, made when a training is asked for, each naming its field."""

from __future__ import annotations

from collections.abc import Iterable

from .hyperparameters import MULTIPLE_DEFAULT, MULTIPLE_MAX, MULTIPLE_MIN, Architecture
from .problem import ConfigError, Problem
from .training import ModelFacts, Plan, TrainingConfig, settled_layers, settled_target

# Where the product requirements end the range, and up to where more was better in
# docs/experiments.
_USUAL_RATE, _SHORT_RUN = 1e-3, 1000
# Tokens of a forward pass on a GPU; a chunk is shared out among several by such passes.
PASS_ON_GPU = 32_768


def check(config: TrainingConfig, model: ModelFacts) -> list[Problem]:
    """Everything that cannot work on this model, each with the field it stands at."""
    return [problem for one in _CHECKS for problem in one(config, model)]


def plan(config: TrainingConfig, model: ModelFacts) -> Plan:
    """Every open value settled. Raises `ConfigError` where `check` finds something."""
    found = check(config, model)
    if found:
        raise ConfigError(found)
    return Plan.of(config, model)


def warnings(config: TrainingConfig, model: ModelFacts, tokens: int | None) -> list[Problem]:
    """What will run but probably not do what was meant; shown before the start, never silent."""
    h, found = config.hyperparameters, []
    if config.architecture is Architecture.SKIP and settled_target(config) == "same_layer":
        found.append(
            Problem(
                "target",
                "A skip SAE of the same layer is perfect with every latent off: the skip alone "
                f"gives the input. Choose {_elsewhere(config)}.",
            )
        )
    if tokens and h.num_steps * h.batch_size > tokens:
        times = h.num_steps * h.batch_size / tokens
        found.append(
            Problem(
                "num_steps",
                f"The run needs {h.num_steps * h.batch_size:,} tokens and the tokenization has "
                f"{tokens:,}: every token is used about {times:.1f} times.",
            )
        )
    if h.learning_rate > _USUAL_RATE and h.num_steps > _SHORT_RUN:
        found.append(
            Problem(
                "learning_rate",
                f"Rates above {_USUAL_RATE:g} trained best in runs of some hundred steps; "
                "longer ones may lose latents or diverge with them.",
            )
        )
    if config.architecture is Architecture.JUMPRELU and h.l0_alpha >= 0.001:
        found.append(
            Problem("l0_alpha", "This is the size of an L1 weight; L0 weights are near 0.0002.")
        )
    if h.gpus > 1 and h.buffer_tokens < h.gpus * PASS_ON_GPU:
        reading = max(1, h.buffer_tokens // PASS_ON_GPU)
        found.append(
            Problem(
                "buffer_tokens",
                f"With {h.buffer_tokens:,} tokens {reading} of the {h.gpus} GPUs read at a time; "
                f"{h.gpus * PASS_ON_GPU:,} keep all of them busy.",
            )
        )
    if h.top_k_sparsity is not None and h.target_l0 is not None:
        found.append(Problem("target_l0", "Top-K sparsity fixes L0; the target is not used."))
    return found


def _check_layers(config: TrainingConfig, model: ModelFacts) -> Iterable[Problem]:
    last = model.n_layers - 1
    if config.layer > last:
        yield Problem("layer", f"The model has layers 0 to {last}; {config.layer} is beyond.")
    elif config.architecture.spans:
        yield from _check_span(config, last)
    elif config.hyperparameters.layers is not None:
        yield Problem(
            "layers",
            f"A {config.architecture.label} SAE reads one layer; leave this empty, or choose "
            "Crosscoder.",
        )
    elif settled_target(config) == "next_layer" and config.layer == last:
        yield Problem(
            "layer",
            f"The target is the layer after the one that is read, and {last} is the last; "
            f"choose at most {last - 1}.",
        )


def _check_span(config: TrainingConfig, last: int) -> Iterable[Problem]:
    layers = settled_layers(config)
    if config.hyperparameters.layers is None and layers[-1] > last:
        yield Problem(
            "layer",
            f"A crosscoder reads the layer behind this one too, and {last} is the last; choose at "
            f"most {last - 1}, or name the layers.",
        )
    elif layers[-1] > last:
        yield Problem("layers", f"The model has layers 0 to {last}; {layers[-1]} is beyond.")
    if layers[0] != config.layer:
        yield Problem(
            "layers",
            f"They begin with {layers[0]}, and the training's layer is {config.layer}: the layer "
            "must be the first of them.",
        )


def _check_target(config: TrainingConfig, model: ModelFacts) -> Iterable[Problem]:
    target, hook = settled_target(config), config.hyperparameters.hook
    if not config.architecture.moves and target != "same_layer":
        other = {"next_layer": "the next layer"}.get(target, "the MLP's output")
        yield Problem(
            "target",
            f"A {config.architecture.label} SAE reconstructs what it reads; "
            f"for {other} choose Transcoder or Skip.",
        )
    elif target == "mlp_out" and hook != "mlp_in":
        yield Problem(
            "target",
            f"The MLP's output is predicted from its input, and {hook} is read; "
            "choose the hook mlp_in, or the target next_layer.",
        )
    if config.architecture is Architecture.TRANSCODER and target == "same_layer":
        yield Problem(
            "target",
            f"A transcoder does not reconstruct what it reads; choose {_elsewhere(config)}, "
            "or Standard for the same layer.",
        )


def _elsewhere(config: TrainingConfig) -> str:
    """Targets, of what it reads, that are not the same."""
    of_mlp = config.hyperparameters.hook == "mlp_in"
    return "the MLP's output or the next layer" if of_mlp else "the next layer"


def _check_widths(config: TrainingConfig, model: ModelFacts) -> Iterable[Problem]:
    h, d = config.hyperparameters, model.d_model
    if h.hidden_dim is not None and h.hidden_dim != d:
        yield Problem("hidden_dim", f"The model's is {d:,}; leave it empty or write {d:,}.")
    # An SAE that is continued is as wide as it is.
    chosen = None if config.start_from else h.latent_dim
    if chosen is not None and not MULTIPLE_MIN * d <= chosen <= MULTIPLE_MAX * d:
        yield Problem(
            "latent_dim",
            f"{chosen:,} is outside {MULTIPLE_MIN * d:,} – {MULTIPLE_MAX * d:,} "
            f"({MULTIPLE_MIN} to {MULTIPLE_MAX} times the hidden dimension {d:,}).",
        )


def _check_sparsity(config: TrainingConfig, model: ModelFacts) -> Iterable[Problem]:
    h = config.hyperparameters
    latents = h.latent_dim or MULTIPLE_DEFAULT * model.d_model
    if h.top_k_sparsity is not None and round(latents * h.top_k_sparsity / 100) < 1:
        yield Problem(
            "top_k_sparsity",
            f"{h.top_k_sparsity:g} % of {latents:,} latents is less than one; "
            f"choose at least {100 / latents:.2g} %.",
        )
    if h.top_k_sparsity is not None and config.architecture is Architecture.GATED:
        yield Problem(
            "top_k_sparsity",
            "A Gated SAE chooses latents by their gates; leave this empty and name a target_l0.",
        )
    if h.target_l0 is not None and h.target_l0 >= latents:
        yield Problem("target_l0", f"It must be below the number of latents, {latents:,}.")


def _check_groups(config: TrainingConfig, model: ModelFacts) -> Iterable[Problem]:
    h = config.hyperparameters
    latents = h.latent_dim or MULTIPLE_DEFAULT * model.d_model
    nested = config.architecture is Architecture.MATRYOSHKA
    if nested and latents >> (h.matryoshka_groups - 1) == 0:
        yield Problem(
            "matryoshka_groups",
            f"{latents:,} latents cannot be halved so often; choose at most "
            f"{latents.bit_length()}.",
        )


def _check_schedule(config: TrainingConfig, model: ModelFacts) -> Iterable[Problem]:
    h = config.hyperparameters
    for name in ("lr_warmup_steps", "resample_steps"):
        value = getattr(h, name)
        if value is not None and value >= h.num_steps:
            yield Problem(name, f"It must be below the {h.num_steps:,} steps of the run.")
    if h.sparsity_warmup_steps is not None and h.sparsity_warmup_steps > h.num_steps:
        yield Problem(
            "sparsity_warmup_steps", f"It may be at most the {h.num_steps:,} steps of the run."
        )
    if h.buffer_tokens < h.batch_size:
        yield Problem("buffer_tokens", f"It must hold at least one batch of {h.batch_size:,}.")


_CHECKS = (
    _check_layers,
    _check_target,
    _check_widths,
    _check_sparsity,
    _check_groups,
    _check_schedule,
)
