"""A hub on loopback: it serves a folder as a data set or a model at one commit, as far as the libraries ask for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit


class Hub(ThreadingHTTPServer):
    """Serves the files of `folder` as the repository `name` at the commit `revision`; `asked` has what was asked."""

    daemon_threads = True

    def __init__(self, folder: Path, name: str, revision: str, *, model: bool = False) -> None:
        self.folder, self.name, self.revision = folder, name, revision
        self.api = f"/api/{'models' if model else 'datasets'}/{name}/"
        self.files = f"/{'' if model else 'datasets/'}{name}/"
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def address(self) -> str:
        """What `HF_ENDPOINT` is to be."""
        return f"http://127.0.0.1:{self.server_port}"

    def entries(self) -> list[dict[str, Any]]:
        """Files and folders as the hub lists them."""
        return [
            {
                "type": "file" if path.is_file() else "directory",
                "path": path.relative_to(self.folder).as_posix(),
                "size": path.stat().st_size if path.is_file() else 0,
                "oid": hashlib.sha1(path.read_bytes() if path.is_file() else b"").hexdigest(),
            }
            for path in sorted(self.folder.rglob("*"))
        ]


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["paths"]
        self._json([each for each in self.server.entries() if each["path"] in asked])

    def _answer(self, *, with_body: bool) -> None:
        hub = self.server
        path = unquote(urlsplit(self.path).path)
        hub.asked.append(f"{self.command} {path}")
        api, files = hub.api, f"{hub.files}resolve/{hub.revision}/"
        if path.startswith(files) and (file := hub.folder / path.removeprefix(files)).is_file():
            self._send(200, file.read_bytes(), with_body=with_body)
        elif path == f"{api}revision/{hub.revision}":
            siblings = [{"rfilename": each["path"]} for each in hub.entries() if each["type"] == "file"]
            self._json({"id": hub.name, "sha": hub.revision, "siblings": siblings, "private": False, "tags": []})
        elif path.startswith(tree := f"{api}tree/{hub.revision}"):
            below = path.removeprefix(tree).strip("/")
            self._json([each for each in hub.entries() if not below or each["path"].startswith(f"{below}/")])
        else:
            known = path.startswith((api, hub.files))
            error = "EntryNotFound" if path.startswith(files) else "RevisionNotFound" if known else "RepoNotFound"
            self._send(404, b"{}", {"X-Error-Code": error}, with_body=with_body)

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"}, with_body=True)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, with_body: bool) -> None:
        self.send_response(status)
        etag = hashlib.sha1(body).hexdigest()
        named = {"X-Repo-Commit": self.server.revision, "ETag": f'"{etag}"', "Content-Length": str(len(body))}
        for name, value in (named | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def serving(folder: Path, name: str, revision: str, *, model: bool = False) -> Iterator[Hub]:
    """A hub within a block."""
    with Hub(folder, name, revision, model=model) as hub:
        thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
