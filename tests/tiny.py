"""A four-layer transformer, its tokenizer and a text, made on the spot; all in a second."""

from __future__ import annotations

import random
from pathlib import Path

D_MODEL = 32
N_LAYERS = 4
VOCABULARY = 256
TEXTS = 400


def texts(seed: int = 0) -> list[str]:
    """Sentences with a structure worth learning: each topic has its own words."""
    rng = random.Random(seed)
    topics = [[f"w{topic * 30 + i}" for i in range(30)] for topic in range(8)]
    return [" ".join(rng.choices(rng.choice(topics), k=400)) for _ in range(TEXTS)]


def write_text(path: Path) -> Path:
    path.write_text("\n".join(texts()), encoding="utf-8")
    return path


def write_model(folder: Path) -> Path:
    """A Llama with random weights and a word tokenizer that has a BOS token."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=D_MODEL,
        intermediate_size=64,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words = ["<unk>", "<s>", "</s>"] + [f"w{i}" for i in range(VOCABULARY - 3)]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def seed(*, context_length: int = 64) -> None:
    """Rows and files of a ready model, dataset and tokenization in the current data folder."""
    from django.conf import settings

    from trainings.models import Dataset, LanguageModel, Tokenization
    from workers.engine.tokenize import tokenize

    model = LanguageModel.objects.create(
        name="tiny-llama",
        source="folder",
        location="tiny-llama",
        architecture="LlamaForCausalLM",
        d_model=D_MODEL,
        n_layers=N_LAYERS,
        context_length=512,
        vocab_size=VOCABULARY,
        dtype="float32",
        status="ready",
        progress=1.0,
    )
    write_model(model.folder)
    dataset = Dataset.objects.create(
        name="topics", source="file", location="topics.txt", status="ready", progress=1.0
    )
    tokenization = Tokenization(
        dataset=dataset, model=model, context_length=context_length, status="ready", progress=1.0
    )
    Path(settings.HOME, "tokenizations").mkdir(parents=True, exist_ok=True)
    manifest = tokenize(
        texts(), model.folder, tokenization.folder, context_length, "auto", lambda done: None
    )
    tokenization.n_tokens = manifest.n_tokens
    tokenization.n_contexts = manifest.n_contexts
    tokenization.save()
