"""Cut a dataset into contexts with a model's tokenizer."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from trainings.management.naming import named, ready
from trainings.management.preparing import PrepareCommand
from trainings.models import Dataset, LanguageModel, Tokenization


class Command(PrepareCommand):
    help = (
        "Cut a dataset into contexts with a model's tokenizer; a training reads the result. "
        "Example: manage.py tokenize --model pythia-70m --dataset wikitext --context-length 256"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--model", required=True, help="Name or id.")
        parser.add_argument("--dataset", required=True, help="Name or id.")
        parser.add_argument("--context-length", type=int, default=256, help="In tokens (256).")
        parser.add_argument(
            "--bos",
            choices=Tokenization.Bos.values,
            default=Tokenization.Bos.AUTO,
            help="Whether every context begins with the BOS token (auto: if there is one).",
        )
        parser.add_argument(
            "--max-tokens", type=int, default=0, help="Stop there; 0 (default) reads everything."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        model = named(LanguageModel, options["model"])
        dataset = named(Dataset, options["dataset"])
        if not options["no_wait"]:
            ready(model)
            ready(dataset)
        row = self.registered(
            Tokenization(
                model=model,
                dataset=dataset,
                context_length=options["context_length"],
                bos=options["bos"],
                max_tokens=options["max_tokens"],
            )
        )
        self.see_through(row, options)

    def facts(self, row: Tokenization) -> str:
        return f"{row.n_tokens:,} tokens in {row.n_contexts:,} contexts"
