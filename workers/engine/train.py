"""One training from loading the model to the exported SAE, as a stream of events."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file
from torch import Tensor

from . import checkpoint, events, memory
from .activations import Reader, StopRequested, group_shape
from .advance import advance
from .checkpoint import CheckpointError, HarmedCheckpoint
from .clock import Clock
from .config import Hyperparameters, ModelFacts, Plan, RunSpec, warnings
from .config import plan as settled_plan
from .divergence import Divergence
from .evaluate import density_histogram, evaluate
from .export import export
from .failure import TrainingError
from .language_model import dtype_name, held_dtype, settled_device, settled_dtype
from .model import inspect, model_size
from .order import Order, Split
from .preflight import Footprint, Preflight, preflight, room_on_disk
from .ranks import ALONE, Ranks
from .ranks.pieces import gathered, own_pieces
from .reading import Reading
from .saver import Saver
from .schedule import learning_rate
from .shelf import Shelf
from .shortage import Shortage
from .start import Start
from .state import State
from .stream import Stream
from .tokens import Tokens

# A stopped run is evaluated on fewer tokens: whoever stops it is waiting.
_STOPPED_EVALUATION_TOKENS = 8192
# Of the density histogram, in a run.
_FRAMES = 48
_Loaded: TypeAlias = tuple[dict[str, Tensor], dict[str, Any]]
_DTYPES = {dtype_name(dtype): dtype for dtype in (torch.float32, torch.bfloat16)}


@dataclass(frozen=True)
class Asked:
    """What a run is to do and what it reads, checked before anything large is loaded."""

    facts: ModelFacts
    plan: Plan
    tokens: Tokens
    split: Split
    groups_per_chunk: int
    device: torch.device

    @classmethod
    def by(cls, spec: RunSpec) -> Asked:
        """Raises `ModelError`, `ConfigError` or `TokenizeError`."""
        folder = inspect(spec.model_path)
        facts = ModelFacts(d_model=folder.d_model, n_layers=folder.n_layers)
        plan = settled_plan(spec.config, facts)
        tokens = Tokens.of_model(spec.tokens_path, spec.model_path)
        h, device = plan.hyperparameters, settled_device(spec.device)
        group, groups_per_chunk = group_shape(tokens, h.buffer_tokens, device)
        split = Split.of(tokens, h.held_out_tokens, group)
        return cls(facts, plan, tokens, split, groups_per_chunk, device)


def train(
    spec: RunSpec,
    run_dir: Path,
    stop: Callable[[], bool] = lambda: False,
    pause: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
) -> Iterator[events.Event]:
    """Train as `spec` says; checkpoints and SAE go to `run_dir`.

    Of several ranks all do this, and stop where one of them was asked to. What the first one yields
    is what there is to tell: it alone writes checkpoints, evaluates and exports.

    Ends with Completed, with Stopped (checkpoint and SAE), or with Paused (checkpoint alone).
    `stop` and `pause` are asked between steps and between forward passes. Raises an error of the
    engine (`ModelError`, `TokenizeError`, `ConfigError`, `TrainingError`, `ExportError`) whose
    message is a sentence, or whatever the machine raises (`OSError`, `torch.OutOfMemoryError`).
    """
    # Now and not once something is saved: a folder that was deleted under a run stays deleted.
    run_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as until_the_end:
        yield from _train(spec, run_dir, stop, pause, ranks, until_the_end)


def _train(
    spec: RunSpec,
    run_dir: Path,
    stop: Callable[[], bool],
    pause: Callable[[], bool],
    ranks: Ranks,
    until_the_end: ExitStack,
) -> Iterator[events.Event]:
    # What is asked for, and what there is.
    yield events.Phase(step=0, phase="loading_model")
    asked = Asked.by(spec)
    plan, tokens, split, device = asked.plan, asked.tokens, asked.split, ranks.device(asked.device)
    h = plan.hyperparameters
    if not ranks.alone and not plan.architecture.by_latents:
        kind = plan.architecture.label
        raise TrainingError(f"A run of {kind} cannot be split over several processes.")
    for problem in warnings(spec.config, asked.facts, split.n_usable):
        yield events.Warned(step=0, code=problem.field, message=problem.message)

    # Whether it can fit, before anything large is loaded.
    dtype = _DTYPES[ranks.told(dtype_name(settled_dtype(h.dtype, device)))]
    size = model_size(spec.model_path, asked.facts.d_model, plan.deepest_layer)
    share = replace(plan, d_sae=-(-plan.d_sae // ranks.count))
    held = held_dtype(h.dtype)
    footprint = Footprint(share, size, split.n_usable, device, dtype, held, ranks.count)
    fits = _agreed(preflight(footprint), ranks)
    if fits.warning:
        yield events.Warned(step=0, code="memory", message=fits.warning)

    # The model, the stream of its activations, the SAE; where a checkpoint verifies, go on from it.
    loaded = yield from _newest(spec, run_dir, tokens, plan, ranks)
    start = None
    if spec.start_from and not loaded:  # from a checkpoint on it is not needed any more
        start = Start.read(spec.start_from, plan)
        spec = spec.model_copy(update={"start_from": start.spec})
    if not loaded:  # else what it goes on from is safe, and the next checkpoint looks for itself
        room_on_disk(footprint, run_dir)
    dtype = _DTYPES[loaded[1]["dtype"]] if loaded else dtype
    held = _DTYPES[loaded[1]["held"]] if loaded else held
    reading = Reading(spec, plan, tokens, split.groups, device, dtype, held)
    shelf = yield from _shelf(reading)
    if shelf:
        until_the_end.enter_context(shelf)
    reader = reading.reader(shelf)
    order = Order(split.training, asked.groups_per_chunk, h.seed)
    stream = Stream(reader, order, h.batch_size, lambda: stop() or pause(), ranks)
    state = State.fresh(plan, device, dtype, ranks)
    state.micro.count = fits.micro_batches
    if loaded:
        state.restore(*loaded)
        stream.position = state.position
        reader.forward.go_on(loaded[1].get("most_contexts"))
    resumed_from = state.step if loaded else None
    del loaded
    left = (h.num_steps - state.step) * h.batch_size
    ahead = stream.groups_ahead(left)
    ahead.update(split.held_out.numbers.tolist())
    stored = shelf.groups() if shelf else set()
    if ahead - stored:
        reader.forward.load()
    try:
        if resumed_from is None:
            yield events.Phase(step=0, phase="normalizing")
            state.settle(stream.first_chunk(), start.sae if start else None)
            start = None  # its memory is the first step's
    except StopRequested:
        if ranks.any(pause()):
            yield events.Paused(step=0)
            return
        yield events.Stopped(step=0, sae_path=None, final_loss=None, evaluation=None, export=None)
        return

    yield events.Started(
        step=state.step,
        num_steps=h.num_steps,
        resumed_from=resumed_from,
        d_in=plan.d_in,
        d_sae=plan.d_sae,
        k=plan.k,
        device=device.type,
        dtype=dtype_name(dtype),
        held_dtype=dtype_name(held),
        cached_fraction=len(ahead & stored) / len(ahead) if shelf else None,
        tokens=split.n_usable,
        dead_window_tokens=plan.dead_window_tokens,
        memory_bytes=fits.peak_bytes,
        start_digest=spec.start_from.digest if spec.start_from else None,
    )
    yield events.Phase(step=state.step, phase="training")
    with Saver(run_dir / "checkpoints", stop) as saver:
        try:

            def label() -> dict[str, Any]:
                return {
                    "identity": _identity(spec, tokens),
                    "dtype": dtype_name(dtype),
                    "held": dtype_name(held),
                    "most_contexts": reader.forward.most_contexts,
                }

            shortage = Shortage(plan, state.micro, reader.forward)

            def news(step: int) -> Iterator[events.Warned]:
                yield from shortage.look(step)
                if shelf:
                    yield from shelf.news(step)

            with stream.read_ahead(left, device) if fits.reads_ahead else nullcontext():
                stopped = yield from _steps(
                    state, plan, stream, Clock(stream), saver, label, split.n_usable, news
                )
            yield from saver.wait()
            if stopped and ranks.any(pause()):
                yield events.Paused(step=state.step)
                return
            _make_whole(state, plan)
            if not ranks.first:
                return
            ended = yield from _result(
                state, plan, spec, reader, split, run_dir / "sae", stopped, stop
            )
            if shelf:
                yield from shelf.news(state.step)
        except Exception:
            # What was saved is told before what went wrong.
            yield from saver.wait()
            raise
    yield ended


def _steps(
    state: State,
    plan: Plan,
    stream: Stream,
    clock: Clock,
    saver: Saver,
    label: Callable[[], dict[str, Any]],
    n_usable: int,
    news: Callable[[int], Iterator[events.Warned]],
) -> Generator[events.Event, None, bool]:
    """Train to the last step or until stopped, then save the state; whether it was stopped."""
    h, divergence = plan.hyperparameters, Divergence()
    while state.step < h.num_steps:
        yield from saver.done()
        try:
            batch = stream.next()
        except StopRequested:
            yield from _save(state, plan, saver, label)
            return True
        resampled = advance(state, plan, batch)
        if divergence.found(state.window.loss_sum):
            raise _diverged(state.step)
        state.position = stream.position
        clock.add(batch)
        yield from news(state.step)
        if resampled:
            yield events.Resampled(step=state.step, count=resampled)
        if state.step % h.log_interval == 0 or state.step == h.num_steps:
            point = _progress(state, plan, clock)
            yield point
            _check_finite(state)
            yield from state.diagnosis.look(point, state.sae.weights, state.penalty, n_usable)
            if _is_frame(h, state.step):
                density = density_histogram(state.dead.frequency().cpu())
                yield events.Density(step=state.step, tokens=state.dead.tokens, density=density)
        if state.step % h.checkpoint_interval == 0 or state.step == h.num_steps:
            yield from _save(state, plan, saver, label)
            clock.restart()
    return False


def _is_frame(h: Hyperparameters, step: int) -> bool:
    """Whether the density histogram is told at this logged step: at so many of them, evenly."""
    logged = -(-h.num_steps // h.log_interval)
    every = max(1, -(-logged // _FRAMES))
    return step == h.num_steps or step % (every * h.log_interval) == 0


def _result(
    state: State,
    plan: Plan,
    spec: RunSpec,
    reader: Reader,
    split: Split,
    out: Path,
    stopped: bool,
    beat: Callable[[], object],
) -> Generator[events.Event, None, events.Ended]:
    """Look at what there is on tokens it has never seen, and export it; the last event."""
    yield events.Phase(step=state.step, phase="evaluating")
    most = _STOPPED_EVALUATION_TOKENS if stopped else None
    layers = plan.layers if plan.architecture.spans else ()
    side = split.held_out
    evaluation = evaluate(state.sae, state.normalizer, reader, side, most, beat, layers)
    yield events.Phase(step=state.step, phase="exporting")
    manifest = reader.tokens.manifest
    metadata = {
        "context_size": manifest.context_length,
        "prepend_bos": manifest.bos,
        "l0": evaluation.metrics["l0"],
        "steps": state.step,
        "evaluation": evaluation.metrics,
    }
    exported = export(state.sae, state.normalizer, plan, spec, out, metadata, evaluation)
    if exported.why_plain:
        message = f"{exported.why_plain}: the SAE is saved as plain safetensors, see its cfg.json."
        yield events.Warned(step=state.step, code="export", message=message)
    ended = events.Stopped if stopped else events.Completed
    return ended(
        step=state.step,
        sae_path=str(exported.path),
        final_loss=state.final_loss(),
        evaluation=evaluation.metrics,
        export={"format": exported.format, "max_difference": exported.max_difference},
    )


def _shelf(reading: Reading) -> Generator[events.Event, None, Shelf | None]:
    """The run's part of the cache; a cache that cannot be used costs time and no more."""
    if reading.cache is None:
        return None
    try:
        return reading.shelf(reading.cache)
    except OSError as error:
        message = f"The activation cache cannot be used ({error}); everything is computed."
        yield events.Warned(step=0, code="cache_unusable", message=message)
        return None


def _identity(spec: RunSpec, tokens: Tokens) -> dict[str, str]:
    """What a checkpoint must share with the run that goes on from it."""
    found = {"config": spec.config.digest(), "tokens": tokens.digest}
    return found | {"start": spec.start_from.digest} if spec.start_from else found


def _unsaid(spec: RunSpec, identity: dict[str, str]) -> dict[str, str]:
    """The start of a checkpoint of this very attempt, whose spec was written before that was read:
    a lost rank has the others begin again with it."""
    told = spec.start_from is not None and not spec.start_from.digest
    return {"start": identity["start"]} if told and "start" in identity else {}


def _agreed(fits: Preflight, ranks: Ranks) -> Preflight:
    """What fits on every rank."""
    count, waits = ranks.most(fits.micro_batches), ranks.any(not fits.reads_ahead)
    return replace(fits, micro_batches=count, reads_ahead=not waits)


def _newest(
    spec: RunSpec, run_dir: Path, tokens: Tokens, plan: Plan, ranks: Ranks
) -> Generator[events.Event, None, _Loaded | None]:
    """The first checkpoint that verifies, or None; harmed ones are set aside.

    Of several ranks the first one looks, and each takes its own part of what it has found; after a
    lost rank that is what this attempt has saved itself.
    """
    if ranks.alone:
        found = yield from _verified(spec, spec.resume_from, tokens, load_file)
        return found and found[1]
    read = partial(own_pieces, latents=plan.d_sae, ranks=ranks)
    found = None
    if ranks.first:
        paths = (*checkpoint.newest_first(run_dir / "checkpoints"), *spec.resume_from)
        found = yield from _verified(spec, paths, tokens, read)
    path = ranks.told(found and str(found[0]))
    if ranks.first or path is None:
        return found and found[1]
    return checkpoint.load(Path(path), read, verified=True)


def _verified(
    spec: RunSpec,
    paths: tuple[Path, ...],
    tokens: Tokens,
    read: Callable[[Path], dict[str, Tensor]],
) -> Generator[events.Event, None, tuple[Path, _Loaded] | None]:
    """The first of these checkpoints that verifies, and where it lies."""
    for folder in {path.parent for path in paths}:
        checkpoint.remove_unfinished(folder)
    for path in paths:
        try:
            tensors, numbers = checkpoint.load(path, read)
            if numbers["identity"] != _identity(spec, tokens) | _unsaid(spec, numbers["identity"]):
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


def _save(
    state: State, plan: Plan, saver: Saver, label: Callable[[], dict[str, Any]]
) -> Generator[events.Event, None, None]:
    _check_finite(state)
    (tensors, numbers), ranks = state.snapshot(), state.sae.ranks
    if not ranks.alone:
        yield from saver.wait()  # or two whole states lie in memory, this and the one before
        tensors = gathered(tensors, plan.d_sae, ranks)
    if ranks.first:
        numbers |= label()
        yield from saver.begin(state.step, tensors, numbers, state.last_fvu, copied=not ranks.alone)


def _make_whole(state: State, plan: Plan) -> None:
    """Give the first rank the SAE with all latents; elsewhere nothing of it is left.

    What only a step needs is given up first: the whole SAE may be larger than a rank's own share
    with its moments, and lies on the same device.
    """
    sae, ranks = state.sae, state.sae.ranks
    if ranks.alone:
        return
    kind, activation, device = type(sae), sae.activation, sae.weights["b_dec"].device
    own = {f"weights.{name}": weight for name, weight in sae.weights.items()}
    found = gathered(own, plan.d_sae, ranks)
    del state.optimizer, own, sae
    state.sae = kind({}, activation)
    memory.release()
    state.sae.weights |= {name.partition(".")[2]: w.to(device) for name, w in found.items()}


def _check_finite(state: State) -> None:
    """Stop before broken weights are saved; looked at only where the host waits anyway."""
    loss = state.final_loss()
    if (loss is None or math.isfinite(loss)) and state.sae.is_finite():
        return
    raise _diverged(state.step)


def _diverged(step: int) -> TrainingError:
    return TrainingError(
        f"The loss is no longer a finite number at step {step}: training has diverged. "
        "Lower the learning rate, or check the model's activations."
    )


def _progress(state: State, plan: Plan, clock: Clock) -> events.Progress:
    """Read and clear the window."""
    metrics, h = state.window.read(), plan.hyperparameters
    state.window.clear()
    state.last_loss = metrics["loss"]
    state.last_fvu = metrics["fvu"] if math.isfinite(metrics["fvu"]) else None
    return events.Progress(
        step=state.step,
        loss=metrics["loss"],
        l0=metrics["l0"],
        l1=metrics["l1"],
        reconstruction_loss=metrics["reconstruction_loss"],
        fvu=metrics["fvu"],
        fvu_skip=metrics.get("fvu_skip"),
        fvu_latents=metrics.get("fvu_latents"),
        dead_neurons=state.dead.count(),
        dead_window_tokens=state.dead.tokens,
        progress_pct=100 * state.step / h.num_steps,
        tokens_seen=state.step * h.batch_size,
        learning_rate=learning_rate(plan, state.step),
        coefficient=state.penalty.read(state.step),
        **clock.read(),
    )
