"""What an SAE is worth, as groups of figures with their definitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Form = Literal["fixed", "number", "count", "spread"]
Better = Literal["", "lower", "higher", "near_one"]


@dataclass(frozen=True)
class Entry:
    """One figure: its name here and in the API, how it is written, and what it means.

    `better` says which of two SAEs on the same text is better by it; empty where neither is.
    """

    label: str
    name: str
    form: Form
    meaning: str
    better: Better = ""


RECONSTRUCTION = (
    Entry(
        "FVU", "fvu", "fixed", "Fraction of variance unexplained: Σ‖y − ŷ‖² / Σ‖y − ȳ‖²", "lower"
    ),
    Entry("Explained variance", "explained_variance", "fixed", "1 − FVU", "higher"),
    Entry(
        "Explained variance, per token",
        "explained_variance_per_token",
        "fixed",
        "Mean over tokens of 1 − ‖y − ŷ‖² / ‖y − ȳ‖²; SAELens calls it explained_variance_legacy",
        "higher",
    ),
    Entry("Cosine", "cosine", "fixed", "Mean cosine of activation and reconstruction", "higher"),
    Entry(
        "L2 ratio", "l2_ratio", "fixed", "Mean of ‖ŷ‖ / ‖y‖; below 1 the SAE shrinks", "near_one"
    ),
    Entry(
        "Relative reconstruction bias",
        "relative_reconstruction_bias",
        "fixed",
        "E‖ŷ‖² / E(y · ŷ); 1 is unbiased (Rajamanoharan et al. 2024)",
        "near_one",
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
        "higher",
    ),
    Entry("CE clean", "ce_clean", "fixed", "The model's own cross-entropy, nats per token"),
    Entry("CE spliced", "ce_spliced", "fixed", "With the reconstruction in the place", "lower"),
    Entry("CE with zeros", "ce_zero", "fixed", "With zeros in the place, at every position"),
    Entry("KL recovered", "kl_recovered", "fixed", "1 − KL spliced / KL with zeros", "higher"),
    Entry(
        "KL spliced",
        "kl_spliced",
        "fixed",
        "KL of the model's own from the spliced one, nats",
        "lower",
    ),
    Entry("KL with zeros", "kl_zero", "fixed", "KL of the model's own from the zeroed one, nats"),
)
SPARSITY = (
    Entry("L0", "l0", "number", "Active latents per token"),
    Entry("L1", "l1", "number", "Sum of a token's latents, raw activations"),
    Entry("Alive", "alive", "count", "Latents that fired at all on these tokens", "higher"),
    Entry("Dead", "dead", "count", "Latents that never fired on these tokens", "lower"),
    Entry("Rare", "rare", "count", "Latents that fired on less than 1 in 10,000 tokens"),
    Entry("Dense", "dense", "count", "Latents that fired on a tenth of the tokens or more"),
)
DIRECTIONS = (
    Entry(
        "Nearest other decoder row",
        "max_decoder_cosine",
        "spread",
        "Largest cosine with any other row",
    ),
    Entry(
        "Encoder with decoder",
        "encoder_decoder_cosine",
        "spread",
        "Cosine of what it reads and writes",
    ),
)
GROUPS = (
    ("Reconstruction", RECONSTRUCTION),
    ("Language model", BEHAVIOUR),
    ("Sparsity", SPARSITY),
    ("Directions, mean cosine", DIRECTIONS),
)


@dataclass(frozen=True)
class Shown:
    entry: Entry
    value: Any
    note: str = ""


@dataclass(frozen=True)
class Group:
    title: str
    shown: list[Shown]


def scorecard(evaluation: Mapping[str, Any]) -> list[Group]:
    """Every figure that was measured, by group; what was not is left out."""
    found = (
        Group(title, [each for entry in entries if (each := measured(entry, evaluation))])
        for title, entries in GROUPS
    )
    return [group for group in found if group.shown] + _layers(evaluation)


def measured(entry: Entry, evaluation: Mapping[str, Any]) -> Shown | None:
    """One figure of an evaluation; None where it has none."""
    value = evaluation.get(entry.name)
    if value is None:
        return None
    if entry.form == "spread":
        note = f"median {value['median']:.3f}, 99th percentile {value['p99']:.3f}"
        return Shown(entry, value["mean"], note)
    error = evaluation.get(f"{entry.name}_error")
    return Shown(entry, value, f"± {error:.4f}" if error else "")


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
