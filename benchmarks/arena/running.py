"""Doing many runs on two processes, once each: what was done is kept until the code or the data change."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.arena.runs import DATA, Figures, Run, execute

PROCESSES = 2
_ROOT = Path(__file__).parents[2]
_KEPT = _ROOT / "build" / "bench-scheduler"
_CODE = ("scheduler/coxswain_scheduler", "scheduler/coxswain_simulate")
_FILES = ("arena/runs.py", "arena/turns.py", "dynamo_peer.py", "dynamo_replay.py")


class Runner:
    """Runs, and remembers by what code."""

    def __init__(self, console: Console, python: Path | None, *, fresh: bool = False) -> None:
        self.console, self.python = console, python
        self.file = _KEPT / f"{_digest()}.jsonl"
        self.done: dict[str, Figures] = {}
        self.failed: dict[str, str] = {}
        self.folder = self.file.with_suffix("")
        """For the traces that Dynamo reads."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if fresh:
            self.file.unlink(missing_ok=True)
        elif self.file.exists():
            self.done = _kept(self.file)
            console.print(f"{len(self.done)} runs of the same code are kept in {self.file}", highlight=False)

    def run(self, what: str, runs: Iterable[Run]) -> Mapping[str, Figures]:
        """Do what is not done yet. A run that fails is left out, and said."""
        missing = {run.key: run for run in runs if run.key not in self.done}
        if not missing:
            return self.done
        context = multiprocessing.get_context("spawn")  # HiGHS has threads
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with (
            ProcessPoolExecutor(PROCESSES, mp_context=context) as pool,
            Progress(*columns, TimeRemainingColumn(), console=self.console) as progress,
            self.file.open("a") as file,
        ):
            futures = {pool.submit(execute, run, self.python, self.folder): run for run in missing.values()}
            for future in progress.track(as_completed(futures), total=len(futures), description=what):
                run = futures[future]
                try:
                    figures = future.result()
                except Exception as error:  # one policy's defect must not cost the others their rows
                    self.failed[run.key] = repr(error)
                    self.console.print(f"left out: {run.policy} at {run.speedup:g}x: {error!r}", highlight=False)
                    continue
                self.done[run.key] = figures
                file.write(json.dumps([run.key, figures]) + "\n")
                file.flush()
        return self.done

    def figures(self, runs: Iterable[Run]) -> list[Figures]:
        """Of those that were done."""
        return [self.done[run.key] for run in runs if run.key in self.done]


def _kept(file: Path) -> dict[str, Figures]:
    """The runs in a file whose last line may have been cut short."""
    done = {}
    for line in file.read_text().splitlines():
        try:
            key, figures = json.loads(line)
        except ValueError:
            continue
        done[key] = figures
    return done


def _digest() -> str:
    """Of the code that decides figures, and of the data."""
    found = hashlib.sha256()
    files = [file for folder in _CODE for file in (_ROOT / folder).rglob("*.py")]
    files += [_ROOT / "benchmarks" / name for name in _FILES]
    files += [file for file in DATA.rglob("*") if file.is_file()]
    for file in sorted(files):
        found.update(f"{file.relative_to(_ROOT)}\n".encode() + file.read_bytes())
    return found.hexdigest()[:16]
