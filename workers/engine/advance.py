"""One optimizer step of a run."""

from __future__ import annotations

from . import micro
from .activations import Activations
from .config import Plan
from .normalize import Normalized
from .resample import resample
from .sae import Step
from .schedule import learning_rate
from .state import State


def advance(state: State, plan: Plan, batch: Activations) -> int:
    """Train on a batch. Returns how many dead latents were resampled after the step."""
    h, sae, number = plan.hyperparameters, state.sae, state.step + 1
    normalized, step = state.micro.fitting(
        sae, len(batch), lambda count: _computed(state, batch, number, count)
    )
    state.optimizer.step(step.gradients, learning_rate(plan, number))
    sae.project()
    sae.observe(step)
    share = (step.loss - step.auxiliary) / step.reconstruction_loss - 1
    state.penalty.observe(number, step.l0, share)
    state.dead.add(step.fired_F, len(batch))
    state.step = number
    due = h.resample_steps and number % h.resample_steps == 0 and number < h.num_steps
    return _resample(state, plan, normalized, step) if due else 0


def _computed(
    state: State, batch: Activations, number: int, micro_batches: int
) -> tuple[Normalized, Step]:
    """All of a step that takes memory. Nothing is changed but the window, and that at the end."""
    sae, dead = state.sae, state.dead.indices
    normalized = state.normalizer(batch.x, batch.y)
    coefficient = state.penalty.coefficient(number)
    step = micro.step(sae, normalized.x, normalized.y, coefficient, dead, micro_batches)
    sae.remove_parallel(step.gradients)
    terms = [step.loss, step.reconstruction_loss, step.l0, step.l1]
    skip_BO = None if step.skip_BO is None else step.skip_BO + sae.weights["b_dec"]
    state.window.add(batch, normalized, step.residual_BO, terms, skip_BO)
    return normalized, step


def _resample(state: State, plan: Plan, normalized: Normalized, step: Step) -> int:
    dead = state.dead.known()  # here the host waits: it tells how many there were
    if dead is None:
        return 0
    resample(
        state.sae,
        dead,
        normalized.x,
        step,
        same_space=not plan.has_own_target,
        # One seed per step and run: the draw needs no state of its own to be repeated.
        seed=plan.hyperparameters.seed * 1_000_003 + state.step,
    )
    state.optimizer.reset(dead)
    state.dead.restart()
    return state.sae.ranks.total(len(dead))
