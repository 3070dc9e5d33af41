"""What an SAE is worth, as groups of figures with their definitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Form = Literal["fixed", "number", "count", "percent"]


@dataclass(frozen=True)
class Entry:
    """One figure: its name here and in the API, how it is written, and what it means."""

    label: str
    name: str
    form: Form
    meaning: str


@dataclass(frozen=True)
class Shown:
    entry: Entry
    value: Any
    note: str = ""


RECONSTRUCTION = (
    Entry("FVU", "fvu", "fixed", "Fraction of variance unexplained: Σ‖y − ŷ‖² / Σ‖y − ȳ‖²"),
    Entry("Explained variance", "explained_variance", "fixed", "1 − FVU"),
    Entry(
        "Explained variance, per token",
        "explained_variance_per_token",
        "fixed",
        "Mean over tokens of 1 − ‖y − ŷ‖² / ‖y − ȳ‖²; SAELens calls it explained_variance_legacy",
    ),
    Entry("Cosine", "cosine", "fixed", "Mean cosine of activation and reconstruction"),
    Entry("L2 ratio", "l2_ratio", "fixed", "Mean of ‖ŷ‖ / ‖y‖; below 1 the SAE shrinks"),
    Entry(
        "Relative reconstruction bias",
        "relative_reconstruction_bias",
        "fixed",
        "E‖ŷ‖² / E(y · ŷ); 1 is unbiased (Rajamanoharan et al. 2024)",
    ),
    Entry(
        "FVU of the skip alone",
        "fvu_skip",
        "fixed",
        "Of the input, or its learned map",
    ),
    Entry("FVU of the latents' part", "fvu_latents", "fixed", "Of what the skip leaves to explain"),
)
BEHAVIOUR = (
    Entry(
        "CE recovered",
        "ce_recovered",
        "fixed",
        "(CE with zeros − CE spliced) / (CE with zeros − CE clean)",
    ),
    Entry("CE clean", "ce_clean", "fixed", "The model's own cross-entropy, nats per token"),
    Entry("CE spliced", "ce_spliced", "fixed", "With the reconstruction in the place"),
    Entry("CE with zeros", "ce_zero", "fixed", "With zeros in the place, at every position"),
    Entry("KL recovered", "kl_recovered", "fixed", "1 − KL spliced / KL with zeros"),
    Entry("KL spliced", "kl_spliced", "fixed", "KL of the model's own from the spliced one, nats"),
    Entry("KL with zeros", "kl_zero", "fixed", "KL of the model's own from the zeroed one, nats"),
)
SPARSITY = (
    Entry("L0", "l0", "number", "Active latents per token"),
    Entry("L1", "l1", "number", "Sum of a token's latents, raw activations"),
    Entry("Alive", "alive", "count", "Latents that fired at all on these tokens"),
    Entry("Dead", "dead", "count", "Latents that never fired on these tokens"),
    Entry("Rare", "rare", "count", "Latents that fired on less than 1 in 10,000 tokens"),
    Entry("Dense", "dense", "count", "Latents that fired on a tenth of the tokens or more"),
)
GROUPS = (
    ("Reconstruction", RECONSTRUCTION),
    ("Language model", BEHAVIOUR),
    ("Sparsity", SPARSITY),
)
KEY = ("fvu", "l0", "ce_recovered", "alive_fraction")


@dataclass(frozen=True)
class Group:
    title: str
    shown: list[Shown]


def scorecard(evaluation: Mapping[str, Any]) -> list[Group]:
    """Every figure that was measured, by group; what was not is left out."""
    return [
        Group(title, shown)
        for title, entries in GROUPS
        if (shown := [_shown(e, evaluation) for e in entries if evaluation.get(e.name) is not None])
    ] + [*_layers(evaluation), *_directions(evaluation)]


def _shown(entry: Entry, evaluation: Mapping[str, Any]) -> Shown:
    error = evaluation.get(f"{entry.name}_error")
    return Shown(entry, evaluation[entry.name], f"± {error:.4f}" if error else "")


def _layers(evaluation: Mapping[str, Any]) -> list[Group]:
    """Of a crosscoder each of its layers; its other figures are means over them, or the last's."""
    meaning = "Of this layer alone; CE recovered with the reconstruction in its place alone"
    shown = []
    for each in evaluation.get("by_layer", ()):
        recovered = each.get("ce_recovered")
        note = "" if recovered is None else f"CE recovered {recovered:.4f}"
        entry = Entry(f"Layer {each['layer']}", "by_layer", "fixed", meaning)
        shown.append(Shown(entry, each["fvu"], note))
    if not shown:
        return []
    return [Group("Each layer's FVU; above: FVU their mean, CE and KL of the last", shown)]


def _directions(evaluation: Mapping[str, Any]) -> list[Group]:
    kinds = (
        ("max_decoder_cosine", "Nearest other decoder row", "Largest cosine with any other row"),
        ("encoder_decoder_cosine", "Encoder with decoder", "Cosine of what it reads and writes"),
    )
    shown = []
    for name, label, meaning in kinds:
        spread = evaluation.get(name)
        if spread:
            note = f"median {spread['median']:.3f}, 99th percentile {spread['p99']:.3f}"
            shown.append(Shown(Entry(label, name, "fixed", meaning), spread["mean"], note))
    return [Group("Directions, mean cosine", shown)] if shown else []
