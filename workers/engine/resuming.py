"""The checkpoint that a run goes on from, and what it must share with that run."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from safetensors.torch import load_file
from torch import Tensor

from . import checkpoint, events
from .asked import Asked
from .checkpoint import CheckpointError, HarmedCheckpoint
from .config import RunSpec
from .ranks import Ranks
from .ranks.pieces import own_pieces
from .tokens import Tokens

Loaded: TypeAlias = tuple[dict[str, Tensor], dict[str, Any]]


def identity(spec: RunSpec, tokens: Tokens) -> dict[str, str]:
    """What a checkpoint must share with the run that goes on from it."""
    found = {"config": spec.config.digest(), "tokens": tokens.digest}
    return found | {"start": spec.start_from.digest} if spec.start_from else found


def newest(
    spec: RunSpec, run_dir: Path, asked: Asked, ranks: Ranks
) -> Generator[events.Event, None, Loaded | None]:
    """The first checkpoint that verifies, or None; harmed ones are set aside.

    Of several ranks the first one looks, and each takes its own part of what it has found; after a
    lost rank that is what this attempt has saved itself.
    """
    tokens = asked.tokens
    if ranks.alone:
        found = yield from _verified(spec, spec.resume_from, tokens, load_file)
        return found and found[1]
    read = partial(own_pieces, latents=asked.plan.d_sae, ranks=ranks)
    found = None
    if ranks.first:
        paths = (*checkpoint.newest_first(run_dir / "checkpoints"), *spec.resume_from)
        found = yield from _verified(spec, paths, tokens, read)
    path = ranks.told(found and str(found[0]))
    if ranks.first or path is None:
        return found and found[1]
    return checkpoint.load(Path(path), read, verified=True)


def _unsaid(spec: RunSpec, known: dict[str, str]) -> dict[str, str]:
    """The start of a checkpoint of this very attempt, whose spec was written before that was read:
    a lost rank has the others begin again with it."""
    told = spec.start_from is not None and not spec.start_from.digest
    return {"start": known["start"]} if told and "start" in known else {}


def _verified(
    spec: RunSpec,
    paths: tuple[Path, ...],
    tokens: Tokens,
    read: Callable[[Path], dict[str, Tensor]],
) -> Generator[events.Event, None, tuple[Path, Loaded] | None]:
    """The first of these checkpoints that verifies, and where it lies."""
    for folder in {path.parent for path in paths}:
        checkpoint.remove_unfinished(folder)
    for path in paths:
        try:
            tensors, numbers = checkpoint.load(path, read)
            if numbers["identity"] != identity(spec, tokens) | _unsaid(spec, numbers["identity"]):
                raise CheckpointError("it belongs to another configuration or other tokens")
        except HarmedCheckpoint as error:
            moved_to = checkpoint.set_aside(path)
            yield events.CheckpointSetAside(
                step=0,
                checkpoint_path=str(path),
                moved_to=str(moved_to) if moved_to else None,
                reason=f"{error}",
            )
            continue
        except CheckpointError as error:
            message = f"The checkpoint {path.name} was skipped: {error}."
            yield events.Warned(step=0, code="checkpoint_skipped", message=message)
            continue
        return path, (tensors, numbers)
    return None
