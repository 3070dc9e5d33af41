"""The model card of a published SAE: README.md as the Hugging Face hub reads it.

What is not known is left out; no number is in it that was not measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..config.facts import Facts
from . import plain
from .formats import Format
from .hook_names import lens_name
from .proof import Proof
from .sae import SavedSae

_LIBRARIES = {Format.SAELENS: "saelens", Format.SPARSIFY: "sparsify"}
# What an evaluation may tell, and what it is called.
_NUMBERS = {
    "tokens": "Tokens measured on",
    "fvu": "Fraction of variance unexplained (FVU)",
    "fvu_skip": "FVU of the skip connection alone",
    "explained_variance": "Explained variance",
    "explained_variance_per_token": "Explained variance, mean over tokens",
    "mse": "Squared error per token",
    "cosine": "Cosine similarity",
    "l2_ratio": "Norm of the reconstruction, relative",
    "relative_reconstruction_bias": "Relative reconstruction bias",
    "l0": "L0, active latents per token",
    "l1": "L1 per token",
    "alive": "Latents that fired",
    "dead": "Latents that never fired",
    "rare": "Latents that fired rarely",
    "dense": "Latents that fired often",
    "splice_tokens": "Tokens with the reconstruction in the model",
    "ce_clean": "Cross-entropy of the model",
    "ce_spliced": "Cross-entropy with the reconstruction",
    "ce_zero": "Cross-entropy with zeros",
    "ce_recovered": "Cross-entropy recovered",
    "ce_recovered_error": "Standard error of that",
    "kl_spliced": "KL divergence with the reconstruction",
    "kl_zero": "KL divergence with zeros",
    "kl_recovered": "KL divergence recovered",
}


@dataclass(frozen=True)
class Source:
    """Where the SAE is loaded from: a folder, of a repository on the hub if one is named."""

    folder: str
    repository: str = ""


def markdown(
    facts: Facts, sae: SavedSae, format: Format, place: str, proof: Proof, source: Source
) -> str:
    """The card. `place` is the folder of the SAE below `source.folder`, "." if it is that one."""
    parts = [
        _front_matter(facts, sae, format),
        f"# {escaped(facts.name)}\n\n{_introduction(facts, sae)}",
        f"## Loading it\n\n```python\n{loading_snippet(format, place, source)}\n```",
        _equations(sae),
        _section("Evaluation", _table(_numbers(facts))),
        _section("Each layer", _by_layer(facts.evaluation)),
        _section("Training", _training(facts)),
        _section("Hyperparameters", _table(_hyperparameters(facts.hyperparameters))),
        _section("Files", _files(proof)),
        _section("Limits", "\n".join(f"- {limit}" for limit in _limits(facts, sae))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def loading_snippet(format: Format, place: str, source: Source) -> str:
    """Two lines of Python that load the SAE with the library that the format belongs to."""
    folder = "/".join(part for part in (source.folder, place) if part not in ("", "."))
    repository = _literal(source.repository)
    if format is Format.SPARSIFY:
        call = f"load_from_disk({_literal(folder)})"
        if source.repository:
            call = f"load_from_hub({repository}, hookpoint={_literal(folder)})"
        return f"from sparsify import SparseCoder\nsae = SparseCoder.{call}"
    if format is Format.SAELENS:
        call = f"load_from_disk({_literal(folder)})"
        if source.repository:
            call = f"from_pretrained(release={repository}, sae_id={_literal(folder)})"
        return f"from sae_lens import SAE\nsae = SAE.{call}"
    file = _literal(f"{folder}/{plain.WEIGHTS}")
    if source.repository:
        file = f"hf_hub_download({repository}, {file})"
        imports = "import safetensors.torch; from huggingface_hub import hf_hub_download"
        return f"{imports}\nweights = safetensors.torch.load_file({file})"
    return f"from safetensors.torch import load_file\nweights = load_file({file})"


def escaped(text: str) -> str:
    """Somebody's words as one line of Markdown that shows them as they are."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!&$])", r"\\\1", " ".join(text.split()))


def _literal(text: str) -> str:
    """A string of Python, of JSON and of YAML, which ends no block of code around it."""
    return json.dumps(text).replace("`", "\\u0060")


def _front_matter(facts: Facts, sae: SavedSae, format: Format) -> str:
    kind = "crosscoder" if sae.across else "sparse-autoencoder"
    if sae.is_transcoder:
        kind = "transcoder"
    told: dict[str, Any] = {
        "library_name": _LIBRARIES.get(format),
        "license": facts.licence,
        "base_model": facts.model_on_hub,
        "datasets": [facts.dataset_on_hub] if facts.dataset_on_hub else None,
        "tags": [kind, "sae", "mechanistic-interpretability"],
    }
    lines = [f"{name}: {json.dumps(value)}" for name, value in told.items() if value]
    return "\n".join(["---", *lines, "---"])


def _introduction(facts: Facts, sae: SavedSae) -> str:
    if sae.across:
        return _introduction_across(facts, sae)
    what = "transcoder" if sae.is_transcoder else "sparse autoencoder"
    kind = f" ({escaped(facts.architecture)})" if facts.architecture else ""
    of = f" for {escaped(facts.model)}" if facts.model else ""
    sizes = f"{sae.d_sae:,} latents, {sae.d_in:,} values in and {sae.d_out:,} out"
    reads = f"It reads `{lens_name(sae.reads)}`" if sae.reads else "Where it reads is not known"
    writes = f" and gives `{lens_name(sae.writes)}`" if sae.writes else ""
    return f"A {what}{kind}{of}, with {sizes}. {reads}{writes}, in TransformerLens's words."


def _introduction_across(facts: Facts, sae: SavedSae) -> str:
    of = f" for {escaped(facts.model)}" if facts.model else ""
    places = ", ".join(f"`{lens_name(site)}`" for site in sae.across)
    return (
        f"A crosscoder{of}: {sae.d_sae:,} latents that read and reconstruct {sae.layers} layers of "
        f"a token together, {sae.width:,} values each: {places}, in TransformerLens's words. "
        "Neither SAELens nor sparsify can load it; its tensors have a side for the layer."
    )


def _equations(sae: SavedSae) -> str:
    names = ", ".join(plain.tensors(sae))
    lines = "\n".join(plain.equations(sae))
    return (
        f"What it computes of raw activations x, with {names} as SAE Studio and SAELens name "
        f"them:\n\n```\n{lines}\n```"
    )


def _numbers(facts: Facts) -> Iterator[tuple[str, str]]:
    for name, title in _NUMBERS.items():
        value = facts.evaluation.get(name)
        if name == "tokens" and facts.tokens:  # known only of what was trained here
            title = "Held-out tokens"
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield title, f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _by_layer(evaluation: dict[str, Any]) -> str:
    """Of a crosscoder; of what is above, FVU and its like are means, CE and KL the last layer's."""
    layers = evaluation.get("by_layer", ())
    lines = ["| layer | FVU | CE recovered |", "|---|---|---|"]
    for each in layers:
        cells = (each.get(name) for name in ("fvu", "ce_recovered"))
        written = " | ".join("" if value is None else f"{value:.4g}" for value in cells)
        lines.append(f"| {each['layer']} | {written} |")
    told = (
        "Above, what measures a reconstruction is the mean over these layers; cross-entropy and KL "
        "are those of the last, with its reconstruction alone in its place."
    )
    return "\n".join([told, "", *lines]) if layers else ""


def _hyperparameters(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        if isinstance(value, bool | int | float | str):
            yield escaped(name), escaped(str(value))


def _table(rows: Iterator[tuple[str, str]]) -> str:
    lines = [f"| {name} | {value} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *lines]) if lines else ""


def _training(facts: Facts) -> str:
    tokens = f"{facts.tokens:,} tokens" if facts.tokens else ""
    text = f"of {escaped(facts.dataset)}" if facts.dataset else ""
    steps = f"in {facts.steps:,} steps" if facts.steps else ""
    contexts = f"contexts of {facts.context_length:,} tokens" if facts.context_length else ""
    trained = " ".join(part for part in (tokens, text, steps) if part)
    start = f"continued from {escaped(facts.started_from)}" if facts.started_from else ""
    return ", ".join(part for part in (trained, contexts, start) if part)


def _files(proof: Proof) -> str:
    rows = "\n".join(
        f"| {escaped(name)} | {told['bytes']:,} | `{told['sha256']}` |"
        for name, told in proof.files.items()
    )
    return (
        f"Read back by {escaped(proof.read_by)}, on a fixed batch in which {proof.latents:,} "
        f"latents fire: reconstructions differ by at most {proof.max_difference:.1e} of the "
        f"largest value.\n\n| file | bytes | SHA-256 |\n|---|---|---|\n{rows}\n\n"
        f"SHA-256 of what `sha256sum` prints for them: `{proof.digest}`"
    )


def _limits(facts: Facts, sae: SavedSae) -> Iterator[str]:
    yield (
        "It stands for this model's activations at this place, on text like the one it was "
        "trained on; elsewhere it may reconstruct worse."
    )
    yield "That a latent fires on something does not show that the model computes with it."
    if not facts.evaluation:
        yield "It was not evaluated."
    elif facts.evaluation.get("ce_recovered") is None:
        yield "What the model loses with the reconstruction in its place was not measured."
    if sae.per_token and sae.is_transcoder and sae.W_skip is None:
        yield "Its output is scaled by the target's own mean and deviation, which must be known."
    if not facts.licence:
        yield "No licence was given with it."


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""
