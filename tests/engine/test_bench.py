"""The bench measures what it says, and its report can be read by people and programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from workers.engine.bench import Options, bench, roofline, table
from workers.engine.bench.roofline import PEAKS, roofline_seconds
from workers.engine.bench.steps import Runner, cases
from workers.engine.bench.timing import Times, in_turns

SMALL = {"batch_size": 128, "d_sae": 128, "k": 4, "l0": 8, "rounds": 2, "device": "cpu"}


def test_a_ratio_is_the_median_of_pairs_of_one_round() -> None:
    ours, theirs = Times((1.0, 10.0, 2.0)), Times((3.0, 20.0, 10.0))
    assert ours.ratio(theirs) == 3.0  # 3, 2, 5: a slow round slows both


def test_contenders_take_turns_on_the_same_batches() -> None:
    heard: list[tuple[str, int]] = []

    def contender(name: str):  # type: ignore[no-untyped-def]
        return lambda batch: heard.append((name, int(batch)))

    batches = [torch.tensor(number) for number in range(3)]
    contenders = {"a": contender("a"), "b": contender("b")}
    times = in_turns(contenders, batches, 3, torch.device("cpu"))
    assert heard[4:] == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert len(times["a"].seconds) == 3


@pytest.mark.parametrize("case", cases(k=4, l0=8), ids=lambda case: case.name)
def test_a_case_has_the_active_latents_it_says(case) -> None:  # type: ignore[no-untyped-def]
    x_BD = torch.randn(1024, 32, generator=torch.Generator().manual_seed(0))
    runner = Runner(case, x_BD, 128, torch.device("cpu"))
    runner(x_BD)
    if case.k or case.l0:
        assert runner.l0() == pytest.approx(case.k or case.l0, rel=0.1)
    else:
        assert runner.l0() > 30


def test_the_report_has_every_part(
    model_folder: Path, tokens_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(model_path=model_folder, tokens_path=tokens_folder, layer=1, **SMALL)  # type: ignore[arg-type]
    report = bench(options)
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert {step["kind"] for step in found["steps"]} == {
        "standard",
        "topk",
        "jumprelu",
        "skip",
        "transcoder",
    }
    assert found["shape"] == {"B": 128, "D": 32, "F": 128, "K": 4}
    assert all(step["floor_percent"] > 0 for step in found["steps"])
    assert found["extraction"]["ratio"] > 0
    assert found["checkpoints"]["stalled_seconds"] > 0
    assert found["checkpoints"]["beside_seconds"] > 0
    assert found["end_to_end_tokens_per_second"] > 0
    text = table(report)
    assert "hand-over to the SAE" in text
    assert "of wall time at 1,000 steps" in text
    assert all(step["name"] in text for step in found["steps"])


def test_without_a_model_the_activations_are_made_up() -> None:
    report = bench(Options(**SMALL))  # type: ignore[arg-type]
    assert report.extraction is None
    assert report.shape["D"] == 576


def test_the_roofline_is_the_product_at_peak_and_adam_at_bandwidth() -> None:
    seconds = roofline_seconds(PEAKS["NVIDIA H200"], B=4096, D=2304, F=18432)
    product = 2 * 4096 * 2304 * 18432 / 989.5e12
    adam = 28 * (2 * 2304 * 18432 + 18432 + 2304) / 4.8e12
    assert seconds == pytest.approx(product + adam)


def test_a_known_device_has_its_share_of_the_roofline_in_the_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert roofline.peak_of(torch.device("cpu")) is None
    known = PEAKS["NVIDIA H200"]
    monkeypatch.setattr("workers.engine.bench.run.peak_of", lambda device: known)
    report = bench(Options(**SMALL))  # type: ignore[arg-type]
    least = 1000 * roofline_seconds(known, 128, 576, 128)
    assert report.roofline_milliseconds == pytest.approx(least)
    for step in report.steps:
        assert step.roofline_percent == pytest.approx(100 * least / step.milliseconds)
    assert "its roofline" in table(report)


@pytest.mark.interop
def test_a_peer_is_compared_with_its_own_kind() -> None:
    pytest.importorskip("sae_lens")
    report = bench(Options(**SMALL, with_peers=True))  # type: ignore[arg-type]
    lens = [peer for peer in report.peers if peer.library == "SAELens"]
    assert {peer.kind for peer in lens} == {"standard", "topk", "jumprelu"}
    for peer in lens:
        assert peer.ratios
        assert all(peer.kind in name or peer.kind == "topk" for name in peer.ratios)
    assert "SAELens" in table(report)
