"""Ranks that are started again find each other, whatever those before have left in the store."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from torch.distributed import TCPStore

from tests.engine.test_process import ENVIRONMENT
from tests.studio import ROOT

# The second rank is there first, and would read the address that the first had before.
RANK = """
import os, sys, time
from pathlib import Path
from workers.engine.ranks.group import together
there = Path(sys.argv[1])
if os.environ["RANK"] == "0":
    while not there.exists():
        time.sleep(0.01)
else:
    there.touch()
with together() as ranks:
    print(ranks.most(int(os.environ["RANK"])))
"""


def test_a_second_start_reads_nothing_of_the_first(tmp_path: Path) -> None:
    store = TCPStore("localhost", 0, is_master=True, timeout=timedelta(seconds=60))
    for start in range(2):
        ranks = [
            subprocess.Popen(
                [sys.executable, "-c", RANK, str(tmp_path / f"there-{start}")],
                stdout=subprocess.PIPE,
                text=True,
                env=ENVIRONMENT | _told(rank, start, store.port),
            )
            for rank in range(2)
        ]
        try:
            assert [rank.communicate(timeout=90)[0] for rank in ranks] == ["1\n", "1\n"]
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()


def _told(rank: int, start: int, port: int) -> dict[str, str]:
    """What the agent tells a rank."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "a run",
        "TORCHELASTIC_RESTART_COUNT": str(start),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": str(ROOT),
    }
