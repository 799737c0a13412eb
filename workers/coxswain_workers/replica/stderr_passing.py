"""The Pod's stderr, handed to a process that Ray started.

Ray sends a worker's output to files. `kubectl logs` should show the engine's own words, at no cost per line, so the
supervisor passes its stderr as a file descriptor over a Unix socket, and the actor puts it in place of its own.
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path


class StderrServer:
    """Gives this process's stderr to whoever connects to the socket at `path`, until closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.served = 0
        """How often it was given: once for each process that Ray started."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        path.chmod(0o600)
        self._socket.listen()
        threading.Thread(target=self._serve, name="stderr-server", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.served += 1
                socket.send_fds(connection, [b"2"], [2])


def adopt_stderr(path: Path) -> None:
    """Make the stderr served at `path` this process's stdout and stderr. Raises OSError when nobody serves it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(path))
        _, (descriptor, *_), _, _ = socket.recv_fds(connection, 1, 1)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
