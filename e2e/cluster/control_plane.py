"""etcd, the API server and, on demand, controllers and scheduler: plain processes, no root, ready in seconds."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console

from e2e.cluster.administrator import Administrator
from e2e.cluster.binaries import binaries
from e2e.cluster.certificates import Authority
from e2e.cluster.control_home import ControlHome
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import Daemon
from e2e.cluster.scratch import Scratch
from e2e.cluster.servers import Servers
from e2e.cluster.waiting import wait_until

PREFIX = "coxswain-control-plane-"
START_SECONDS = 60.0
SYSTEM_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease")


@dataclass
class ControlPlane:
    """A Kubernetes API without nodes: objects are validated, stored, watched and, with controllers, acted upon.

    `with ControlPlane() as plane: plane.kubectl("get", "namespaces")`. Without a `directory` everything lies in a
    temporary one, ends with this process however that ends, and is removed by `stop`. `controllers` runs the
    controller manager: default service accounts, namespace deletion and garbage collection need it. Pod Security
    is "restricted" in every namespace that does not say otherwise. The command `enter` starts each process;
    `api_server_flags` are added to the API server's own.
    """

    directory: Path | None = None
    address: str = "127.0.0.1"
    services: str = "10.96.0.0/24"
    controllers: bool = True
    scheduler: bool = False
    console: Console | None = None
    enter: Sequence[str] = ()
    api_server_flags: Sequence[str] = ()
    _scratch: Scratch | None = field(default=None, init=False, repr=False)
    _opened: ControlHome | None = field(default=None, init=False, repr=False)

    # What a user of it needs

    @property
    def kubeconfig(self) -> Path:
        """A configuration for the administrator."""
        return self._home.kubeconfig

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return self._home.url

    @property
    def port(self) -> int:
        """The API server's port."""
        return self._home.ports["api"]

    @cached_property
    def bin_dir(self) -> Path:
        """The folder with kubectl and helm."""
        return binaries(self.console)

    @property
    def authority(self) -> Authority:
        """Signs the certificates of this cluster."""
        return self._home.authority

    def kubectl(self, *args: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Run kubectl as administrator; returns its output. Raises CommandError when it exits non-zero."""
        return self._administrator.run("kubectl", args, stdin=stdin, timeout=timeout)

    def helm(self, *args: str, stdin: str | None = None, timeout: float = 120.0) -> str:
        """Run helm as administrator; returns its output. Raises CommandError when it exits non-zero."""
        return self._administrator.run("helm", args, stdin=stdin, timeout=timeout)

    def healthy(self) -> bool:
        """Whether the API server says it is ready."""
        return self._administrator.read("/readyz") is not None

    def get(self, path: str) -> dict[str, Any] | None:
        """What the API has at `path`, quicker than kubectl; None when it is not there or nobody answers."""
        text = self._administrator.read(path)
        return None if text is None else json.loads(text)

    # Start and stop

    def start(self) -> None:
        """Start everything, and return when the API can be used. Raises ClusterError when it cannot."""
        self._prepare()
        try:
            self._home.etcd.start([*self.enter, *self._servers.etcd()], tied=self._tied)
            self.start_api_server()
            wait_until(self._usable, what="the default service account", timeout=START_SECONDS)
        except ClusterError:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process; removes the directory if it was a temporary one. Does nothing when not started."""
        if self.directory is None or not self.directory.exists():
            return
        self._stop_clients()
        self._home.api_server.stop(signal.SIGKILL)
        self._home.etcd.stop(signal.SIGKILL)
        if self._scratch is not None:
            self._scratch.remove()
            self.directory = self._scratch = self._opened = None

    def start_api_server(self) -> None:
        """Start the API server (again), at the same address and with the same data; returns when it is ready.

        Controllers and scheduler begin anew with it, as those that lose their leader's lease do elsewhere. The old ones
        end before it answers: a controller manager that was deaf believes that the nodes were silent, and says so
        within two seconds of being heard again, before the API server calls itself ready.
        """
        self._stop_clients()
        self._home.api_server.start([*self.enter, *self._servers.api_server(), *self.api_server_flags], tied=self._tied)
        self._wait_ready()
        self._start_clients()

    def stop_api_server(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the API server by this signal, and by SIGKILL after ten seconds: open watches would hold it for a minute.

        Returns when its process is gone.
        """
        self._home.api_server.stop(number, grace=10.0)

    def pause_api_server(self) -> None:
        """Stop the API server in its tracks: connections stay open, nothing is answered."""
        self._home.api_server.send(signal.SIGSTOP)

    def resume_api_server(self) -> None:
        """End the pause; returns when the API server is ready."""
        self._home.api_server.send(signal.SIGCONT)
        self._wait_ready()

    def daemons(self) -> list[Daemon]:
        """Every process of the control plane."""
        home = self._home
        return [home.etcd, home.api_server, home.controllers, home.scheduler]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    # Parts

    @property
    def _home(self) -> ControlHome:
        if self.directory is None:
            raise ClusterError("the control plane is not started")
        if self._opened is None:
            self._opened = ControlHome(self.directory, address=self.address, services=self.services)
        return self._opened

    @property
    def _administrator(self) -> Administrator:
        return Administrator(self._home, self.bin_dir)

    @property
    def _servers(self) -> Servers:
        home = self._home
        return Servers(home.directory, self.bin_dir, home.authority, self.address, self.services, home.ports)

    @property
    def _tied(self) -> bool:
        return self._scratch is not None

    def _prepare(self) -> None:
        _ = self.bin_dir
        if self.directory is None:
            self._scratch = Scratch(PREFIX)
            self.directory = self._scratch.directory
        self._home.prepare()

    def _start_clients(self) -> None:
        if self.controllers:
            self._home.controllers.start([*self.enter, *self._servers.controllers()], tied=self._tied)
        if self.scheduler:
            self._home.scheduler.start([*self.enter, *self._servers.client("kube-scheduler")], tied=self._tied)

    def _stop_clients(self) -> None:
        for daemon in (self._home.scheduler, self._home.controllers):
            daemon.stop(signal.SIGKILL)  # they hold nothing that matters, and would take their time

    def _wait_ready(self) -> None:
        def ready() -> bool:
            for daemon in (self._home.etcd, self._home.api_server):
                if daemon.pid is None:
                    raise ClusterError(f"{daemon.name} ended, see {daemon.log}:\n{daemon.last_words()}")
            return self.healthy()

        wait_until(ready, what=f"the API server at {self.url}, see {self._home.api_server.log}", timeout=START_SECONDS)

    def _usable(self) -> bool:
        paths = [f"/api/v1/namespaces/{name}" for name in ("default", *SYSTEM_NAMESPACES)]
        if self.controllers:
            paths.append("/api/v1/namespaces/default/serviceaccounts/default")
        return all(self.get(path) is not None for path in paths)
