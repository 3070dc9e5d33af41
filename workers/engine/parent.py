"""A process that ends with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
# What a process may be told by the one that started it.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


def hold_back() -> None:
    """Have what this thread starts not hear its signals before it calls `hear`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def hear() -> None:
    """From now on; what came before comes now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def die_with_parent(number: signal.Signals, parent: int) -> None:
    """Have the kernel send this signal once the parent is gone, however it went (Linux).

    `parent` is its process id, as it knew itself: one that died before this line is found out. The
    signal comes once per thread of the parent, and also when the one that started this process
    ends alone.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        sys.exit(1)
