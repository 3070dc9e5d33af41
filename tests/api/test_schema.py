"""Every operation of a running server, called with what its schema allows and what it does not."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.test_examples import token_of
from tests.browser.conftest import web
from tests.conftest import Studio

pytestmark = pytest.mark.studio
# What lies between fields, or what there is in the database, no schema says.
UNKNOWABLE = "positive_data_acceptance"
EXAMPLES = 20


@pytest.fixture
def server(redis_server: str, tmp_path: Path) -> Iterator[Studio]:
    """Without workers: what is made here is thrown away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAESTUDIO_API_CALLS", "1000000")
        studio = web(redis_server, tmp_path, "rows.gallery()")
    yield studio
    studio.stop()


@pytest.mark.parametrize(
    "phases", ["examples,coverage", pytest.param("fuzzing", marks=pytest.mark.long)]
)
def test_every_operation_does_what_its_schema_says(server: Studio, phases: str) -> None:
    tool = Path(sys.executable).with_name("schemathesis")
    words = [
        *(tool, "run", f"{server.url}/api/v1/openapi.json", "--header"),
        f"Authorization: Bearer {token_of(server)}",
        *("--exclude-checks", UNKNOWABLE, "--max-examples", f"{EXAMPLES}", "--seed", "1"),
        *("--phases", phases, "--no-color", "--generation-database", "none"),
    ]
    done = subprocess.run(
        [str(word) for word in words],
        cwd=server.home,
        env=server.environment | {"SCHEMATHESIS_HOOKS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    all_of_them = re.search(r"(\d+) selected / \1 total", done.stdout)
    assert all_of_them, done.stdout
    assert f"{all_of_them[1]} passed" in done.stdout
