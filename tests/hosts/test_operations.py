"""docs/operations.md, followed command by command in a fresh folder."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.on_postgres import binaries, cluster
from tests.studio import ROOT, OwnRedis, free_port

pytestmark = [pytest.mark.long, pytest.mark.studio]
GUIDE = ROOT / "docs" / "operations.md"
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What /etc/sae-studio.env says, with a PostgreSQL and a Redis of this test's own.

    And what this machine says of where its packages come from.
    """
    redis = OwnRedis(tmp_path / "redis")
    with tempfile.TemporaryDirectory(prefix="sae-guide-") as name, cluster(Path(name)) as url:
        redis.start()
        try:
            yield {
                **os.environ,
                "PATH": f"{binaries()}:{os.environ['PATH']}",
                "DATABASE_URL": url,
                "REDIS_URL": redis.url,
                "SAESTUDIO_HOME": str(tmp_path / "data"),
                "SAESTUDIO_PORT": str(free_port()),
                "SAESTUDIO_SECRET_KEY": "k" * 50,
                "SAE_STUDIO_SOURCE": str(ROOT),
                "FIRST_PASSWORD": "correct horse battery",
            }
        finally:
            redis.end()


def test_the_guide_from_installation_to_upgrade(
    surroundings: dict[str, str], tmp_path: Path
) -> None:
    blocks = BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
    assert len(blocks) == 6, "install, tables, start, back up, restore, upgrade"
    script = "\n".join(
        ["set -euxo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT", *blocks]
    )
    place = tmp_path / "opt"
    place.mkdir()
    log = tmp_path / "guide.log"
    with log.open("w") as out:
        done = subprocess.run(
            ["bash", "-c", script], cwd=place, env=surroundings, stdout=out, stderr=out
        )
    assert done.returncode == 0, log.read_text()[-4000:]
    with psycopg.connect(surroundings["DATABASE_URL"]) as restored:
        names = restored.execute("SELECT username FROM auth_user").fetchall()
    assert ("admin",) in names
    assert (place / "studio-data.tar").stat().st_size > 0
    seen = (place / "before.json").read_text()
    assert '"kind": "trainer"' in seen
