"""A small lab on one machine: hosts in network namespaces around a server of their own.

Every host has a name, an address and a cable that can be pulled. The server's namespace holds
PostgreSQL, Redis, the sweeper and the worker for short jobs; all hosts share one folder, as labs
share one over the network, or each has its own at the same path and they share a store.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saestudio.programs import COMMANDS
from tests.on_postgres import cluster
from tests.studio import ROOT, OwnRedis, Studio

SERVER_ADDRESS, REDIS_PORT = "10.77.0.1", 6379
_TOOLS = ("ip", "unshare", "hostname", "sh")


def why_not() -> str:
    """Why this machine can hold no lab; empty where it can."""
    missing = [tool for tool in _TOOLS if not shutil.which(tool)]
    if missing:
        return f"{' and '.join(missing)} is not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    tried = subprocess.run(["unshare", "--net", "--uts", "true"], capture_output=True, text=True)
    return tried.stderr.strip()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@dataclass
class Host:
    """A machine of the lab."""

    name: str
    number: int
    lab: Lab
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return f"{self.lab.prefix}-{self.name}"

    @property
    def cable(self) -> str:
        """The server's end of it."""
        return f"to-{self.name}"

    def connect(self) -> None:
        server, address = self.lab.server, f"10.77.0.{10 + self.number}/24"
        _ip("netns", "add", self.namespace)
        end = ("type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        _ip("-n", server, "link", "add", self.cable, *end)
        _ip("-n", server, "link", "set", self.cable, "master", "switch", "up")
        _ip("-n", self.namespace, "link", "set", "lo", "up")
        _ip("-n", self.namespace, "addr", "add", address, "dev", "eth0")
        _ip("-n", self.namespace, "link", "set", "eth0", "up")

    def pull_the_cable(self) -> None:
        _ip("-n", self.lab.server, "link", "set", self.cable, "down")

    def plug_it_in(self) -> None:
        _ip("-n", self.lab.server, "link", "set", self.cable, "up")

    def start(self, program: str, more: Mapping[str, str] | None = None) -> None:
        self.processes.append(
            self.lab.run(
                self.namespace, self.name, program, {**(more or {}), "HOSTNAME": self.name}
            )
        )


@dataclass
class Lab:
    """All of it. `studio` is the same studio seen through the server's sockets on the disk.

    Where hosts have a folder each, they lie in `apart`, and `home` is that of whoever looks.
    """

    studio: Studio
    home: Path
    prefix: str
    apart: Path | None = None
    hosts: dict[str, Host] = field(default_factory=dict)
    services: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def server(self) -> str:
        return f"{self.prefix}-server"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.studio.environment,
            "DATABASE_URL": f"postgres://postgres@{SERVER_ADDRESS}/postgres",
            "REDIS_URL": f"redis://{SERVER_ADDRESS}:{REDIS_PORT}/0",
            "OMP_NUM_THREADS": "1",
        }

    def run(
        self, namespace: str, name: str, program: str, more: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """One of the studio's programs on the machine of that name."""
        words = [sys.executable, *COMMANDS[program]]
        there = ["ip", "netns", "exec", namespace, "unshare", "--uts"]
        named = ["sh", "-c", 'hostname "$0" && exec "$@"', name]
        if self.apart is not None:
            there.append("--mount")
            own = self.apart / name
            own.mkdir(exist_ok=True)
            mount = 'hostname "$0" && mount --bind "$1" "$2" && shift 2 && exec "$@"'
            named = ["sh", "-c", mount, name, str(own), str(self.home)]
        with (self.home / f"{name}-{program}.log").open("ab") as log:
            return subprocess.Popen(
                [*there, *named, *words],
                cwd=ROOT,
                env={**self.environment, **more},
                stdout=log,
                stderr=log,
            )

    def ask(self, code: str) -> Any:
        """What the code prints with Django's models at hand, read as JSON."""
        begin = "import json\nfrom trainings.models import *\nfrom trainings.needs import Needs\n"
        return json.loads(self.studio.python(begin + code))

    def id_of(self, name: str) -> str:
        """Of the training of this name."""
        found: str = self.ask(f"print(json.dumps(str(Training.objects.get(name={name!r}).pk)))")
        return found

    def runs(self, name: str) -> dict[str, Any]:
        """What the row of the training of this name says."""
        columns = (
            "status",
            "phase",
            "worker",
            "attempt",
            "current_step",
            "interruptions",
            "run_facts",
        )
        found: dict[str, Any] = self.ask(
            f"print(json.dumps(Training.objects.values(*{columns!r}).get(name={name!r})))"
        )
        return found | {"host": found["worker"].partition(":")[0]}


@contextmanager
def lab(folder: Path, names: tuple[str, ...], *, apart: bool = False) -> Iterator[Lab]:
    """Hosts with these names, connected, with no worker yet; `apart` with a folder each."""
    prefix = f"sae{os.getpid()}"
    server = f"{prefix}-server"
    inside = ["ip", "netns", "exec", server]
    with ExitStack() as until_the_end:
        _ip("netns", "add", server)
        until_the_end.callback(_ip, "netns", "delete", server)
        _ip("-n", server, "link", "set", "lo", "up")
        _ip("-n", server, "link", "add", "switch", "type", "bridge")
        _ip("-n", server, "addr", "add", f"{SERVER_ADDRESS}/24", "dev", "switch")
        _ip("-n", server, "link", "set", "switch", "up")

        # Not in the tests' folder, which the database's own user may not enter.
        data = until_the_end.enter_context(tempfile.TemporaryDirectory(prefix="sae-lab-"))
        url = until_the_end.enter_context(cluster(Path(data), SERVER_ADDRESS, inside))
        open_to = ("--bind", SERVER_ADDRESS, "--port", str(REDIS_PORT), "--protected-mode", "no")
        redis = OwnRedis(folder / "redis", inside, open_to)
        redis.start()
        until_the_end.callback(redis.end)

        home = folder / "shared"
        home.mkdir()
        studio = Studio.prepared(home, redis.url, url)
        until_the_end.callback(studio.stop)
        if apart:
            for name in ("store", "apart"):
                (folder / name).mkdir()
            studio.environment["SAESTUDIO_STORE"] = f"file://{folder / 'store'}"
            studio.manage("migrate", "--verbosity", "0")  # so the store is the studio's
        studio.python("from tests.tiny import seed; seed()")
        made = Lab(studio, home, prefix, folder / "apart" if apart else None)
        until_the_end.callback(_end, made)
        for number, name in enumerate(names):
            host = made.hosts[name] = Host(name, number, made)
            host.connect()
            until_the_end.callback(_ip, "netns", "delete", host.namespace)
        made.services = [made.run(server, "server", name, {}) for name in ("sweeper", "jobs")]
        yield made


def _end(made: Lab) -> None:
    processes = [*made.services, *(p for host in made.hosts.values() for p in host.processes)]
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
