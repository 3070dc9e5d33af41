"""The hub of `fake_hub.py` for those who write to it: repositories, large files, commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

from .fake_hub import FakeHub, Handler

_COMMIT = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+)/(?P<verb>preupload|commit)/main")
_LARGE_FILES = re.compile(r"/(?P<id>[^/]+/[^/]+)\.git/info/lfs/objects/batch")
_OBJECT = re.compile(r"/objects/(?P<oid>[0-9a-f]{64})")


class WritingHandler(Handler):
    server: WritableHub

    def do_PUT(self) -> None:
        match = _OBJECT.fullmatch(self.path)
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if match is None or hashlib.sha256(data).hexdigest() != match["oid"]:
            return self._refuse(400, "BadRequest")
        if self.server.broken_storage:
            return self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, "Full")
        self.server.objects[match["oid"]] = data
        return self._send(b"", "text/plain")

    def _answer(self, body: bytes = b"") -> None:
        path = self.path.partition("?")[0]
        if self.command == "POST" and path == "/api/validate-yaml":
            return self._validated(json.loads(body)["content"])
        commit, large = _COMMIT.fullmatch(path), _LARGE_FILES.fullmatch(path)
        if not (path == "/api/repos/create" or commit or large):
            return super()._answer(body)
        if refused := self._unauthorized():
            return self._refuse(refused, "Unauthorized")
        if large:
            return self._json(
                {"objects": [self._place(one) for one in json.loads(body)["objects"]]}
            )
        if commit and commit["verb"] == "commit":
            return self._commit(self.server.repository("models", commit["id"]), body)
        return self._json(_modes(json.loads(body))) if commit else self._create(json.loads(body))

    def _unauthorized(self) -> int:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token == self.server.writer:
            return 0
        return HTTPStatus.FORBIDDEN if token else HTTPStatus.UNAUTHORIZED

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        folder = self.server.repository("models", name)
        if folder.is_dir():
            self.send_response(HTTPStatus.CONFLICT)
            return self._body({"url": f"{self.server.url}/{name}"})
        folder.mkdir(parents=True)
        if asked.get("visibility") == "private":
            self.server.private.add(name)
        return self._json({"url": f"{self.server.url}/{name}"})

    def _place(self, asked: dict[str, Any]) -> dict[str, Any]:
        action = {"href": f"{self.server.url}/objects/{asked['oid']}"}
        return {**asked, "actions": {"upload": action}}

    def _commit(self, folder: Path, body: bytes) -> None:
        steps = [json.loads(line) for line in body.splitlines()]
        self.server.commits.append(steps)
        for step in steps:
            value = step["value"]
            if step["key"] == "deletedFile":
                (folder / value["path"]).unlink()
            elif step["key"] == "file":
                _write(folder / value["path"], base64.b64decode(value["content"]))
            elif step["key"] == "lfsFile":
                _write(folder / value["path"], self.server.objects[value["oid"]])
        oid = f"{len(self.server.commits):040x}"
        name = folder.relative_to(folder.parent.parent).as_posix()
        self._json({"commitOid": oid, "commitUrl": f"{self.server.url}/{name}/commit/{oid}"})

    def _validated(self, content: str) -> None:
        bad = [{"message": '"license" must be one of ...'}] if "no-such-licence" in content else []
        self.send_response(HTTPStatus.BAD_REQUEST if bad else HTTPStatus.OK)
        self._body({"errors": bad, "warnings": []})

    def _body(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class WritableHub(FakeHub):
    """One token may write. What was committed lies under `root`, as what is served does."""

    handler = WritingHandler

    def __init__(self, root: Path, writer: str = "hf_writer") -> None:
        super().__init__(root)
        self.writer = writer
        self.objects: dict[str, bytes] = {}
        self.commits: list[list[dict[str, Any]]] = []
        self.broken_storage = False


def _modes(asked: dict[str, Any]) -> dict[str, Any]:
    def mode(path: str) -> str:
        return "lfs" if path.endswith(".safetensors") else "regular"

    files = [
        {"path": one["path"], "uploadMode": mode(one["path"]), "shouldIgnore": False}
        for one in asked["files"]
    ]
    return {"files": files}


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
