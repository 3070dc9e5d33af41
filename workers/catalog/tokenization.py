"""A dataset cut into contexts by a model's tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from trainings import store
from trainings.models import Dataset, Tokenization
from workers.engine.tokens import Bos, TokenizeError, tokenize
from workers.texts import texts

from .job import Job

__all__ = ["TokenizeError", "prepare"]


def prepare(tokenization: Tokenization, job: Job) -> dict[str, Any]:
    dataset, most = tokenization.dataset, tokenization.max_tokens
    documents = 0
    store.fetch(tokenization.model.folder, job.go_on)
    if dataset.source == Dataset.Source.DEMO:  # all others lie elsewhere
        store.fetch(dataset.folder, job.go_on)

    def counted() -> Iterator[str]:
        nonlocal documents
        for text in texts(dataset):
            documents += 1
            yield text

    def progress(tokens: int) -> None:
        share = documents / dataset.n_documents if dataset.n_documents else 0.0
        if most:
            share = max(share, tokens / most)
        job.report(min(share, 0.99), f"{tokens:,} tokens of {documents:,} documents")

    manifest = tokenize(
        counted(),
        tokenization.model.folder,
        job.draft,
        tokenization.context_length,
        cast(Bos, tokenization.bos),
        progress,
        max_tokens=most,
    )
    return {
        "n_tokens": manifest.n_tokens,
        "n_contexts": manifest.n_contexts,
        "size_bytes": sum(file.stat().st_size for file in job.draft.iterdir()),
    }
