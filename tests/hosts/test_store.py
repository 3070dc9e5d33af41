"""Hosts that share no folder, only a store: a run is handed over, and others have its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hosts.lab import lab, why_not
from tests.hosts.test_hosts import seen, start, stopped, under_way
from tests.studio import wait_for

REASON = why_not()
pytestmark = [
    pytest.mark.studio,
    pytest.mark.skipif(bool(REASON), reason=f"There can be no lab here: {REASON}"),
]


def test_a_run_is_handed_over_through_the_store(tmp_path: Path) -> None:
    with lab(tmp_path, ("ada", "bell"), apart=True) as some:
        sent = some.studio.manage("fill_store")
        assert "are in the store, 0 are not" in sent
        for host in some.hosts.values():
            host.start("trainer")
        wait_for(lambda: len(seen(some)) == 2, "both hosts", 120, every=0.5)

        start(some, "handed over", num_steps=100_000)
        first = under_way(some, "handed over")
        some.studio.manage("workers", "--drain", first["host"])
        second = under_way(some, "handed over", attempt=2)
        assert second["host"] != first["host"]
        assert second["run_facts"]["resumed_from"] >= 1000
        assert stopped(some, "handed over")["attempt"] == 2

        # Neither host shows the other its folder, and the one that looks has none of it yet.
        folder = Path("trainings", some.id_of("handed over"))
        assert some.apart
        made = {name: (some.apart / name / folder) for name in some.hosts}
        attempts = {name: {path.name for path in made[name].glob("*")} for name in made}
        assert attempts[second["host"]] == {"attempt-1", "attempt-2"}
        assert attempts[first["host"]] == {"attempt-1"}
        assert not (some.home / folder).exists()
        assert some.ask(
            "from trainings import store\n"
            "run = Training.objects.get(name='handed over')\n"
            "for path in (run.sae.folder, run.log_of(1), run.log_of(2)):\n"
            "    store.fetch(path)\n"
            "from pathlib import Path\n"
            "rows = [Path(c.path) for c in run.checkpoints.all()]\n"
            "assert rows and all(map(store.has, rows))\n"
            "print(json.dumps((run.sae.folder / 'cfg.json').is_file()))"
        )
        assert "is in the store" in (some.home / folder / "attempt-1" / "log.jsonl").read_text()
