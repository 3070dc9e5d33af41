"""`python -m tests.on_postgres [pytest arguments]`: run tests on a PostgreSQL of their own.

Starts a throw-away cluster on a socket in a temporary folder. Without PostgreSQL on the machine it
says that the tests were skipped; with SAESTUDIO_REQUIRE_POSTGRES=1 that is an error.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

USER = "postgres"
FOLDER = "SAESTUDIO_TEST_POSTGRES"


def binaries() -> Path | None:
    """The folder of initdb and pg_ctl; Debian keeps them off the PATH, by version."""
    found = shutil.which("initdb")
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(found).parent if found else (versions[-1].parent if versions else None)


@contextlib.contextmanager
def cluster(folder: Path, address: str = "", inside: Sequence[str] = ()) -> Iterator[str]:
    """A running server; yields its DATABASE_URL, over a socket in the folder.

    It also listens at `address`, to anybody who reaches that; `inside` are words before the
    command that starts it.
    """
    place = binaries()
    assert place is not None
    data = folder / "data"
    # The server refuses to run as root, so root lends the folder to the server's own user.
    prefix = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    if prefix:
        shutil.chown(folder, USER)
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    initdb = [
        *prefix,
        str(place / "initdb"),
        "-D",
        str(data),
        "-U",
        USER,
        "--no-sync",
        "-A",
        "trust",
    ]
    subprocess.run(initdb, **quiet)  # type: ignore[call-overload]
    if address:
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {address}/24 trust\n")
    control = _control(data)
    options = f"-k {folder} -c listen_addresses='{address}' -c fsync=off"
    subprocess.run(
        [*inside, *control, "-l", str(folder / "log"), "-o", options, "start"],
        **quiet,  # type: ignore[call-overload]
    )
    try:
        yield f"postgres://{USER}@/postgres?host={folder}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)  # type: ignore[call-overload]


def _control(data: Path) -> list[str]:
    """pg_ctl over this cluster, as the user it runs under."""
    place = binaries()
    assert place is not None
    prefix = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    return [*prefix, str(place / "pg_ctl"), "-D", str(data), "-w"]


def restart_at_once() -> None:
    """End the tests' cluster as a power cut would, and start it again."""
    folder = Path(os.environ[FOLDER])
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    command = ["-m", "immediate", "-l", str(folder / "log"), "-o", options, "restart"]
    subprocess.run(
        [*_control(folder / "data"), *command],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )


def main() -> int:
    if binaries() is None:
        print("PostgreSQL is not installed: its tests were skipped.")  # noqa: T201
        return int(bool(os.environ.get("SAESTUDIO_REQUIRE_POSTGRES")))
    with tempfile.TemporaryDirectory(prefix="sae-pg-") as name, cluster(Path(name)) as url:
        environment = {**os.environ, "SAESTUDIO_TEST_DATABASE_URL": url, FOLDER: name}
        command = [sys.executable, "-m", "pytest", *sys.argv[1:]]
        return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
