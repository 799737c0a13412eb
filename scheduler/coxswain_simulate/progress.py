"""A progress bar for whatever takes more than two seconds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_PATIENCE_SECONDS = 2.0
_LOOK_EVERY_SECONDS = 0.2


@contextmanager
def shown(what: str, share: Callable[[], float] | None = None) -> Iterator[None]:
    """Show a bar on a terminal while the body runs, once it has run for two seconds.

    `share` tells how much is done, from 0 to 1, and is called from another thread; without it, only time is shown.
    """
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(what, share, over), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(what: str, share: Callable[[], float] | None, over: threading.Event) -> None:
    if over.wait(_PATIENCE_SECONDS):
        return
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=1.0 if share else None)
        while not over.wait(_LOOK_EVERY_SECONDS):
            if share:
                progress.update(task, completed=share())
