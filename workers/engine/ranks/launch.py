"""Starts the ranks of a run, as torchrun does, and passes on what it is told.

torchrun's agent takes SIGTERM for "end them all" and knows no SIGUSR1, so it runs in a thread here,
where it leaves signals alone; this process hears them and tells every rank. A rank that is lost has
the agent start all of them again, and they go on from the newest checkpoint.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import FrameType

import psutil
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ..events import Failed
from ..parent import hold_back
from ..voice import Voice
from .last_word import FAILED, forget, spoken

log = logging.getLogger(__name__)

# What a run's ranks are started again at most, and how often one looks at them (seconds).
RESTARTS = 3
_TICK = 0.1
# Where the agent keeps what it wants to know of each start.
_ATTEMPTS = "ranks"


def launch(
    run_dir: Path,
    count: int,
    words: Sequence[str],
    voice: Voice,
    asked: Mapping[signal.Signals, threading.Event],
) -> int:
    """Train with so many ranks on this machine; the exit status.

    `words` are the options of this process, for theirs; a signal that was `asked` for is sent to
    all of them.
    """
    forget(run_dir)
    _settle_environment(count)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=RESTARTS,
        logs_specs=DefaultLogsSpecs(log_dir=str(run_dir / _ATTEMPTS)),
    )
    command = ("-m", "workers.engine", *words, "--parent", str(os.getpid()), str(run_dir))
    os.dup2(voice.fileno(), sys.stdout.fileno())  # which is the ranks', too
    signal.signal(signal.SIGUSR2, _told_at_once)
    told: set[tuple[int, signal.Signals]] = set()
    with ThreadPoolExecutor(1, "agent", initializer=hold_back) as thread:
        agent = thread.submit(elastic_launch(config, sys.executable), *command)
        while not wait((agent,), timeout=_TICK).done:
            _pass_on(asked, told)
    shutil.rmtree(run_dir / _ATTEMPTS, ignore_errors=True)  # empty folders
    error = agent.exception()
    if error is None:
        return int(spoken(run_dir) == FAILED)
    log.error("The ranks of the run ended: %s", error)
    voice.say(Failed(step=0, error=sentence(error, count)))
    return 1


def _settle_environment(count: int) -> None:
    """Of this process, which the ranks inherit."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    # All are on this machine, whose own name may lead elsewhere or nowhere.
    loopback = next(name for name in psutil.net_if_addrs() if name.startswith("lo"))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    # Its warning that signals are not handled in a thread is what is wanted here.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.ERROR)


def _pass_on(
    asked: Mapping[signal.Signals, threading.Event], told: set[tuple[int, signal.Signals]]
) -> None:
    """Tell every rank once, those that are started later too."""
    for number, event in asked.items():
        if event.is_set():
            for rank in psutil.Process().children():
                if (rank.pid, number) not in told:
                    told.add((rank.pid, number))
                    _send(rank, number)


def _told_at_once(number: int, _frame: FrameType | None) -> None:
    for rank in psutil.Process().children():
        _send(rank, signal.Signals(number))


def _send(rank: psutil.Process, number: signal.Signals) -> None:
    try:
        rank.send_signal(number)
    except psutil.NoSuchProcess:
        log.info("Process %d had ended before it could be told.", rank.pid)


def sentence(error: BaseException, count: int) -> str:
    """What a researcher is told once nothing is started again."""
    if not isinstance(error, ChildFailedError):
        return f"The {count} processes of the run cannot be started: {error}."
    # One that a signal has killed, if any: the others only found that it was gone.
    rank, failure = min(error.failures.items(), key=lambda found: found[1].exitcode)
    how = failure.signal_name() if failure.exitcode < 0 else f"exit code {failure.exitcode}"
    return (
        f"The training's {count} processes were started {RESTARTS + 1} times, and each time one of "
        f"them was lost, at last number {rank + 1} ({how}). Most often memory ran out: try a "
        "smaller batch, buffer or latent dimension, or resume from the last checkpoint."
    )
