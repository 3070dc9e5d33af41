"""Every hyperparameter, declared once: default, range, unit, section and one sentence.

The start form, the API schema, template validation, the command-line flags, the Hyperparameters
dialog and `docs/hyperparameters.md` are all derived from this file. It imports no torch, so the web
application can use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from .fields import FieldSpec, Kind, Section, hyper, show
from .problem import ConfigError, Problem

MULTIPLE_MIN, MULTIPLE_MAX, MULTIPLE_DEFAULT = 2, 32, 8
WITHOUT_RANGES: Mapping[str, bool] = {"ranges": False}


class Architecture(StrEnum):
    """The ways to read a layer; the equations stand in `workers/engine/sae/`."""

    STANDARD = "standard"
    JUMPRELU = "jumprelu"
    SKIP = "skip"
    TRANSCODER = "transcoder"
    BATCHTOPK = "batchtopk"
    MATRYOSHKA = "matryoshka"
    GATED = "gated"
    P_ANNEALED = "p_annealed"
    CROSSCODER = "crosscoder"

    @property
    def label(self) -> str:
        own = {
            "jumprelu": "JumpReLU",
            "batchtopk": "BatchTopK",
            "matryoshka": "Matryoshka BatchTopK",
            "p_annealed": "P-annealed",
        }
        return own.get(self, self.capitalize())

    @property
    def over_batch(self) -> bool:
        """Whether its own activation keeps the K · B largest of a batch."""
        return self in (Architecture.BATCHTOPK, Architecture.MATRYOSHKA)

    @property
    def spans(self) -> bool:
        """Whether it reads several layers of a token side by side."""
        return self is Architecture.CROSSCODER

    @property
    def moves(self) -> bool:
        """Whether it is for explaining another layer than the one it reads."""
        return self in (Architecture.SKIP, Architecture.TRANSCODER)


Hook = Literal["resid_post", "mlp_in", "mlp_out", "attn_out"]
Normalization = Literal["none", "layer_norm", "constant_norm"]
Target = Literal["same_layer", "next_layer", "mlp_out"]
SkipKind = Literal["identity", "learned"]
Dtype = Literal["auto", "float32", "bfloat16"]
MomentsDtype = Literal["float32", "bfloat16"]


class Hyperparameters(BaseModel):
    """What a researcher may set for one training; null means the value follows from the rest.

    Source of names, defaults and ranges of the first eleven: the product requirements, section 4.
    Raises pydantic's `ValidationError`; `problems()` turns it into fields and sentences.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    # Basic
    hidden_dim: int | None = hyper(
        None,
        "Width D of the activations that are read; it is the model's own.",
        section=Section.BASIC,
        low=1,
        unit="dimensions",
        automatic="from the model",
    )
    latent_dim: int | None = hyper(
        None,
        "Number of latents F in the dictionary, 2 to 32 times the hidden dimension.",
        section=Section.BASIC,
        low=1,
        unit="latents",
        advanced=False,
        automatic=f"{MULTIPLE_DEFAULT} × hidden dimension",
    )
    batch_size: int = hyper(
        4096,
        "Tokens whose activations make one optimizer step.",
        section=Section.BASIC,
        low=512,
        high=16384,
        unit="tokens",
        advanced=False,
    )
    num_steps: int = hyper(
        100_000,
        "Optimizer steps in the whole run.",
        section=Section.BASIC,
        low=1000,
        high=1_000_000,
        unit="steps",
        advanced=False,
    )
    normalize_activations: Normalization = hyper(
        "constant_norm",
        "How activations are scaled before the SAE; constant_norm brings the mean norm to √D.",
        section=Section.BASIC,
    )
    hook: Hook = hyper(
        "resid_post",
        "What is read at the layer: the block's output, its MLP's input (behind the norm), its "
        "MLP's output, or its attention's output.",
        section=Section.BASIC,
    )
    layers: tuple[int, ...] | None = hyper(
        None,
        "The blocks that a crosscoder reads and reconstructs together, by one set of latents: two "
        "or more, ascending, as in 3, 5; the first of them is the training's layer.",
        section=Section.BASIC,
        advanced=False,
        automatic="the layer and the one behind it",
        only=(Architecture.CROSSCODER,),
    )
    target: Target | None = hyper(
        None,
        "What is reconstructed: what is read, the same of the next layer, or the MLP's output from "
        "its input.",
        section=Section.BASIC,
        automatic="next layer for skip and transcoder, of mlp_in mlp_out; same layer otherwise",
    )
    skip: SkipKind = hyper(
        "identity",
        "What a skip SAE adds to its latents' part: the input, or a learned linear map of it.",
        section=Section.BASIC,
        only=(Architecture.SKIP,),
    )
    seed: int = hyper(
        0,
        "Seed of weights, data order and resampling; the same seed gives the same run.",
        section=Section.BASIC,
        low=0,
        high=2**32 - 1,
    )
    data_seed: int | None = hyper(
        None,
        "Seed of the data order alone; trainings with the same one can share their activations.",
        section=Section.BASIC,
        low=0,
        high=2**32 - 1,
        automatic="the seed",
    )

    # Sparsity
    l1_alpha: float = hyper(
        0.001,
        "Weight of the L1 penalty on the latents; larger is sparser.",
        section=Section.SPARSITY,
        low=0.0001,
        high=0.1,
        advanced=False,
        only=(
            Architecture.STANDARD,
            Architecture.SKIP,
            Architecture.TRANSCODER,
            Architecture.GATED,
            Architecture.P_ANNEALED,
            Architecture.CROSSCODER,
        ),
    )
    l0_alpha: float = hyper(
        0.0002,
        "Weight of the L0 penalty of JumpReLU; about a tenth of an L1 weight.",
        section=Section.SPARSITY,
        low=1e-6,
        high=0.01,
        advanced=False,
        only=(Architecture.JUMPRELU,),
    )
    target_l0: float | None = hyper(
        None,
        "L0 wanted: the penalty's weight is adapted while training; over a batch it is K.",
        section=Section.SPARSITY,
        low=1,
        high=16384,
        unit="active latents per token",
        advanced=False,
        automatic="the weight stays as given; K over a batch is 64, at most F/16",
    )
    top_k_sparsity: float | None = hyper(
        None,
        "Keep only this share of the latents, the largest; takes the place of the penalty.",
        section=Section.SPARSITY,
        low=0.1,
        high=10.0,
        unit="% of latents",
        advanced=False,
        automatic="off",
        only=tuple(a for a in Architecture if a is not Architecture.GATED),
    )
    auxk_alpha: float = hyper(
        1 / 32,
        "Weight of the auxiliary loss that revives dead latents under TopK.",
        section=Section.SPARSITY,
        low=0.0,
        high=1.0,
    )
    jumprelu_threshold: float | None = hyper(
        None,
        "Threshold θ of every JumpReLU latent at the start, in normalized units.",
        section=Section.SPARSITY,
        low=0.0,
        high=10.0,
        automatic="where twice target_l0 latents are active; 0.5 without a target",
        only=(Architecture.JUMPRELU,),
    )
    jumprelu_bandwidth: float = hyper(
        0.5,
        "Width of the kernel through which the threshold gets its gradient.",
        section=Section.SPARSITY,
        low=0.001,
        high=10.0,
        only=(Architecture.JUMPRELU,),
    )
    matryoshka_groups: int = hyper(
        5,
        "Nested groups of latents, each twice as large as the one inside it, up to all latents.",
        section=Section.SPARSITY,
        low=2,
        high=10,
        unit="groups",
        only=(Architecture.MATRYOSHKA,),
    )
    final_p: float = hyper(
        0.2,
        "Exponent of the penalty in the last step; it falls from 1, which is L1, towards L0.",
        section=Section.SPARSITY,
        low=0.1,
        high=1.0,
        only=(Architecture.P_ANNEALED,),
    )
    sparsity_warmup_steps: int | None = hyper(
        None,
        "Steps over which the penalty's weight grows from zero.",
        section=Section.SPARSITY,
        low=0,
        high=1_000_000,
        unit="steps",
        automatic="5 % of the run; the whole run for L0 without a target; none of a saved SAE",
    )
    dead_neuron_threshold: float = hyper(
        0.0,
        "A latent is dead when its firing frequency over the window is not above this.",
        section=Section.SPARSITY,
        low=0.0,
        high=1e-6,
        unit="firings per token",
    )
    dead_window_tokens: int | None = hyper(
        None,
        "Window over which firing is counted to call a latent dead.",
        section=Section.SPARSITY,
        low=4096,
        high=1_000_000_000,
        unit="tokens",
        automatic="a tenth of the run, at most 10 million",
    )
    resample_steps: int | None = hyper(
        None,
        "Every so many steps dead latents restart at badly reconstructed inputs.",
        section=Section.SPARSITY,
        low=10,
        high=1_000_000,
        unit="steps",
        automatic="never",
    )

    # Optimization
    learning_rate: float = hyper(
        1e-4,
        "Adam's learning rate after warm-up and before decay.",
        section=Section.OPTIMIZATION,
        low=1e-5,
        high=5e-3,  # runs of some hundred steps train best beyond the usual 1e-3
        advanced=False,
    )
    lr_warmup_steps: int | None = hyper(
        None,
        "Steps over which the learning rate grows from zero.",
        section=Section.OPTIMIZATION,
        low=0,
        high=1_000_000,
        unit="steps",
        automatic="2 % of the run, at most 1,000",
    )
    lr_decay_fraction: float = hyper(
        0.2,
        "Share of the run, at its end, over which the learning rate falls to zero.",
        section=Section.OPTIMIZATION,
        low=0.0,
        high=1.0,
        unit="of the run",
    )
    adam_beta1: float = hyper(
        0.9,
        "Adam's decay of the gradient average.",
        section=Section.OPTIMIZATION,
        low=0.0,
        high=0.999,
    )
    adam_beta2: float = hyper(
        0.999,
        "Adam's decay of the squared gradient average.",
        section=Section.OPTIMIZATION,
        low=0.0,
        high=0.99999,
    )
    gradient_clip: float | None = hyper(
        1.0,
        "Largest norm of the whole gradient; longer ones are scaled down.",
        section=Section.OPTIMIZATION,
        low=0.001,
        high=1000.0,
        automatic="no clipping",
    )
    dtype: Dtype = hyper(
        "auto",
        "Number format of the model's forward pass and the SAE's products; weights stay float32.",
        section=Section.OPTIMIZATION,
    )
    moments_dtype: MomentsDtype = hyper(
        "float32",
        "Number format in which Adam's two moments are kept; bfloat16 takes half their memory.",
        section=Section.OPTIMIZATION,
    )
    buffer_tokens: int = hyper(
        65_536,
        "Tokens whose activations are held and shuffled together.",
        section=Section.OPTIMIZATION,
        low=4096,
        high=16_777_216,
        unit="tokens",
    )
    gpus: int = hyper(
        1,
        "How many GPUs of one machine share the latents of the run. A worker that has so many "
        "begins it; train in a terminal takes as many processes where there are no GPUs.",
        section=Section.OPTIMIZATION,
        low=1,
        high=64,
        unit="GPUs",
    )

    # Checkpoints
    checkpoint_interval: int = hyper(
        10_000,
        "Steps between checkpoints.",
        section=Section.CHECKPOINTS,
        low=1000,
        high=100_000,
        unit="steps",
        advanced=False,
    )
    log_interval: int = hyper(
        10,
        "Steps between points of the charts.",
        section=Section.CHECKPOINTS,
        low=1,
        high=10_000,
        unit="steps",
    )
    held_out_tokens: int = hyper(
        32_768,
        "Tokens kept out of training for the evaluation at the end; at most a tenth of all.",
        section=Section.CHECKPOINTS,
        low=1024,
        high=16_777_216,
        unit="tokens",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value: Any) -> Any:
        """Python counts True as 1; a JSON file that says true means something else."""
        if isinstance(value, bool):
            raise ValueError("true and false are no numbers")
        return value

    @field_validator("layers", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """A form and a command line write `3, 5`."""
        if isinstance(value, str):
            return value.strip("[]() ").split(",")
        if isinstance(value, list | tuple) and any(isinstance(each, bool) for each in value):
            raise ValueError("true and false are no numbers")
        return value

    @field_validator("layers", mode="after")
    @classmethod
    def _ascending(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (problem := _layers_problem(value)):
            raise ConfigError([Problem("layers", problem)])
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _within_range(cls, value: Any, info: ValidationInfo) -> Any:
        if (info.context or {}).get("ranges", True) and info.field_name in FIELDS:
            problem = FIELDS[info.field_name].range_problem(value)
            if problem:
                raise ConfigError([Problem(info.field_name, problem)])
        return value

    @classmethod
    def below_ranges(cls, **values: Any) -> Hyperparameters:
        """The one door past the ranges, for the engine's own tests of small models."""
        return cls.model_validate(values, context=WITHOUT_RANGES)

    def changed(self) -> dict[str, Any]:
        """Only the values that differ from their defaults."""
        return {n: v for n, v in self.model_dump().items() if v != FIELDS[n].default}


def _layers_problem(layers: tuple[int, ...]) -> str:
    """What is wrong with them whatever the model; empty where nothing is."""
    if len(layers) < 2:
        return "Name at least two blocks, as in 3, 5; for one layer choose Standard."
    if min(layers) < 0:
        return f"Blocks are counted from 0; {min(layers)} is none."
    if len(set(layers)) < len(layers):
        return "Name each block once."
    ascending = tuple(sorted(layers))
    if layers != ascending:
        return f"Name them in ascending order: {show(ascending)}."
    return ""


_LABELS = {
    "l1_alpha": "L1 alpha",
    "l0_alpha": "L0 alpha",
    "target_l0": "Target L0",
    "top_k_sparsity": "Top-K sparsity",
    "auxk_alpha": "AuxK alpha",
    "jumprelu_threshold": "JumpReLU threshold",
    "jumprelu_bandwidth": "JumpReLU bandwidth",
    "lr_warmup_steps": "LR warm-up",
    "lr_decay_fraction": "LR decay",
    "adam_beta1": "Adam β₁",
    "adam_beta2": "Adam β₂",
    "sparsity_warmup_steps": "Sparsity warm-up",
    "held_out_tokens": "Held-out tokens",
    "gpus": "GPUs",
    "num_steps": "Steps",
}


def _field_spec(name: str, schema: dict[str, Any]) -> FieldSpec:
    options = schema.get("anyOf", [schema])
    choices = tuple(c for option in options for c in option.get("enum", ()))
    kinds = {option.get("type") for option in options}
    return FieldSpec(
        name=name,
        label=_LABELS.get(name, name.replace("_", " ").capitalize()),
        sentence=schema["description"],
        kind=_kind(choices, kinds),
        default=Hyperparameters.model_fields[name].default,
        optional="null" in kinds,
        choices=choices,
        low=schema.get("minimum"),
        high=schema.get("maximum"),
        unit=schema["unit"],
        section=Section(schema["section"]),
        advanced=schema["advanced"],
        automatic=schema["automatic"],
        only=tuple(schema["only"]),
    )


def _kind(choices: tuple[str, ...], types: set[str]) -> Kind:
    if choices:
        return "choice"
    if "array" in types:
        return "list"
    return "int" if "integer" in types else "float"


FIELDS: dict[str, FieldSpec] = {
    name: _field_spec(name, schema)
    for name, schema in Hyperparameters.model_json_schema()["properties"].items()
}


def sections() -> dict[Section, list[FieldSpec]]:
    """Every hyperparameter in the order of the dialogs, by section."""
    return {s: [f for f in FIELDS.values() if f.section is s] for s in Section}
