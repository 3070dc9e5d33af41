"""The arithmetic of docs/scaling.md, its simulations, and the page itself."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from types import ModuleType

import pytest

from tests.conftest import ROOT

_OWN = ("arithmetic", "hardware", "measured", "queueing", "simulated", "storage", "tables", "words")


@pytest.fixture(scope="module")
def scaling() -> Iterator[ModuleType]:
    folder = str(ROOT / "docs" / "experiments")
    sys.path.insert(0, folder)
    import scaling

    yield scaling
    sys.path.remove(folder)
    for name in ("scaling", *_OWN):
        sys.modules.pop(name, None)


def test_the_models_have_the_parameters_that_their_makers_publish(scaling: ModuleType) -> None:
    import hardware

    published = {"SmolLM2-135M": 134.5e6, "Llama-3.1-8B": 8.03e9, "Llama-3.1-70B": 70.6e9}
    for model in hardware.MODELS:
        assert model.parameters == pytest.approx(published[model.name], rel=0.001)
    assert hardware.GEMMA_2B.parameters == pytest.approx(2.614e9, rel=0.001)


def test_constants_are_those_of_the_engine(scaling: ModuleType) -> None:
    import arithmetic
    import hardware
    import queueing
    import torch

    from trainings.models.checkpoint import KEEP_NEWEST
    from trainings.models.lease import LEASE
    from workers import recorder, sweeper
    from workers.engine import preflight
    from workers.engine.activations import forward_tokens
    from workers.engine.bench import roofline
    from workers.engine.config import Hyperparameters

    given = Hyperparameters(latent_dim=4608)
    assert given.buffer_tokens == arithmetic.BUFFER_TOKENS
    assert given.checkpoint_interval == scaling.tables.DEFAULT_INTERVAL
    assert given.log_interval == scaling.tables.LOG_INTERVAL
    assert arithmetic.KEPT_CHECKPOINTS == KEEP_NEWEST + 1
    assert forward_tokens(torch.device("cuda")) == arithmetic.FORWARD_TOKENS["gpu"]
    assert forward_tokens(torch.device("cpu")) == arithmetic.FORWARD_TOKENS["cpu"]
    assert arithmetic.ADAM_BYTES == roofline._ADAM_BYTES
    assert (arithmetic._HIDDEN, arithmetic._INNER) == (preflight._HIDDEN, preflight._INNER)
    assert arithmetic._PAIR == preflight._PAIR_BYTES
    studio = queueing.Studio(1, 0.5)
    assert (studio.lease, studio.sweep_every) == (LEASE.total_seconds(), sweeper.EVERY)
    assert 1 / recorder.PUBLISH_EVERY == scaling.tables.WRITES
    peak = roofline.PEAKS["NVIDIA H100 80GB HBM3"]
    assert (peak.operations, peak.bytes) == (hardware.GPU_PEAK, hardware.H100_MEMORY)


def test_ranks_exchange_nothing_alone_and_share_the_latents(scaling: ModuleType) -> None:
    import arithmetic
    import hardware

    model, sae = hardware.LLAMA_8B, hardware.sae_of(hardware.LLAMA_8B, 32)
    assert arithmetic.Exchange.of(sae, 1).bytes == 0
    without = [arithmetic.step_seconds(sae, replace(hardware.H200, launch=0.0), n) for n in (1, 8)]
    assert without[0] / without[1] == pytest.approx(8)
    one = arithmetic.token_seconds(model, sae, hardware.H200)
    assert one / 8 < arithmetic.token_seconds(model, sae, hardware.H200, 8) < one / 7


def test_at_the_break_even_bandwidth_the_cache_is_as_fast_as_the_model(
    scaling: ModuleType,
) -> None:
    import arithmetic
    from hardware import H200, LLAMA_70B

    bandwidth = arithmetic.break_even_bandwidth(LLAMA_70B, H200)
    read = LLAMA_70B.activation_bytes / bandwidth
    assert read == pytest.approx(arithmetic.reading_seconds(LLAMA_70B, 1, H200))


def test_what_is_fitted_gives_back_what_was_measured(scaling: ModuleType) -> None:
    import hardware

    for sae, machine, floor in (
        (hardware.CPU_SAE, hardware.CPU, hardware.CPU_FLOOR),
        (hardware.GPU_SAE, hardware.H100, hardware.GPU_FLOOR),
    ):
        products = hardware.floor_operations(sae) / machine.products
        assert products + hardware.floor_bytes(sae) / machine.memory == pytest.approx(floor)


def test_predictions_are_as_near_as_the_page_says(scaling: ModuleType) -> None:
    import measured

    ratios = {check.what: check.ratio for check in measured.checks()}
    for what, ratio in ratios.items():
        assert 1 / 1.75 < ratio < 1.75, what
        if what.startswith("H100"):
            assert 0.745 <= ratio <= 1.25, what


def test_every_measured_figure_stands_in_the_page_it_is_from(scaling: ModuleType) -> None:
    import measured

    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for check in measured.checks():
        written = "4 min 10 s" if check.measured == 250 else f"{check.measured:,}"
        assert re.search(rf"(?<![\d.,]){re.escape(written)}(?![\d])", text), check.what


def test_waiting_is_known_for_one_and_two_servers(scaling: ModuleType) -> None:
    import queueing

    assert queueing.erlang_c(1, 0.8) == pytest.approx(0.8)
    # For two servers 2 ρ² / (1 + ρ).
    assert queueing.erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert queueing.closed_form(queueing.Studio(1, 0.5)).waited == pytest.approx(4 * 3600)


def test_a_simulation_repeats_and_meets_the_closed_form(scaling: ModuleType) -> None:
    import queueing
    import simulated

    studio = queueing.Studio(8, 0.7, mtbf=24 * queueing.HOUR)
    found = simulated.Repeated.of(studio, seeds=4, runs=2000)
    assert found == simulated.Repeated.of(studio, seeds=4, runs=2000)
    assert len({outcome.busy for outcome in found.outcomes}) == 4
    closed = queueing.closed_form(studio)
    assert found.mean("interruptions") > 200
    assert found.mean("lost") == pytest.approx(closed.lost, rel=0.1)
    assert found.mean("absent") == pytest.approx(closed.absent, rel=0.05)
    assert found.mean("busy") == pytest.approx(closed.busy, rel=0.05)


def test_an_interrupted_run_goes_on_from_its_checkpoint(scaling: ModuleType) -> None:
    """One run of one trainer that fails once: what it takes can be counted by hand."""
    import queueing

    studio = queueing.Studio(1, 0.5, per_host=1, mtbf=1e12, checkpoint_every=900, starting=60)
    simulation = queueing.Simulation(studio, 1)
    run, trainer = queueing._Run(0, work=5000, submitted=0), queueing._Trainer()
    trainer.run, trainer.begun, simulation.now = run, 0.0, 2000.0
    simulation._interrupt(trainer, run)
    assert run.done == 1800
    assert simulation._lost == [2000 - 60 - 1800]
    assert simulation._absent == [
        2070 - 2000
    ]  # the lease ends at 2,060, the sweeper looks at 2,070


def test_readers_that_have_enough_never_wait_and_others_share(scaling: ModuleType) -> None:
    import storage

    enough = storage.Shared(8, 1e9, 1.0, bandwidth=20e9, client=10e9)
    assert storage.simulated(enough) == pytest.approx(1, abs=0.001)
    half = replace(enough, bandwidth=4e9)
    assert storage.closed_form(half) == 0.5
    assert storage.simulated(half) == pytest.approx(0.5, rel=0.05)
    assert storage.simulated(half) == storage.simulated(half)


def _written(page: str, name: str) -> str:
    return page.partition(f"<!-- {name} -->\n")[2].partition("\n<!-- end -->")[0]


def test_the_page_is_what_the_command_writes(scaling: ModuleType) -> None:
    """All but the simulations, which take half a minute, and of the queue's one row."""
    import queueing
    import simulated

    page = scaling.PAGE.read_text(encoding="utf-8")
    assert scaling.named_in(page) == list(scaling.TABLES)
    slow = {name: _written(page, name) for name in ("queue", "file_system")}
    made = {**scaling.TABLES, **{name: partial(slow.get, name) for name in slow}}
    assert scaling.filled(page, made) == page
    row = simulated.queue_row(simulated.Repeated.of(queueing.Studio(1, 0.8, per_host=1)))
    assert simulated.table(row, []).partition("\n")[0] in slow["queue"]


def test_numbers_are_written_with_three_digits(scaling: ModuleType) -> None:
    import words

    assert words.number(1234.5) == "1,230"
    assert words.number(0.01234) == "0.0123"
    assert words.amount(1.5e9, "B") == "1.5 GB"
    assert [words.duration(n) for n in (0.0024, 90, 7200)] == ["2.4 ms", "90 s", "2 h"]
