"""Rows of every state a page can show, with curves as real runs have them."""

from __future__ import annotations

import json
import math
import os
import random
import time
import uuid
from datetime import timedelta
from typing import Any

from django.utils import timezone

from tests.cache_entry import identity
from trainings import sweeps
from trainings.cache import folder
from trainings.models import (
    Checkpoint,
    Dataset,
    LanguageModel,
    Rehearsal,
    Sae,
    Sweep,
    Tag,
    Tokenization,
    Training,
    TrainingMetric,
    Worker,
)
from trainings.models.rehearsal import digest
from trainings.sweeps import Asked
from workers.engine.cache import Manifest, OpenEntry
from workers.engine.config import Hyperparameters, TrainingConfig
from workers.engine.features import Feature, table
from workers.release import version

EVALUATION = {
    "tokens": 32768,
    "fvu": 0.0591,
    "l0": 32.0,
    "l1": 101.3,
    "reconstruction_loss": 0.0581,
    "alive": 4516,
    "alive_fraction": 0.9802,
    "density": {
        "start": -8.0,
        "width": 0.25,
        "counts": [0] * 14
        + [38, 61, 84, 120, 171, 240, 334, 462, 618, 741, 702, 498, 262, 118, 44, 15, 6, 2],
        "never": 92,
    },
}


KEPT = {
    "context_length": 256,
    "n_groups": 3072,
    "n_tokens": 12_533_760,
    "bytes_per_token": 1152,
}


def a_model(name: str = "SmolLM2-135M") -> LanguageModel:
    return LanguageModel.objects.get_or_create(
        name=name,
        source="hub",
        location=f"HuggingFaceTB/{name}",
        defaults={
            "architecture": "LlamaForCausalLM",
            "d_model": 576,
            "n_layers": 30,
            "context_length": 8192,
            "vocab_size": 49152,
            "dtype": "bfloat16",
            "size_bytes": 269_060_552,
            "status": "ready",
            "progress": 1.0,
        },
    )[0]


def a_tokenization() -> Tokenization:
    dataset = Dataset.objects.get_or_create(
        name="TinyStories",
        source="hub",
        location="roneneldan/TinyStories",
        defaults={
            "n_documents": 2_119_719,
            "size_bytes": 1_924_281_556,
            "status": "ready",
            "progress": 1.0,
        },
    )[0]
    return Tokenization.objects.get_or_create(
        dataset=dataset,
        model=a_model(),
        context_length=256,
        defaults={
            "n_tokens": 12_582_912,
            "n_contexts": 49_152,
            "status": "ready",
            "progress": 1.0,
        },
    )[0]


def a_run(name: str, *, architecture: str = "jumprelu", layer: int = 5, **columns: Any) -> Training:
    """A pending run, then whatever columns are given."""
    hyperparameters = columns.pop("hyperparameters", {"num_steps": 1000, "batch_size": 512})
    config = TrainingConfig(
        architecture=architecture,
        layer=layer,
        hyperparameters=Hyperparameters(**hyperparameters),
    )
    run = Training.objects.start(
        name=name,
        tokenization=a_tokenization(),
        config=config,
        pk=uuid.uuid5(uuid.NAMESPACE_OID, name),
        nudge_workers=False,
    )
    if columns:
        Training.objects.filter(pk=run.pk).update(**columns)
    run.refresh_from_db()
    return run


def a_point(step: int, steps: int) -> dict[str, Any]:
    """One progress event's numbers on a curve that falls as a real one does."""
    noise = random.Random(step).gauss(0, 1)
    done = step / steps
    fvu = 0.055 + 0.9 * math.exp(-9 * done) + 0.004 * noise
    return {
        "step": step,
        "loss": fvu * 1.3 + 0.01,
        "l0": 32 + 900 * math.exp(-8 * done) + 1.5 * noise,
        "l1": 101.0,
        "fvu": fvu,
        "reconstruction_loss": fvu * 0.98,
        "dead_neurons": int(30 + 400 * done * math.exp(-3 * done)),
        "tokens_seen": step * 512,
        "tokens_per_second": 5400 + 180 * noise,
        "learning_rate": 1e-4,
        "coefficient": 2e-4,
    }


def give_points(run: Training, last: int, better: float = 1.0) -> None:
    """Points up to a step; `better` than 1 falls faster."""
    points = [
        {**a_point(round(step * better), run.num_steps), "step": step, "tokens_seen": step * 512}
        for step in range(10, last + 1, 10)
    ]
    TrainingMetric.objects.bulk_create([TrainingMetric(training=run, **point) for point in points])
    latest = {**points[-1], "dead_window_tokens": 51_200}
    Training.objects.filter(pk=run.pk).update(current_step=last, latest=latest)


def running(name: str = "smollm2-135m-l5-jumprelu-8x", step: int = 750) -> Training:
    lease = timezone.now() + timedelta(days=1)
    run = a_run(
        name,
        status="running",
        phase="training",
        attempt=1,
        lease_expires_at=lease,
        started_at=timezone.now() - timedelta(minutes=4),
        run_facts={"device": "cpu", "dtype": "float32", "d_sae": 4608},
    )
    give_points(run, step)
    return run


def completed(name: str = "smollm2-135m-l5-topk-8x") -> Training:
    now = timezone.now()
    run = a_run(
        name,
        architecture="standard",
        hyperparameters={"num_steps": 1000, "batch_size": 512, "top_k_sparsity": 0.7},
        status="completed",
        attempt=1,
        started_at=now - timedelta(minutes=4, seconds=12),
        completed_at=now,
        final_loss=0.0581,
        sae_path="/data/sae/trainings/7c9a/attempt-1/sae",
        run_facts={"device": "cpu", "dtype": "float32", "d_sae": 4608, "cached_fraction": 1.0},
    )
    give_points(run, 1000, better=1.6)
    give_log(run)
    folder = "/data/sae/trainings/7c9a/attempt-1"
    Sae.objects.create(
        training=run,
        path=f"{folder}/sae",
        format="saelens",
        step=1000,
        evaluation=EVALUATION,
        export={"format": "saelens", "max_difference": 1e-6},
    )
    run.marks = [
        {"kind": "resampled", "step": 300, "text": "212 latents resampled"},
        {"kind": "resumed", "step": 600, "text": "Attempt 2 goes on from here"},
    ]
    run.notes = "Baseline for the layer sweep.\n\nFVU still falls at the end: train longer next."
    run.save(update_fields=["marks", "notes"])
    Tag.objects.give(run, ["baseline", "layer sweep"])
    for step, columns in {
        1000: {"fvu": 0.0468},
        900: {"fvu": 0.0461, "pinned": True},
        800: {"set_aside": "tensors.safetensors is not what the manifest says"},
    }.items():
        Checkpoint.objects.create(
            training=run,
            attempt=1,
            step=step,
            path=f"{folder}/checkpoints/step-{step:06d}",
            size_bytes=63_772_000,
            sha256="9f2c" * 16,
            **columns,
        )
    return run


def give_log(run: Training) -> None:
    """What such a run's log holds."""
    begun = run.started_at or timezone.now()
    entries = (
        (0, "INFO", "Attempt 1 starts"),
        (1, "INFO", "Loading model"),
        (4, "INFO", "Starts from step 0"),
        (5, "INFO", "Training"),
        (196, "INFO", "Checkpoint at step 800"),
        (221, "INFO", "Checkpoint at step 900"),
        (222, "WARNING", "step-000800 was not used: tensors.safetensors is not what it was"),
        (246, "INFO", "Checkpoint at step 1,000"),
        (247, "INFO", "Evaluating"),
        (251, "INFO", "Exporting"),
        (252, "INFO", "Completed at step 1,000"),
    )
    lines = (
        {"time": (begun + timedelta(seconds=at)).isoformat(), "level": level, "message": text}
        for at, level, text in entries
    )
    run.log_path.parent.mkdir(parents=True, exist_ok=True)
    run.log_path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def failed(name: str = "smollm2-135m-l11-standard-16x") -> Training:
    now = timezone.now()
    run = a_run(
        name,
        architecture="standard",
        layer=11,
        hyperparameters={
            "num_steps": 1000,
            "batch_size": 512,
            "latent_dim": 9216,
            "learning_rate": 1e-3,
        },
        status="failed",
        attempt=1,
        started_at=now - timedelta(minutes=2),
        completed_at=now,
        error_message="The loss was not a finite number at step 420. "
        "A smaller learning rate, or the gradient clip, usually helps.",
        run_warnings=[
            {
                "code": "dead_latents",
                "message": "41 % of the latents are dead.",
                "step": 400,
            }
        ],
    )
    give_points(run, 420, better=0.55)
    TrainingMetric.objects.filter(training=run, step__gt=390).update(loss=None, fvu=None)
    return run


def waiting(name: str = "smollm2-135m-l20-transcoder-8x") -> Training:
    return a_run(name, architecture="transcoder", layer=20)


def sweep(name: str = "smollm2-135m-l5-sweep") -> Sweep:
    """Six of one L1 alpha each, none of them beside another's: four run, one is done, one waits."""
    source = a_tokenization()
    asked = Asked(
        {
            "architecture": "standard",
            "layer": 5,
            "hyperparameters": {"num_steps": 1000, "batch_size": 512},
        },
        {"l1_alpha": [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016]},
    )
    made = sweeps.members(asked, source)
    row, _ = sweeps.start(name=name, source=source, asked=asked, made=made)
    now = timezone.now()
    alphas = sweeps.in_order(list(row.trainings.all()))
    for run, (l0, fvu) in zip(
        alphas, ((180, 0.031), (112, 0.042), (64, 0.07), (70, 0.085), (21, 0.14)), strict=False
    ):
        latest = {**a_point(500, 1000), "l0": l0, "fvu": fvu, "loss": fvu * 1.3}
        Training.objects.filter(pk=run.pk).update(
            status="running",
            phase="training",
            attempt=1,
            current_step=500,
            latest=latest,
            started_at=now - timedelta(minutes=3),
            lease_expires_at=now + timedelta(days=1),
        )
    ended = alphas[1]
    Training.objects.filter(pk=ended.pk).update(
        status="completed", current_step=1000, completed_at=now
    )
    Sae.objects.create(
        training=ended,
        path="/data/sae/trainings/7c9b/attempt-1/sae",
        format="saelens",
        step=1000,
        evaluation={**EVALUATION, "l0": 108.2, "fvu": 0.0391},
    )
    return row


def measured(layer: int = 15, **hyperparameters: Any) -> Rehearsal:
    """What the form's defaults, but for these, would take: measured three minutes ago."""
    config = TrainingConfig(
        architecture="standard", layer=layer, hyperparameters=Hyperparameters(**hyperparameters)
    )
    h, tokenization = config.hyperparameters, a_tokenization()
    steps = h.num_steps * 0.1742
    reading = (h.num_steps * h.batch_size + h.held_out_tokens) / 6159
    return Rehearsal.objects.update_or_create(
        digest=digest(tokenization, config),
        defaults={
            "tokenization": tokenization,
            "configuration": config.model_dump(mode="json"),
            "status": "done",
            "attempt": 1,
            "ended_at": timezone.now() - timedelta(minutes=3),
            "figures": {
                "seconds": steps + reading + 9,
                "tokens_per_second": h.batch_size / (h.batch_size / 6159 + 0.1742),
                "extraction_tokens_per_second": 6159.0,
                "step_seconds": 0.1742,
                "memory_bytes": 1_472_000_000,
                "memory_available_bytes": 16_400_000_000,
                "gpu_memory_bytes": None,
                "gpu_memory_available_bytes": None,
                "disk_bytes": 340_200_000,
                "device": "cpu",
                "dtype": "float32",
            },
        },
    )[0]


def preparing() -> None:
    """A tokenization on its way and a dataset that failed."""
    Tokenization.objects.create(
        dataset=a_tokenization().dataset,
        model=a_model(),
        context_length=1024,
        status="running",
        progress=0.43,
        progress_note="tokenizing, 5,410,816 tokens so far",
        lease_expires_at=timezone.now() + timedelta(days=1),
    )
    Dataset.objects.create(
        name="pile-uncopyrighted",
        source="hub",
        location="monology/pile-uncopyrighted",
        status="failed",
        error_message="There is no such dataset on Hugging Face, or it is private.",
    )


def kept(layer: int = 5, *, groups: int = 3072, age: float = 0.0, **names: str) -> None:
    """An entry of the activation cache of a likely size, most of it a hole in one file."""
    cache = folder()
    names = {"model": "SmolLM2-135M", "dataset": "TinyStories"} | names
    entry = OpenEntry(cache.path, Manifest(identity(layer), **names, **KEPT))
    for group in range(groups):
        entry.shard(group).touch()
    os.truncate(entry.shard(0), groups * 16 * 255 * KEPT["bytes_per_token"])
    entry.close()
    when = time.time() - age
    os.utime(entry.path / "lock", (when, when))


def cached() -> None:
    """Three entries, and two that had to make room."""
    kept(5, age=300)
    kept(6, groups=1290, age=7200)
    kept(11, age=90_000, dataset="pile-uncopyrighted")
    gone = {"model": "SmolLM2-135M", "hook": "resid_post", "bytes": 14_438_000_000}
    lines = [
        {
            "at": time.time() - 90_000,
            "id": "1f0c6b7de2a49c35",
            "dataset": "TinyStories",
            "layer": 20,
        },
        {"at": time.time() - 7200, "id": "77ab01c2d3e4f506", "dataset": "TinyStories", "layer": 12},
    ]
    text = "".join(json.dumps(gone | line) + "\n" for line in lines)
    (folder().path / "evictions.jsonl").write_text(text)


def workers() -> None:
    """Two hosts, in every state; seen as long as anybody looks."""
    seen = timezone.now() + timedelta(days=1)
    gpu = {"name": "NVIDIA H100 80GB HBM3", "memory_total": 85_520_809_984}
    facts: dict[str, Any] = {"version": version(), "cores": 64, "memory_total": 515_000_000_000}
    facts |= {"memory_available": 401_000_000_000, "seen_at": seen}
    for n, used in enumerate((61_300_000_000, 4_100_000_000, 0)):
        Worker.objects.create(
            kind="trainer",
            host="gpu-box-1",
            pid=4100 + n,
            slot=f"trainer-{n}",
            gpus=[gpu | {"uuid": f"GPU-{n}", "memory_used": used}],
            draining_since=seen if n == 1 else None,
            **facts,
        )
    small = {**facts, "cores": 8, "memory_total": 32_000_000_000}
    small["memory_available"] = 21_000_000_000
    for n, kind in enumerate(("jobs", "saes", "sweeper")):
        old = {"version": "0.0.9 (tables 9)"} if kind == "saes" else {}
        Worker.objects.create(kind=kind, host="web-1", pid=900 + n, slot=kind, **(small | old))
    gone = {"host": "web-1", "kind": "trainer", "pid": 899, "slot": "trainer", **small}
    Worker.objects.create(**(gone | {"seen_at": timezone.now() - timedelta(minutes=7)}))
    Training.objects.filter(status="running").update(worker="gpu-box-1:4100", lease_expires_at=seen)


def gallery() -> None:
    """One of each, the newest first on the page: running, waiting, completed, failed.

    And what a training on layer 5 would take, beside others short of memory on layer 6.
    """
    failed()
    completed()
    waiting()
    running()
    measured(layer=5)
    short = measured(layer=6)
    figures = short.figures | {"memory_available_bytes": 1_200_000_000}
    Rehearsal.objects.filter(pk=short.pk).update(figures=figures, beside_training=True)
    cached()
    workers()


MEASURED = {
    "explained_variance": 0.9409,
    "explained_variance_per_token": 0.9021,
    "mse": 401.2,
    "cosine": 0.9733,
    "l2_ratio": 0.9731,
    "relative_reconstruction_bias": 0.9996,
    "ce_clean": 2.3692,
    "ce_spliced": 2.4371,
    "ce_zero": 10.8027,
    "ce_recovered": 0.9919,
    "ce_recovered_error": 0.0011,
    "kl_spliced": 0.1391,
    "kl_zero": 8.4879,
    "kl_recovered": 0.9836,
    "splice_tokens": 8128,
    "dtype": "float32",
    "dead": 92,
    "rare": 61,
    "dense": 19,
    "max_decoder_cosine": {"mean": 0.2115, "median": 0.2048, "p99": 0.3578, "max": 0.5561},
    "encoder_decoder_cosine": {"mean": 0.7535, "median": 0.7633, "p99": 0.8624, "max": 0.9223},
}
LINE = [
    "    raise",
    " ValueError",
    '("',
    "no",
    " such",
    " latent",
    '")',
    "\n",
    "  def",
    " read",
    "(",
]


def a_feature(number: int) -> Feature:
    """One latent that fires on a word of a line of code, more or less strongly."""
    peak = number % len(LINE)
    largest = 3 + number % 7
    examples = []
    for k in range(12):
        values = [0.0] * len(LINE)
        values[peak] = round(largest * (1 - k / 20), 3)
        values[(peak + 1) % len(LINE)] = round(values[peak] * (k % 4) / 6, 3)
        examples.append({"tokens": LINE, "values": values, "peak": peak, "context": k})
    return Feature(
        id=number,
        frequency=0.3 / (1 + number),
        fired=round(78_336 / (1 + number)),
        maximum=float(largest),
        mean=largest / 3,
        examples=examples,
        histogram={"start": -2.0, "per_octave": 2, "counts": [3, 20, 71, 160, 233, 190, 64, 9]},
        promotes=[(word, 3.2 - i / 4) for i, word in enumerate(LINE[:10])],
        suppresses=[(word, i / 4 - 3.1) for i, word in enumerate(reversed(LINE[:10]))],
        neighbours=[((number + 7 * i) % 120, 0.31 - i / 40) for i in range(1, 9)],
    )


def an_sae(name: str = "smollm2-135m-l3-topk-8x") -> Sae:
    """With all that an SAE's page can show: measured, exported, its features collected."""
    run = completed(name)
    sae = run.sae
    sae.path, sae.evaluation = str(run.attempt_folder(1) / "sae"), EVALUATION | MEASURED
    sae.save()
    sae.folder.mkdir(parents=True, exist_ok=True)
    for file in ("cfg.json", "sae_weights.safetensors", "sparsity.safetensors"):
        (sae.folder / file).write_bytes(b"0" * 1234)
    about = {"tokens": 261_120, "contexts": 1024}
    table.write(sae.features_path, about, (a_feature(i) for i in range(120)))
    sae.export_path("sparsify").mkdir(parents=True, exist_ok=True)
    proof = {
        "read_by": "eai-sparsify 1.3.3",
        "max_difference": 2.4e-7,
        "digest": "9f2c" * 16,
        "files": {"layers.3/cfg.json": {"bytes": 231}, "layers.3/sae.safetensors": {"bytes": 2130}},
    }
    done = {"status": "done", "ended_at": timezone.now(), "tokenization": run.tokenization}
    sae.jobs.create(kind="export", format="sparsify", key="e", result=proof, **done)
    read = {
        "tokens": LINE,
        "cut": False,
        "latents": [
            {"id": i, "maximum": 5.0 - i / 3, "values": a_feature(i).examples[0]["values"]}
            for i in range(5)
        ],
        "strongest": [],
    }
    sae.jobs.create(kind="probe", text="".join(LINE), key="p", result=read, **done)
    for step in range(50, 1001, 50):
        counts = [0] * 32
        for i in range(18):
            middle = 21 + 5 * (1 - step / 1000)
            counts[14 + i] = round(700 * math.exp(-(((14 + i - middle) / 3) ** 2)))
        density = {**EVALUATION["density"], "counts": counts, "never": 300 - step // 5}
        run.densities.create(step=step, tokens=step * 512, density=density)
    return sae


def several_saes() -> None:
    """Five trained at two places, two taken in, and one that nobody has evaluated yet."""
    own = a_tokenization()
    for i, (architecture, layer, l0, fvu) in enumerate(
        (
            ("jumprelu", 5, 24.0, 0.112),
            ("jumprelu", 5, 61.3, 0.061),
            ("batchtopk", 5, 32.0, 0.089),
            ("batchtopk", 5, 64.0, 0.066),
            ("standard", 11, 88.5, 0.143),
        )
    ):
        name = f"smollm2-135m-l{layer}-{architecture}-{round(l0)}"
        run = a_run(name, architecture=architecture, layer=layer, status="completed", attempt=1)
        give_points(run, 1000, better=1 + i / 4)
        better = {"l0": l0, "fvu": fvu, "explained_variance": 1 - fvu, "dead": 40 + 30 * i}
        better |= {"alive": 4608 - 40 - 30 * i, "ce_recovered": 0.9985 - fvu / 9}
        figures = EVALUATION | MEASURED | better
        path = f"/data/sae/trainings/{i}a9c/attempt-1/sae"
        Sae.objects.create(training=run, path=path, format="saelens", step=1000, evaluation=figures)
    for name, k, figures in (
        ("layers.5", 32, {"l0": 32.0, "fvu": 0.094, "explained_variance": 0.906}),
        ("layers.5-wide", 64, {}),
    ):
        facts = {"architecture": f"TopK {k}", "layer": 5, "hook": "resid_post", "d_sae": 18432}
        latents = {"alive": 18_120, "dead": 312, "ce_recovered": 0.9871}
        Sae.objects.create(
            own_name=name,
            own_model=own.model,
            own_text=own,
            location=f"EleutherAI/sae-smollm2/{name}",
            facts=facts | {"target_layer": 5, "target_hook": "resid_post"},
            path=f"/data/sae/saes/{name}/sae",
            format="saelens",
            evaluation=EVALUATION | MEASURED | latents | figures if figures else {},
        )
