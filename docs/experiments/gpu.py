"""The bench on a GPU without a model to download, and where sparse and dense steps meet there.

Makes a model of Gemma 2 2B's shape up to layer 14 with random weights, a vocabulary of 32,000
words, and a text of random words: what steps and passes cost depends on shapes, not on values.

    python docs/experiments/gpu.py FOLDER [--peers]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from pathlib import Path

import torch

from workers.engine.bench import Options, bench, table
from workers.engine.bench.steps import Case, Runner
from workers.engine.bench.timing import in_turns
from workers.engine.config import Architecture
from workers.engine.sae.gpu import steps
from workers.engine.tokenize import tokenize

B, D, F, K, LAYER = 4096, 2304, 18432, 64, 12
WORDS, CONTEXT = 32_000, 256


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    model, tokens = options.folder / "model", options.folder / "tokens"
    if not tokens.exists():
        _prepare(model, tokens)
    report = bench(
        Options(
            model_path=model,
            tokens_path=tokens,
            layer=LAYER,
            batch_size=B,
            d_sae=F,
            k=K,
            rounds=6,
            with_peers=options.peers,
            device="cuda",
        )
    )
    sys.stdout.write(f"{table(report)}\n\n")
    _meet(torch.device("cuda"))


def _prepare(model: Path, tokens: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

    config = Gemma2Config(
        vocab_size=WORDS,
        hidden_size=D,
        num_hidden_layers=LAYER + 2,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        intermediate_size=9216,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.device("cuda"):
        made = Gemma2ForCausalLM(config)
    made.to(torch.bfloat16).cpu().save_pretrained(model)
    words = ["<unk>", "<s>", "</s>", *(f"w{number}" for number in range(WORDS - 3))]
    ids = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(model)
    draw = random.Random(0)
    texts = [" ".join(draw.choices(words[3:], k=1000)) for _ in range(600)]
    tokenize(texts, model, tokens, CONTEXT, "auto", lambda done: None)


def _meet(device: torch.device) -> None:
    """Steps whose pairs are listed, however many, beside steps that are dense, however few."""
    generator = torch.Generator(device).manual_seed(0)
    batches = [torch.randn(B, D, generator=generator, device=device) for _ in range(3)]
    for architecture in (Architecture.STANDARD, Architecture.JUMPRELU):
        for l0 in (32, 64, 128, 256, 512, 1024, 2048):
            case = Case("", "", architecture, l0=l0, bandwidth=0.01)
            runner, found = Runner(case, batches[0], F, device), []
            for share in (0.3, 0.0):
                steps.WORTH_SPARSE = share
                times = in_turns({"step": runner}, batches, 9, device)["step"]
                found.append(1000 * statistics.median(times.seconds))
            sys.stdout.write(
                f"{architecture} L0 {l0}, {l0 / F:.2%} of pairs: "
                f"sparse {found[0]:.2f} ms, dense {found[1]:.2f} ms\n"
            )


if __name__ == "__main__":
    main()
