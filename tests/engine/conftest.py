"""Toy language models of four families, made on the spot, and a text whose tokens have structure.

Nothing here needs more than torch, transformers, safetensors, pydantic, numpy and pytest.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from workers.engine.config import CacheSpec, Hyperparameters, RunSpec, TrainingConfig
from workers.engine.tokenize import tokenize
from workers.engine.tokens import Tokens

WIDTH, LAYERS, VOCABULARY, CONTEXT = 32, 4, 256, 64
FAMILIES = ("llama", "gpt2", "gpt_neox", "gemma2")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Toy products are too small to share out, and cores may be busy with other tests."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of four-layer models with random weights and a word tokenizer."""
    root = tmp_path_factory.mktemp("models")
    return {family: write_model(root / family, family) for family in FAMILIES}


@pytest.fixture(scope="session")
def model_folder(families: dict[str, Path]) -> Path:
    return families["llama"]


@pytest.fixture(scope="session")
def tokens_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tokens") / "packed"
    tokenize(texts(), model_folder, out, CONTEXT, "auto", lambda done: None)
    return out


@pytest.fixture(scope="session")
def tokens(tokens_folder: Path) -> Tokens:
    return Tokens.open(tokens_folder)


@pytest.fixture
def make_spec(spec_of: Callable[..., RunSpec]) -> Callable[..., RunSpec]:
    return spec_of


@pytest.fixture(scope="session")
def spec_of(model_folder: Path, tokens_folder: Path) -> Callable[..., RunSpec]:
    """A small run: `make_spec("jumprelu", num_steps=10)`."""

    def make(
        architecture: str,
        resume_from: tuple[Path, ...] = (),
        cache: CacheSpec | None = None,
        **h: Any,
    ) -> RunSpec:
        small = {
            "latent_dim": 4 * WIDTH,
            "batch_size": 256,
            "num_steps": 80,
            "learning_rate": 3e-3,
            "buffer_tokens": 4000,
            "checkpoint_interval": 1000,
            "log_interval": 10,
            "held_out_tokens": 1024,
        }
        config = TrainingConfig.model_construct(
            architecture=TrainingConfig(architecture=architecture, layer=1).architecture,
            layer=1,
            hyperparameters=Hyperparameters.below_ranges(**(small | h)),
        )
        return RunSpec.model_construct(
            training_id="toy",
            name="toy",
            config=config,
            model_path=model_folder,
            model_name="toy-llama",
            tokens_path=tokens_folder,
            dataset_name="topics",
            resume_from=resume_from,
            device="cpu",
            cache=cache,
        )

    return make


def texts() -> list[str]:
    """Documents on eight topics, each with words of its own."""
    rng = random.Random(0)
    topics = [[f"w{topic * 30 + i}" for i in range(30)] for topic in range(8)]
    return [" ".join(rng.choices(rng.choice(topics), k=300)) for _ in range(150)]


def write_model(folder: Path, family: str) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(_config(family)).save_pretrained(folder)
    words = ["<unk>", "<s>", "</s>"] + [f"w{i}" for i in range(VOCABULARY - 3)]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def _config(family: str) -> Any:
    import transformers

    names = {
        "llama": "LlamaConfig",
        "gpt2": "GPT2Config",
        "gpt_neox": "GPTNeoXConfig",
        "gemma2": "Gemma2Config",
    }
    extra: dict[str, Any] = {
        "llama": {"num_key_value_heads": 2},
        "gpt2": {"n_inner": 64},
        "gpt_neox": {},
        "gemma2": {"num_key_value_heads": 2, "head_dim": 8},
    }[family]
    return getattr(transformers, names[family])(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        **({} if family == "gpt2" else {"intermediate_size": 64}),
        **extra,
    )
