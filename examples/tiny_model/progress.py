"""Progress of long steps: bars on a terminal, a line per tenth in a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """One step's bar. `note` is shown behind it: the loss, for one."""

    def __init__(self, console: Console, progress: Progress, title: str, total: float) -> None:
        self._console = console
        self._progress = progress
        self._title = title
        self._total = total
        self._done = 0.0
        self._task = progress.add_task(title, total=total, note="")

    def move(self, done: float, note: str = "") -> None:
        """Set how much is done, between 0 and the step's total."""
        before, self._done = self._done, min(done, self._total)
        self._progress.update(self._task, completed=self._done, note=note)
        if not self._console.is_terminal and self._tenth(before) < self._tenth(self._done):
            self._console.print(f"{self._title}: {self._done / self._total:.0%} {note}".rstrip())

    def advance(self, by: float, note: str = "") -> None:
        """Add to what is done."""
        self.move(self._done + by, note)

    def _tenth(self, done: float) -> int:
        return int(10 * done / self._total)


class Board:
    """Several bars under each other."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console = console
        self._progress = progress

    def bar(self, title: str, *, total: float) -> Bar:
        """A new bar below the others."""
        return Bar(self._console, self._progress, title, total)


@contextmanager
def board(console: Console) -> Iterator[Board]:
    """Show bars on `console` until the block ends; where it is no terminal, lines instead."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Board(console, progress)
