"""What a node needs from the distribution, and how it gets there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from e2e.cluster.commands import run
from e2e.cluster.errors import ClusterError, UnfitError

COMMANDS = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
}
"""Command, and the Debian package that has it."""

CNI_DIRECTORIES = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
CNI_PLUGINS = ("ptp", "host-local", "loopback")
SYSTEMD = Path("/run/systemd/system")
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def cni_directory() -> Path | None:
    """Where the network plug-ins are, if they are."""
    complete = (place for place in CNI_DIRECTORIES if all((place / plugin).exists() for plugin in CNI_PLUGINS))
    return next(complete, None)


def missing() -> list[str]:
    """Debian packages without which no node can run."""
    absent = {package for command, package in COMMANDS.items() if shutil.which(command, path=SEARCH) is None}
    if cni_directory() is None:
        absent.add("containernetworking-plugins")
    return sorted(absent)


def ensure(console: Console) -> None:
    """Install what is missing. Raises ClusterError naming it when that cannot be done here."""
    if not (absent := missing()):
        return
    wanted = " ".join(absent)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise UnfitError(f"missing on this machine: {wanted} (names of Debian packages); install them and try again")
    console.print(f"installing: {wanted}")
    _install(absent, console)
    if still := missing():
        raise ClusterError(f"apt-get installed, yet still missing: {' '.join(still)}")


def _install(packages: list[str], console: Console) -> None:
    containerd_is_new = "containerd" in packages
    options = ["--no-remove", "--no-install-recommends", "-y", "-o", "APT::Status-Fd=1", "-o", "Dpkg::Use-Pty=0"]
    command = ["apt-get", "install", *options, *packages]
    code, said = _follow(command, console)
    if code:  # the lists may be absent or old
        run("apt-get", "update", timeout=300)
        code, said = _follow(command, console)
    if code:
        raise ClusterError(f"apt-get could not install {' '.join(packages)} without removing something:\n{said}")
    if containerd_is_new and SYSTEMD.exists():
        run("systemctl", "disable", "--now", "containerd.service")  # the nodes run their own


def _follow(command: list[str], console: Console) -> tuple[int, str]:
    """Run apt-get under a bar. Returns its exit code and the end of what it said."""
    said: list[str] = []
    with (
        Progress(console=console) as bar,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment()
        ) as process,
    ):
        task = bar.add_task("packages", total=200)
        assert process.stdout is not None
        for line in process.stdout:
            if (done := progress(line)) is None:
                said = [*said[-15:], line]
            else:
                bar.update(task, completed=done)
        bar.update(task, completed=200)
    return process.returncode, "".join(said)


def progress(line: str) -> float | None:
    """Of 200: the first hundred is downloading, the second unpacking. None for a line that is not apt's status."""
    kind, *rest = line.split(":")
    if kind not in ("dlstatus", "pmstatus") or len(rest) < 3:
        return None
    try:
        return float(rest[1]) + (100 if kind == "pmstatus" else 0)
    except ValueError:
        return None


def _environment() -> Mapping[str, str]:
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
