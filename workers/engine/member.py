"""One training of those that read the same batches: its steps, its checkpoints, its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

from . import events, memory
from .activations import Activations, StopRequested
from .advance import advance
from .clock import Clock
from .config import Hyperparameters, Plan
from .divergence import Divergence
from .evaluate import density_histogram, evaluate
from .export import export
from .failure import TrainingError
from .prepared import Prepared
from .ranks.pieces import gathered
from .resuming import identity
from .saver import Saver
from .schedule import learning_rate
from .shortage import Shortage
from .source import Source
from .state import State

# A stopped run is evaluated on fewer tokens: whoever stops it is waiting.
_STOPPED_EVALUATION_TOKENS = 8192
# Of the density histogram, in a run.
_FRAMES = 48
Told = Generator[events.Event, None, bool]


class Member:
    """Every generator tells what happens and returns that it went well.

    `paused` says whether a run that is asked to stop is only put aside; `beat` is called where it
    does something long.
    """

    def __init__(
        self,
        prepared: Prepared,
        source: Source,
        paused: Callable[[], bool],
        beat: Callable[[], object],
    ) -> None:
        self._prepared, self._source, self._paused, self._beat = prepared, source, paused, beat
        self._plan, self._state = prepared.asked.plan, prepared.state
        self._saver = Saver(prepared.entry.run_dir / "checkpoints", beat)
        self._clock, self._divergence = Clock(source.stream), Divergence()
        self._shortage = Shortage(self._plan, self._state.micro, source.reader.forward)
        self._warned = 0  # of the source's warnings so many have been told
        self.training_id = prepared.entry.training_id

    def close(self) -> None:
        """What is being saved is waited for."""
        self._saver.close()

    @property
    def step(self) -> int:
        """Steps that are finished."""
        return self._state.step

    @property
    def num_steps(self) -> int:
        return self._plan.hyperparameters.num_steps

    @property
    def leaves(self) -> bool:
        """Whether it has made its last step, or was asked to stop."""
        return self.step >= self.num_steps or self._prepared.entry.leaves()

    def saved(self) -> Told:
        """What is being saved, once it is."""
        yield from self._saver.wait()
        return True

    def restart_clock(self) -> None:
        """What was done since its last step is no part of its time."""
        self._clock.restart()

    def settled(self) -> Told:
        """Estimate on the first tokens what a run begins with; False where it was stopped."""
        yield from self._cache_news()
        if self._prepared.resumed_from is not None:
            return True
        yield events.Phase(step=0, phase="normalizing")
        start, self._prepared.start = self._prepared.start, None  # its memory is the first step's
        try:
            first = self._source.stream.first_chunk()
        except StopRequested:
            yield self._nothing()
            return False
        self._state.settle(first, start.sae if start else None)
        return True

    def begun(self, memory_bytes: int) -> Told:
        yield self._prepared.started(self._source.cached_fraction, memory_bytes)
        yield events.Phase(step=self.step, phase="training")
        return True

    def advance(self, batch: Activations) -> Told:
        """Make the step on the batch that the source has given, unless it was made before."""
        if self.step >= self._source.step:
            self._clock.restart()
            return True
        state, plan, h = self._state, self._plan, self._plan.hyperparameters
        yield from self._saver.done()
        resampled = advance(state, plan, batch)
        if self._divergence.found(state.window.loss_sum):
            raise _diverged(state.step)
        state.position = self._source.stream.position
        self._clock.add(batch)
        yield from self._shortage.look(state.step)
        yield from self._cache_news()
        if resampled:
            yield events.Resampled(step=state.step, count=resampled)
        if state.step % h.log_interval == 0 or state.step == h.num_steps:
            yield from self._logged()
        if state.step % h.checkpoint_interval == 0 or state.step == h.num_steps:
            yield from self._save()
            self._clock.restart()
        return True

    def end(self) -> Told:
        """Save what is not saved, look at it on tokens it has never seen, and export it."""
        ranks, stopped = self._state.sae.ranks, self.step < self.num_steps
        if stopped:
            yield from self._save()
        yield from self._saver.wait()
        if stopped and self._paused():
            yield events.Paused(step=self.step)
            return True
        _make_whole(self._state, self._plan)
        if ranks.first:
            ended = yield from self._result(stopped)
            yield from self._cache_news()
            yield ended
        return True

    def _nothing(self) -> events.Event:
        """The end of a run that has no weights yet."""
        if self._paused():
            return events.Paused(step=0)
        return events.Stopped(step=0, sae_path=None, final_loss=None, evaluation=None, export=None)

    def _cache_news(self) -> Iterator[events.Warned]:
        """What has gone wrong with the cache, which concerns all, since this was last told."""
        for warned in self._source.warned[self._warned :]:
            self._warned += 1
            yield replace(warned, step=self.step)

    def _logged(self) -> Iterator[events.Event]:
        state, n_usable = self._state, self._prepared.asked.split.n_usable
        point = self._progress()
        yield point
        self._check_finite()
        yield from state.diagnosis.look(point, state.sae.weights, state.penalty, n_usable)
        if _is_frame(self._plan.hyperparameters, state.step):
            density = density_histogram(state.dead.frequency().cpu())
            yield events.Density(step=state.step, tokens=state.dead.tokens, density=density)

    def _progress(self) -> events.Progress:
        """Read and clear the window."""
        state, h = self._state, self._plan.hyperparameters
        metrics = state.window.read()
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
            learning_rate=learning_rate(self._plan, state.step),
            coefficient=state.penalty.read(state.step),
            **self._clock.read(),
        )

    def _save(self) -> Iterator[events.Event]:
        self._check_finite()
        (tensors, numbers), ranks = self._state.snapshot(), self._state.sae.ranks
        if not ranks.alone:
            # Or two whole states lie in memory, this and the one before.
            yield from self._saver.wait()
            tensors = gathered(tensors, self._plan.d_sae, ranks)
        if ranks.first:
            numbers |= self._label()
            fvu, copied = self._state.last_fvu, not ranks.alone
            yield from self._saver.begin(self.step, tensors, numbers, fvu, copied=copied)

    def _label(self) -> dict[str, Any]:
        """What a checkpoint says of what was read, and how."""
        prepared = self._prepared
        return {
            "identity": identity(prepared.entry.spec, prepared.asked.tokens),
            "most_contexts": self._source.reader.forward.most_contexts,
            **prepared.formats.names,
        }

    def _result(self, stopped: bool) -> Generator[events.Event, None, events.Ended]:
        """What there is, evaluated and exported; the last event."""
        state, plan, prepared = self._state, self._plan, self._prepared
        yield events.Phase(step=self.step, phase="evaluating")
        most = _STOPPED_EVALUATION_TOKENS if stopped else None
        layers = plan.layers if plan.architecture.spans else ()
        side, reader = prepared.asked.split.held_out, self._source.held_out
        evaluation = evaluate(state.sae, state.normalizer, reader, side, most, self._beat, layers)
        yield events.Phase(step=self.step, phase="exporting")
        manifest = prepared.asked.tokens.manifest
        metadata = {
            "context_size": manifest.context_length,
            "prepend_bos": manifest.bos,
            "l0": evaluation.metrics["l0"],
            "steps": self.step,
            "evaluation": evaluation.metrics,
        }
        spec, out = prepared.entry.spec, prepared.entry.run_dir / "sae"
        exported = export(state.sae, state.normalizer, plan, spec, out, metadata, evaluation)
        if exported.why_plain:
            message = (
                f"{exported.why_plain}: the SAE is saved as plain safetensors, see its cfg.json."
            )
            yield events.Warned(step=self.step, code="export", message=message)
        ended = events.Stopped if stopped else events.Completed
        return ended(
            step=self.step,
            sae_path=str(exported.path),
            final_loss=state.final_loss(),
            evaluation=evaluation.metrics,
            export={"format": exported.format, "max_difference": exported.max_difference},
        )

    def _check_finite(self) -> None:
        """Stop before broken weights are saved; looked at only where the host waits anyway."""
        loss = self._state.final_loss()
        if (loss is None or math.isfinite(loss)) and self._state.sae.is_finite():
            return
        raise _diverged(self.step)


def _is_frame(h: Hyperparameters, step: int) -> bool:
    """Whether the density histogram is told at this logged step: at so many of them, evenly."""
    logged = -(-h.num_steps // h.log_interval)
    every = max(1, -(-logged // _FRAMES))
    return step == h.num_steps or step % (every * h.log_interval) == 0


def _make_whole(state: State, plan: Plan) -> None:
    """Give the first rank the SAE with all latents; elsewhere nothing of it is left.

    What only a step needs is given up first: the whole SAE may be larger than a rank's own share
    with its moments, and lies on the same device.
    """
    sae, ranks = state.sae, state.sae.ranks
    if ranks.alone:
        return
    device = sae.weights["b_dec"].device
    emptied = type(sae)({}, sae.activation, layers=sae.layers)
    own = {f"weights.{name}": weight for name, weight in sae.weights.items()}
    found = gathered(own, plan.d_sae, ranks)
    del state.optimizer, own, sae
    state.sae = emptied
    memory.release()
    state.sae.weights |= {name.partition(".")[2]: w.to(device) for name, w in found.items()}


def _diverged(step: int) -> TrainingError:
    return TrainingError(
        f"The loss is no longer a finite number at step {step}: training has diverged. "
        "Lower the learning rate, or check the model's activations."
    )
