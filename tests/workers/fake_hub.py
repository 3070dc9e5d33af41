"""A model hub on this machine: as much of its protocol as its public library speaks with it."""

from __future__ import annotations

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
_REPOSITORY = re.compile(
    r"/(?:api/)?(?:(?P<kind>models|datasets)/)?(?P<id>[^/]+/[^/]+)"
    r"(?:/(?P<verb>revision|tree|paths-info|resolve|preupload|commit)/(?P<revision>[^/]+)"
    r"(?:/(?P<path>.*))?)?"
)


class Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the tests' screen."""

    def _answer(self, body: bytes = b"") -> None:
        match = _REPOSITORY.fullmatch(unquote(urlsplit(self.path).path))
        if match is None:
            return self._refuse(404, "EntryNotFound")
        kind, name = match["kind"] or "models", match["id"]
        folder = self.server.repository(kind, name)
        if not folder.is_dir():
            return self._refuse(404, "RepoNotFound")
        if match["revision"] not in (None, "main", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        if match["verb"] == "resolve":
            return self._file(folder / match["path"], f"{name}/{match['path']}")
        if match["verb"] == "paths-info":
            paths = json.loads(body)["paths"]
            found = [folder / path for path in paths if (folder / path).exists()]
            return self._json([_entry(folder, path) for path in found])
        if match["verb"] == "tree":
            below = folder / (match["path"] or "")
            if not below.exists():
                return self._refuse(404, "EntryNotFound")
            return self._json([_entry(folder, path) for path in sorted(below.rglob("*"))])
        return self._json(_information(folder, name) | {"private": name in self.server.private})

    def _file(self, path: Path, name: str) -> None:
        if name.rsplit("/", 1)[0] in self.server.gated:
            return self._refuse(403, "GatedRepo")
        if not path.is_file():
            return self._refuse(404, "EntryNotFound")
        if self.command == "GET":
            self.server.fetched.append(path.name)
        return self._send(path.read_bytes(), "application/octet-stream")

    def _json(self, value: Any) -> None:
        self._send(json.dumps(value).encode(), "application/json")

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, data: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class FakeHub(ThreadingHTTPServer):
    """Serves `root/models/<owner>/<name>` and `root/datasets/<owner>/<name>` at one commit."""

    daemon_threads = True
    handler = Handler

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), self.handler)
        self.root = root
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.fetched: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def repository(self, kind: str, name: str) -> Path:
        return self.root / kind / name


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    kind = "directory" if path.is_dir() else "file"
    size = path.stat().st_size if path.is_file() else 0
    name = str(path.relative_to(folder))
    content = path.read_bytes() if path.is_file() else name.encode()
    return {
        "type": kind,
        "path": name,
        "size": size,
        "oid": hashlib.sha1(content).hexdigest(),
    }


def _information(folder: Path, name: str) -> dict[str, Any]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        "_id": "1",
        "id": name,
        "sha": COMMIT,
        "siblings": [
            {"rfilename": str(path.relative_to(folder)), "size": path.stat().st_size}
            for path in files
        ],
    }
