"""Redis and the database going away and coming back under a real studio."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import on_postgres
from tests.faults.conftest import Fault, Ground
from tests.faults.test_processes import gone, stop, training
from tests.studio import wait_for

pytestmark = [pytest.mark.fault, pytest.mark.studio, pytest.mark.long]

QUEUED, WAITING, KEPT = 5, 200, 3
WITHIN = 60.0


def expect_nothing_lost(ground: Ground, fault: Fault, pk: str) -> None:
    """Every point is there, and the first attempt made them all."""
    lost, attempts = ground.api.points_lost(pk), ground.api.get(pk)["attempt"]
    fault.measured |= {"points lost": lost, "attempts": attempts}
    assert (lost, attempts) == (0, 1)


def test_redis_is_killed_while_training(ground: Ground, fault: Fault) -> None:
    """SIGKILL of Redis under a training, back after 20 s: the run goes on meanwhile, and not one of
    its points is lost."""
    pk, child = training(ground.api, "no redis", beyond=100)
    ground.redis.end(signal.SIGKILL)
    step, begun = ground.api.get(pk)["current_step"], time.monotonic()
    wait_for(lambda: time.monotonic() - begun > 20, "20 s", 30)
    found = ground.api.get(pk)
    fault.measured["steps made meanwhile"] = found["current_step"] - step
    assert found["current_step"] > step
    ground.redis.start()
    stop(ground.api, pk)
    assert gone(child)
    fault.measured["points lost"] = ground.api.points_lost(pk)
    assert not fault.measured["points lost"]


def test_redis_is_down_while_a_run_is_started(ground: Ground, fault: Fault) -> None:
    """Redis down for 20 s while a run is started, and another one deleted: the answer is the same,
    and within 60 s of its return the run trains and the files are gone."""
    old = ground.api.start("to be deleted", num_steps=1000)
    ground.api.ended(old)
    folder = ground.studio.home / "trainings" / old
    assert folder.exists()
    ground.redis.end(signal.SIGKILL)
    begun = time.monotonic()
    with fault.timed("answered after"):
        pk = ground.api.start("no message", num_steps=1000)
    assert ground.api.delete(old) == 202
    wait_for(lambda: time.monotonic() - begun > 20, "20 s", 30)
    ground.redis.start()
    with fault.timed("training after"):
        wait_for(lambda: ground.api.get(pk)["attempt"] == 1, "the run to be claimed", WITHIN)
    with fault.timed("files gone after"):
        wait_for(lambda: not folder.exists(), "the files to be gone", WITHIN)
    found = ground.api.ended(pk)
    assert (found["status"], found["attempt"]) == ("completed", 1)


def test_queue_is_emptied(ground: Ground, fault: Fault) -> None:
    """FLUSHALL with five runs queued: the sweeper notices, and all of them complete."""
    import redis

    runs = [ground.api.start(f"flushed {n}", num_steps=1000) for n in range(QUEUED)]
    redis.Redis.from_url(ground.redis.url).flushall()
    found = [ground.api.ended(pk) for pk in runs]
    fault.measured["runs lost"] = QUEUED - sum(f["status"] == "completed" for f in found)
    assert [(f["status"], f["attempt"]) for f in found] == [("completed", 1)] * QUEUED


def test_a_long_queue_cancelled_at_random(ground: Ground, fault: Fault) -> None:
    """200 queued runs of which all but three are stopped or deleted at random, by four clients at
    once: those three complete, and every other one is what was asked for."""
    chance = random.Random(0)
    code = (
        "from trainings.models import *\nfrom workers.engine.config import TrainingConfig\n"
        "t = Tokenization.objects.get()\n"
        f"h = {{'num_steps': 1000, 'batch_size': 512, 'buffer_tokens': 8192}}\n"
        "c = TrainingConfig.model_validate("
        "{'architecture': 'standard', 'layer': 1, 'hyperparameters': h})\n"
        f"for n in range({WAITING}): "
        "print(Training.objects.start(name=f'queued {n}', tokenization=t, config=c).pk)"
    )
    runs = ground.studio.python(code).split()
    kept = chance.sample(runs[5:], KEPT)
    wishes = [(pk, chance.choice(("stop", "delete"))) for pk in runs if pk not in kept]
    chance.shuffle(wishes)

    def act(wish: tuple[str, str]) -> None:
        pk, what = wish
        status = ground.api.delete(pk) if what == "delete" else ground.api.post(pk, what)
        assert status in (200, 202, 409), (pk, what, status)

    with fault.timed("all asked for after"), ThreadPoolExecutor(4) as clients:
        list(clients.map(act, wishes))
    found = [ground.api.ended(pk) for pk in kept]
    assert [f["status"] for f in found] == ["completed"] * KEPT

    def unlike() -> list[tuple[str, str]]:
        return [
            (pk, what)
            for pk, what in wishes
            if ground.api.status(pk) not in (("gone",) if what == "delete" else ENDED)
        ]

    wait_for(lambda: not unlike(), "all the rest to be stopped or gone", 60, every=1.0)
    completed = sum(f["status"] == "completed" for f in found)
    fault.measured |= {"runs lost": KEPT - completed, "not as asked": len(unlike())}


# A run may have ended before it was asked to stop.
ENDED = ("stopped", "completed")


@pytest.mark.skipif(on_postgres.FOLDER not in os.environ, reason="on PostgreSQL alone")
def test_database_is_restarted(ground: Ground, fault: Fault) -> None:
    """PostgreSQL ended as by a power cut, and started, under a training: the run goes on, and not
    one of its points is lost."""
    pk, child = training(ground.api, "restarted", beyond=100)
    with fault.timed("database away for"):
        on_postgres.restart_at_once()
    with fault.timed("page back after"):
        wait_for(ground.api.reachable, "the page", 60)
    step = ground.api.get(pk)["current_step"]
    with fault.timed("points again after"):
        wait_for(lambda: ground.api.get(pk)["current_step"] > step + 100, "more steps", 60)
    assert not gone(child)
    stop(ground.api, pk)
    expect_nothing_lost(ground, fault, pk)


@pytest.mark.skipif(on_postgres.FOLDER in os.environ, reason="on SQLite alone")
def test_database_file_is_locked(ground: Ground, fault: Fault) -> None:
    """SQLite locked for 60 s under a training: its points wait, none is lost, and its lease, which
    nobody can take meanwhile, is kept."""
    pk, child = training(ground.api, "locked", beyond=100)
    other = sqlite3.connect(ground.studio.home / "db.sqlite3", isolation_level=None, timeout=20)
    other.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    wait_for(lambda: time.monotonic() - begun > WITHIN, "60 s", 70)
    other.execute("ROLLBACK")
    other.close()
    step = ground.api.get(pk)["current_step"]
    with fault.timed("points again after"):
        wait_for(lambda: ground.api.get(pk)["current_step"] > step, "new points", 60)
    assert not gone(child)
    stop(ground.api, pk)
    expect_nothing_lost(ground, fault, pk)
