"""Several hosts around one PostgreSQL and one Redis: who takes what, and who takes over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.hosts.lab import Lab, lab, why_not
from tests.studio import RECIPE, child_of, wait_for
from workers.release import version

REASON = why_not()
pytestmark = [
    pytest.mark.studio,
    pytest.mark.skipif(bool(REASON), reason=f"There can be no lab here: {REASON}"),
]
HOSTS = ("ada", "bell", "cray")
# What the driver of the one host with a GPU answers.
NVIDIA_SMI = """#!/bin/sh
case "$*" in *memory*) echo "NVIDIA H100 80GB HBM3, GPU-1, 1, 81559";; *) echo 0;; esac
"""


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three hosts, a trainer on each; `cray` has a GPU."""
    folder = tmp_path_factory.mktemp("lab")
    tools = folder / "bin"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(NVIDIA_SMI)
    (tools / "nvidia-smi").chmod(0o755)
    with lab(folder, HOSTS) as made:
        for name, host in made.hosts.items():
            path = made.environment["PATH"]
            host.start("trainer", {"PATH": f"{tools}:{path}" if name == "cray" else path})
        wait_for(lambda: len(seen(made)) == len(HOSTS), "a worker on every host", 120, every=0.5)
        yield made


def seen(here: Lab) -> list[dict[str, Any]]:
    """The trainers that live."""
    columns = ("host", "version", "cores", "gpus", "slot")
    found: list[dict[str, Any]] = here.ask(
        "rows = Worker.objects.alive().filter(kind='trainer').order_by('host')\n"
        f"print(json.dumps(list(rows.values(*{columns!r}))))"
    )
    return found


def start(here: Lab, name: str, needs: dict[str, Any] | None = None, **changes: Any) -> None:
    steps = {**RECIPE, "checkpoint_interval": 1000, "log_interval": 10, **changes}
    here.ask(
        "from workers.engine.config import TrainingConfig\n"
        f"c = TrainingConfig.model_validate(dict(architecture='standard', layer=1,"
        f" hyperparameters={steps!r}))\n"
        f"run = Training.objects.start(name={name!r}, tokenization=Tokenization.objects.get(),"
        f" config=c, needs=Needs(**{needs or {}!r}))\n"
        "print(json.dumps(str(run.pk)))"
    )


def sweep(here: Lab, name: str, varied: str, values: list[float], **changes: Any) -> list[str]:
    """The names of its trainings."""
    steps = {**RECIPE, "checkpoint_interval": 1000, "log_interval": 10, **changes}
    found: list[str] = here.ask(
        "from trainings import sweeps\n"
        f"base = dict(architecture='standard', layer=1, hyperparameters={steps!r})\n"
        f"asked = sweeps.Asked(base, {{{varied!r}: {values!r}}})\n"
        "source = Tokenization.objects.get()\n"
        "made = sweeps.members(asked, source)\n"
        f"sweep, _ = sweeps.start(name={name!r}, source=source, asked=asked, made=made)\n"
        "print(json.dumps(list(sweep.trainings.order_by('name').values_list('name', flat=True))))"
    )
    return found


def under_way(here: Lab, name: str, attempt: int = 1) -> dict[str, Any]:
    """The run once this attempt is past a checkpoint."""

    def past() -> dict[str, Any] | None:
        run = here.runs(name)
        fine = run["attempt"] == attempt and run["phase"] == "training"
        return run if fine and run["current_step"] >= 1200 else None

    found: dict[str, Any] = wait_for(past, f"{name} to train, attempt {attempt}", 240, every=0.3)
    return found


def stopped(here: Lab, name: str) -> dict[str, Any]:
    here.ask(
        f"pk = Training.objects.get(name={name!r}).pk\n"
        "print(json.dumps(Training.objects.request_stop(pk)))"
    )

    def over() -> dict[str, Any] | None:
        run = here.runs(name)
        return run if run["status"] == "stopped" else None

    found: dict[str, Any] = wait_for(over, f"{name} to stop", 120, every=0.3)
    return found


def test_workers_say_where_they_are_and_what_they_have(some: Lab) -> None:
    wait_for(lambda: any(w["gpus"] for w in seen(some)), "the GPU to be told", 60, every=0.5)
    found = {w["host"]: w for w in seen(some)}
    assert tuple(found) == HOSTS
    assert {w["version"] for w in found.values()} == {version()}
    assert [len(found[name]["gpus"]) for name in HOSTS] == [0, 0, 1]
    assert found["cray"]["gpus"][0]["name"] == "NVIDIA H100 80GB HBM3"


def test_a_run_goes_to_the_host_that_has_what_it_needs(some: Lab) -> None:
    for name in ("large 1", "large 2"):
        start(some, name, {"gpu_class": "H100", "gpu_memory_gb": 70})

    def over() -> bool:
        return all(some.runs(name)["status"] == "completed" for name in ("large 1", "large 2"))

    wait_for(over, "both runs to end", 240, every=0.5)
    assert {some.runs(name)["host"] for name in ("large 1", "large 2")} == {"cray"}


def test_what_nobody_has_waits_and_holds_up_nothing(some: Lab) -> None:
    start(some, "huge", {"gpu_count": 8})
    start(some, "small")
    wait_for(lambda: some.runs("small")["status"] == "completed", "the small run", 240, every=0.5)
    assert some.runs("huge")["status"] == "pending"
    assert stopped(some, "huge")["attempt"] == 0


def test_a_host_that_is_drained_hands_its_run_over(some: Lab) -> None:
    start(some, "handed over", num_steps=100_000)
    first = under_way(some, "handed over")
    some.studio.manage("workers", "--drain", first["host"])
    second = under_way(some, "handed over", attempt=2)
    assert second["host"] != first["host"]
    assert second["run_facts"]["resumed_from"] >= 1000
    assert second["interruptions"] == 0
    # The drained one begins nothing; the run goes on where it is.
    start(some, "elsewhere")
    wait_for(lambda: some.runs("elsewhere")["status"] == "completed", "it", 240, every=0.5)
    assert some.runs("elsewhere")["host"] not in (first["host"], second["host"])
    some.studio.manage("workers", "--take", first["host"])
    assert stopped(some, "handed over")["attempt"] == 2


def test_a_sweep_is_trained_by_one_process_and_moves_as_a_whole(some: Lab) -> None:
    names = sweep(some, "sweep", "l1_alpha", [0.0005, 0.001, 0.002], num_steps=100_000)
    first = [under_way(some, name) for name in names]
    assert len({run["worker"] for run in first}) == 1
    # The one process has the folder of one of them.
    assert len([name for name in names if child_of(some.id_of(name))]) == 1

    # One leaves it, and the others go on.
    assert stopped(some, names[1])["attempt"] == 1
    others = (names[0], names[2])
    assert {some.runs(name)["status"] for name in others} == {"running"}

    some.studio.manage("workers", "--drain", first[0]["host"])
    second = [under_way(some, name, attempt=2) for name in others]
    assert len({run["worker"] for run in second}) == 1
    assert second[0]["host"] != first[0]["host"]
    assert all(run["run_facts"]["resumed_from"] >= 1000 for run in second)
    some.studio.manage("workers", "--take", first[0]["host"])
    for name in others:
        stopped(some, name)


def test_a_host_of_another_version_begins_nothing(some: Lab) -> None:
    some.ask("print(json.dumps(Release.objects.update(version='0.0.1 (tables 1)')))")
    start(some, "waits for an upgrade")
    log = some.home / "ada-trainer.log"
    told = "No training is begun here. It runs SAE Studio"
    wait_for(
        lambda: any(told in (some.home / f"{n}-trainer.log").read_text() for n in HOSTS),
        "a worker to say so",
        60,
    )
    assert log.exists()
    assert some.runs("waits for an upgrade")["status"] == "pending"
    some.studio.manage("migrate", "--verbosity", "0")
    some.ask(
        "from trainings import nudge\n"
        "nudge.run(Training.objects.get(name='waits for an upgrade').pk)\n"
        "print(1)"
    )
    wait_for(
        lambda: some.runs("waits for an upgrade")["status"] == "completed", "it", 240, every=0.5
    )


def test_a_host_that_is_cut_off_loses_its_run_to_another(some: Lab) -> None:
    """It comes back, finds its run taken over, and ends what it did."""
    start(some, "cut off", num_steps=100_000)
    first = under_way(some, "cut off")
    lost = some.hosts[first["host"]]
    lost.pull_the_cable()
    second = under_way(some, "cut off", attempt=2)
    assert second["host"] != first["host"]
    assert second["run_facts"]["resumed_from"] >= 1000
    lost.plug_it_in()
    log = some.home / f"{first['host']}-trainer.log"
    wait_for(lambda: "was taken over" in log.read_text(), "the lost host's notice", 120, every=0.5)
    assert stopped(some, "cut off")["attempt"] == 2
    # It works again.
    others = [name for name in HOSTS if name != first["host"]]
    some.studio.manage("workers", "--drain", others[0])
    some.studio.manage("workers", "--drain", others[1])
    start(some, "back again")
    wait_for(lambda: some.runs("back again")["status"] == "completed", "it", 240, every=0.5)
    assert some.runs("back again")["host"] == first["host"]
