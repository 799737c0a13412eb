"""Steps of a long run: each is shown while it goes on, and timed for the report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console


@dataclass
class Steps:
    """What was done, in order, and how many seconds each took."""

    console: Console
    done: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str, *, own_progress: bool = False) -> Iterator[None]:
        """Show `name` with a running clock until the block ends. Steps with a bar of their own only get a heading."""
        began = time.monotonic()
        try:
            if own_progress:
                self.console.print(f"[bold]•[/] {name}")
                yield
            else:
                with self.console.status(f"{name} …"):
                    yield
        except BaseException:
            self.console.print(f"[red]✗[/] {name} [dim]({time.monotonic() - began:.1f} s)[/]")
            raise
        seconds = time.monotonic() - began
        self.done.append((name, seconds))
        self.console.print(f"[green]✓[/] {name} [dim]({seconds:.1f} s)[/]")
