"""Activations of a prepared model, read once: what the experiments in this folder train on.

Writes a folder: `held_out.npy` [2, M, D], tokens of contexts that are never trained on, and parts
`training-000.npy`, … [2, N, D] in the order a run with seed 0 reads them. First the layer, then the
one after it, which Skip and Transcoder reconstruct. Raw, float32, without BOS. A part that is there
is not read again, so the script can be stopped, and asked for more later.

    python docs/experiments/activations.py --model SmolLM2-135M \
        --dataset "Python standard library" --layer 5 --tokens 524288 --out activations
"""

# ruff: noqa: E402 (Django has to be set up before its models can be imported)
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "saestudio.settings")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import django

django.setup()

import numpy as np
import torch

from trainings.management.asking import chosen_tokenization
from workers.engine.activations import Activations, Reader, group_shape
from workers.engine.forward import Forward
from workers.engine.language_model import LanguageModel, Site
from workers.engine.order import Order, Split
from workers.engine.tokens import Tokens

_HELD_OUT_TOKENS = 32_768
_BUFFER_TOKENS = 65_536


def main() -> None:
    options = _arguments()
    found = chosen_tokenization(vars(options))
    tokens, cpu = Tokens.open(Path(found.folder)), torch.device("cpu")
    sites = (Site(options.layer, "resid_post"), Site(options.layer + 1, "resid_post"))
    model = LanguageModel.load(Path(found.model.folder), sites, cpu, torch.float32)
    group, groups_per_chunk = group_shape(tokens, _BUFFER_TOKENS, cpu)
    split = Split.of(tokens, _HELD_OUT_TOKENS, group)
    forward = Forward(lambda: model, tokens, split.groups, cpu, torch.float32)
    reader = Reader(tokens, split.groups, forward, cpu)
    if options.tokens > split.n_usable:
        sys.exit(f"There are {split.n_usable:,} tokens to train on; ask for no more.")
    options.out.mkdir(parents=True, exist_ok=True)
    _write(options.out / "held_out.npy", lambda: reader.read(split.held_out.parts()))

    order = Order(split.training, groups_per_chunk, 0)
    written = part = 0
    while written < options.tokens:

        def chunk(number: int = part) -> Activations:
            read = reader.read(order.parts(number))
            return read.rows(order.shuffle(number, len(read)))

        written += _write(options.out / f"training-{part:03d}.npy", chunk)
        part += 1
        sys.stderr.write(f"{written:,} tokens\n")


def _write(file: Path, read: Callable[[], Activations]) -> int:
    """Tokens of the file, read and written unless it is there; it appears whole or not at all."""
    if not file.exists():
        unfinished = file.with_suffix(".tmp")
        found = read()
        with unfinished.open("wb") as out:
            np.save(out, torch.stack((found.x, found.y)).numpy())
        unfinished.rename(file)
    return int(np.load(file, mmap_mode="r").shape[1])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="Name or id of a ready model.")
    parser.add_argument("--dataset", help="Name or id of a ready dataset.")
    parser.add_argument("--tokenization", help="Id; needed where several fit.")
    parser.add_argument("--context-length", type=int, help="Chooses among tokenizations.")
    parser.add_argument("--layer", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=524_288)
    parser.add_argument("--out", type=Path, default=Path("activations"))
    return parser.parse_args()


if __name__ == "__main__":
    with torch.no_grad():
        main()
