"""From a model URI to a folder, with the real hub client against a hub on the loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from coxswain_workers.engine.errors import ModelNotFoundError
from coxswain_workers.replica.model_source import fetch_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"

FETCH = """
import sys
from coxswain_workers.engine.errors import ModelError
from coxswain_workers.replica.model_source import fetch_model
try:
    print(fetch_model(sys.argv[1]))
except ModelError as error:
    print(error.reason, error.field, error.message)
"""


class Hub(BaseHTTPRequestHandler):
    """The part of a hub's API that a snapshot takes, for one repository."""

    root: Path
    broken = False

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self.broken:
            self._answer(503, b"out of order")
        elif path.startswith("/api/models/org/gated"):
            self._answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif not path.startswith(("/api/models/org/tiny", "/org/tiny/resolve/")):
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif path.startswith("/org/tiny/resolve/"):
            self._file(path)
        elif (revision := path.partition("/revision/")[2] or path.partition("/tree/")[2] or "main") not in (
            "main",
            COMMIT,
        ):
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": revision})
        elif "/tree/" in path:
            self._answer(200, json.dumps([self._entry(file) for file in self._files()]).encode())
        else:
            siblings = [{"rfilename": file.name} for file in self._files()]
            self._answer(200, json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": siblings}).encode())

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass

    def _files(self) -> list[Path]:
        return sorted(self.root.iterdir())

    def _entry(self, file: Path) -> dict[str, object]:
        return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": self._oid(file)}

    def _oid(self, file: Path) -> str:
        return hashlib.sha1(file.read_bytes()).hexdigest()

    def _file(self, path: str) -> None:
        file = self.root / path.rpartition("/")[2]
        self._answer(200, file.read_bytes(), {"ETag": f'"{self._oid(file)}"', "X-Repo-Commit": COMMIT})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (
            {"Content-Length": str(len(body)), "Content-Type": "application/json"} | (headers or {})
        ).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def hub(root: Path, *, broken: bool = False) -> Iterator[str]:
    handler = type("OneHub", (Hub,), {"root": root, "broken": broken})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fetch(uri: str, endpoint: str, home: Path) -> str:
    """In a process of its own: the client reads its environment once."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FETCH, uri], env=environment, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip().splitlines()[-1]


def test_a_checkpoint_is_downloaded_once(checkpoint: Path, tmp_path: Path) -> None:
    with hub(checkpoint) as endpoint:
        folder = Path(fetch("hf://org/tiny@main", endpoint, tmp_path))
        for file in checkpoint.iterdir():
            assert (folder / file.name).read_bytes() == file.read_bytes()
    assert fetch("hf://org/tiny", endpoint, tmp_path) == str(folder), "the hub is gone, the files are there"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("hf://org/none", "ModelNotFound spec.model.uri"),
        ("hf://org/tiny@v9", "RevisionNotFound spec.model.revision"),
        ("hf://org/gated", "ModelAccessDenied spec.model.uri"),
        ("hf://not a name", "ModelNotFound spec.model.uri"),
    ],
)
def test_what_the_hub_refuses_is_explained(uri: str, expected: str, checkpoint: Path, tmp_path: Path) -> None:
    with hub(checkpoint) as endpoint:
        assert fetch(uri, endpoint, tmp_path).startswith(expected)


def test_a_hub_that_is_out_of_order_is_explained(checkpoint: Path, tmp_path: Path) -> None:
    with hub(checkpoint, broken=True) as endpoint:
        assert fetch("hf://org/tiny", endpoint, tmp_path).startswith("DownloadFailed spec.model.uri")


def test_a_path_is_taken_as_it_stands(tmp_path: Path) -> None:
    assert fetch_model(str(tmp_path)) == tmp_path
    with pytest.raises(ModelNotFoundError, match="there is no directory"):
        fetch_model(str(tmp_path / "none"))
