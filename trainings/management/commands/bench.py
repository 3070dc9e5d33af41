"""Measure this machine: steps, extraction, and other libraries beside them."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trainings.management import naming
from trainings.management.asking import chosen_tokenization


class Command(BaseCommand):
    help = (
        "Measure how fast this machine trains: every architecture's step, sparse against dense, "
        "the floor no step can go below, extraction, and a whole run. With --peers the public "
        "libraries that are installed run beside it in the same process on the same batches "
        "(pip install -e '.[peers]'). Give it a quiet machine. Example: manage.py bench --json"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--model", help="Name or id of a ready model; else made-up data.")
        parser.add_argument("--dataset", help="Name or id of a ready dataset.")
        parser.add_argument("--tokenization", help="Id; needed where several fit.")
        parser.add_argument("--context-length", type=int, help="Chooses among tokenizations.")
        parser.add_argument("--layer", type=int, default=5, help="Decoder block, from 0.")
        parser.add_argument("--batch-size", type=int, default=4096)
        parser.add_argument("--latent-dim", type=int, default=4608)
        parser.add_argument("--k", type=int, default=32, help="Active latents of TopK.")
        parser.add_argument("--l0", type=int, default=64, help="Active latents of the others.")
        parser.add_argument("--rounds", type=int, default=8)
        parser.add_argument("--device", default="auto")
        parser.add_argument("--peers", action="store_true", help="Other libraries too.")
        parser.add_argument("--json", action="store_true", help="One JSON object on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        from workers.engine import bench as engine

        for name in ("batch_size", "latent_dim", "k", "l0", "rounds"):
            if options[name] < 1:
                flag = f"--{name.replace('_', '-')}"
                raise CommandError(f"{flag} must be at least 1.", returncode=2)
        for name in ("k", "l0"):
            if options[name] >= options["latent_dim"]:
                raise CommandError(f"--{name} must be less than --latent-dim.", returncode=2)
        model_path, tokens_path = self._places(options)
        # Libraries print when they are imported; stdout is for the report alone.
        with redirect_stdout(sys.stderr):
            report = engine.bench(
                engine.Options(
                    model_path=model_path,
                    tokens_path=tokens_path,
                    layer=options["layer"],
                    batch_size=options["batch_size"],
                    d_sae=options["latent_dim"],
                    k=options["k"],
                    l0=options["l0"],
                    rounds=options["rounds"],
                    with_peers=options["peers"],
                    device=options["device"],
                ),
                lambda part: self.stderr.write(f"measuring: {part}"),
            )
        text = json.dumps(report.to_dict(), indent=1) if options["json"] else engine.table(report)
        self.stdout.write(text)

    def _places(self, options: dict[str, Any]) -> tuple[Path | None, Path | None]:
        if not any(options[name] for name in ("model", "dataset", "tokenization")):
            return None, None
        tokenization = chosen_tokenization(options)
        facts = tokenization.model.facts
        if facts and not 0 <= options["layer"] < facts.n_layers:
            last = facts.n_layers - 1
            raise CommandError(f"--layer must be between 0 and {last}.", returncode=2)
        for folder in (tokenization.model.folder, tokenization.folder):
            naming.fetched(folder)
        return Path(tokenization.model.folder), Path(tokenization.folder)
