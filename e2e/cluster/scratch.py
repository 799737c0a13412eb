"""A temporary directory that ends with this process, however that ends."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from pathlib import Path

_STARTING = "coxswain-starting-"


class Scratch:
    """A new `directory`, locked for as long as it is in use; its name begins with `prefix`.

    Where a process was killed before it could `remove` its own, the next one to make one of the same prefix does.
    """

    def __init__(self, prefix: str) -> None:
        _remove_abandoned(prefix)
        fresh = Path(tempfile.mkdtemp(prefix=_STARTING))  # takes its name when it has its lock
        self._lock = (fresh / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.directory = fresh.rename(fresh.with_name(fresh.name.replace(_STARTING, prefix)))

    def remove(self) -> None:
        """Take it away, with all that is in it."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self._lock.close()


def _remove_abandoned(prefix: str) -> None:
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}*/lock"):
        try:
            with old.open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old.parent, ignore_errors=True)
        except OSError:
            continue  # in use, or another user's
