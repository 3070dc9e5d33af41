"""A dataset cut into contexts by a model's tokenizer; what was broken off goes on."""

from __future__ import annotations

from typing import Any, cast

from trainings import store
from trainings.models import Dataset, Tokenization
from workers.engine.tokenize import Kept, tokenize_on
from workers.engine.tokens import Bos, TokenizeError
from workers.texts import Texts

from .job import Job

__all__ = ["TokenizeError", "prepare"]


def prepare(tokenization: Tokenization, job: Job) -> dict[str, Any]:
    dataset, most = tokenization.dataset, tokenization.max_tokens
    store.fetch(tokenization.model.folder, job.go_on)
    if dataset.source == Dataset.Source.DEMO:  # all others lie elsewhere
        store.fetch(dataset.folder, job.go_on)
    texts = Texts(dataset)

    def progress(tokens: int) -> None:
        share = texts.documents / dataset.n_documents if dataset.n_documents else 0.0
        if most:
            share = max(share, tokens / most)
        job.report(min(share, 0.99), f"{tokens:,} tokens of {texts.documents:,} documents")

    manifest = tokenize_on(
        texts,
        tokenization.model.folder,
        job.draft,
        tokenization.context_length,
        cast(Bos, tokenization.bos),
        progress,
        most,
        Kept(tokenization.kept_folder, texts.identity),
    )
    return {
        "n_tokens": manifest.n_tokens,
        "n_contexts": manifest.n_contexts,
        "size_bytes": sum(file.stat().st_size for file in job.draft.iterdir()),
    }
