"""etcd, the API server and, on demand, controllers and scheduler: plain processes, no root, ready in seconds."""

from __future__ import annotations

import fcntl
import ipaddress
import json
import shutil
import signal
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from rich.console import Console

from e2e.cluster.binaries import binaries
from e2e.cluster.certificates import Authority, Certificate
from e2e.cluster.errors import ClusterError, CommandError
from e2e.cluster.ports import free_ports
from e2e.cluster.processes import Daemon
from e2e.cluster.servers import Servers, write_admission
from e2e.cluster.waiting import wait_until

ADMIN_GROUP = "system:masters"
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
    _lock: IO[str] | None = field(default=None, init=False, repr=False)

    # What a user of it needs

    @property
    def kubeconfig(self) -> Path:
        """A configuration for the administrator."""
        return self._directory / "admin.kubeconfig"

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return f"https://{self.address}:{self._ports['api']}"

    @property
    def port(self) -> int:
        """The API server's port."""
        return self._ports["api"]

    @cached_property
    def bin_dir(self) -> Path:
        """The folder with kubectl and helm."""
        return binaries(self.console)

    @property
    def authority(self) -> Authority:
        """Signs the certificates of this cluster."""
        return Authority(self._directory / "certificates")

    def kubectl(self, *args: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Run kubectl as administrator; returns its output. Raises CommandError when it exits non-zero."""
        return self._run("kubectl", args, stdin, timeout)

    def helm(self, *args: str, stdin: str | None = None, timeout: float = 120.0) -> str:
        """Run helm as administrator; returns its output. Raises CommandError when it exits non-zero."""
        return self._run("helm", args, stdin, timeout)

    def healthy(self) -> bool:
        """Whether the API server says it is ready."""
        return self._read("/readyz") is not None

    def get(self, path: str) -> dict[str, Any] | None:
        """What the API has at `path`, quicker than kubectl; None when it is not there or nobody answers."""
        text = self._read(path)
        return None if text is None else json.loads(text)

    # Start and stop

    def start(self) -> None:
        """Start everything, and return when the API can be used. Raises ClusterError when it cannot."""
        self._prepare()
        try:
            self._etcd.start([*self.enter, *self._servers.etcd()], tied=self._tied)
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
        self._api_server.stop(signal.SIGKILL)
        self._etcd.stop(signal.SIGKILL)
        if self._lock is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self._lock.close()
            self._lock = None
            self.directory = None
            self.__dict__.pop("_ports", None)
            self.__dict__.pop("_tls", None)

    def start_api_server(self) -> None:
        """Start the API server (again), at the same address and with the same data; returns when it is ready.

        Controllers and scheduler begin anew with it, as those that lose their leader's lease do elsewhere. The old ones
        end before it answers: a controller manager that was deaf believes that the nodes were silent, and says so
        within two seconds of being heard again, before the API server calls itself ready.
        """
        self._stop_clients()
        self._api_server.start([*self.enter, *self._servers.api_server(), *self.api_server_flags], tied=self._tied)
        self._wait_ready()
        self._start_clients()

    def stop_api_server(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the API server by this signal, and by SIGKILL after ten seconds: open watches would hold it for a minute.

        Returns when its process is gone.
        """
        self._api_server.stop(number, grace=10.0)

    def pause_api_server(self) -> None:
        """Stop the API server in its tracks: connections stay open, nothing is answered."""
        self._api_server.send(signal.SIGSTOP)

    def resume_api_server(self) -> None:
        """End the pause; returns when the API server is ready."""
        self._api_server.send(signal.SIGCONT)
        self._wait_ready()

    def daemons(self) -> list[Daemon]:
        """Every process of the control plane."""
        return [self._etcd, self._api_server, self._controllers, self._scheduler]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    # Parts

    @property
    def _directory(self) -> Path:
        if self.directory is None:
            raise ClusterError("the control plane is not started")
        return self.directory

    @property
    def _tied(self) -> bool:
        return self._lock is not None

    @property
    def _etcd(self) -> Daemon:
        return self._daemon("etcd")

    @property
    def _api_server(self) -> Daemon:
        return self._daemon("kube-apiserver")

    @property
    def _controllers(self) -> Daemon:
        return self._daemon("kube-controller-manager")

    @property
    def _scheduler(self) -> Daemon:
        return self._daemon("kube-scheduler")

    @cached_property
    def _daemons(self) -> dict[str, Daemon]:
        return {}

    def _daemon(self, name: str) -> Daemon:
        known = self._daemons.get(name)
        if known is None or known.directory != self._directory:
            known = self._daemons[name] = Daemon(name, self._directory)
        return known

    @cached_property
    def _ports(self) -> dict[str, int]:
        ports: dict[str, int] = json.loads((self._directory / "ports.json").read_text())
        return ports

    @property
    def _servers(self) -> Servers:
        return Servers(self._directory, self.bin_dir, self.authority, self.address, self.services, self._ports)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.certificate)
        context.load_cert_chain(self._admin.certificate, self._admin.key)
        return context

    @property
    def _admin(self) -> Certificate:
        base = self.authority.directory / "admin"
        return Certificate(base.with_suffix(".crt"), base.with_suffix(".key"))

    def _prepare(self) -> None:
        _ = self.bin_dir
        if self.directory is None:
            self.directory, self._lock = _temporary()
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (self.directory / "ports.json").exists():
            ports = dict(zip(("etcd", "peer", "api"), free_ports(3), strict=True))
            (self.directory / "ports.json").write_text(json.dumps(ports))
            self._write_certificates()
            write_admission(self.directory)

    def _write_certificates(self) -> None:
        authority = self.authority
        authority.create()
        first = str(next(ipaddress.ip_network(self.services).hosts()))
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
        authority.issue("server", user="kube-apiserver", hosts=["localhost", "127.0.0.1", self.address, first, *names])
        authority.issue("kubelet-client", user="kube-apiserver", groups=[ADMIN_GROUP])
        authority.kubeconfig(self.kubeconfig, server=self.url, user="admin", groups=[ADMIN_GROUP])
        for name in ("kube-controller-manager", "kube-scheduler"):
            authority.kubeconfig(self._directory / f"{name}.kubeconfig", server=self.url, user=f"system:{name}")

    def _start_clients(self) -> None:
        if self.controllers:
            self._controllers.start([*self.enter, *self._servers.controllers()], tied=self._tied)
        if self.scheduler:
            self._scheduler.start([*self.enter, *self._servers.client("kube-scheduler")], tied=self._tied)

    def _stop_clients(self) -> None:
        for daemon in (self._scheduler, self._controllers):
            daemon.stop(signal.SIGKILL)  # they hold nothing that matters, and would take their time

    def _wait_ready(self) -> None:
        def ready() -> bool:
            for daemon in (self._etcd, self._api_server):
                if daemon.pid is None:
                    raise ClusterError(f"{daemon.name} ended, see {daemon.log}:\n{daemon.last_words()}")
            return self.healthy()

        wait_until(ready, what=f"the API server at {self.url}, see {self._api_server.log}", timeout=START_SECONDS)

    def _usable(self) -> bool:
        paths = [f"/api/v1/namespaces/{name}" for name in ("default", *SYSTEM_NAMESPACES)]
        if self.controllers:
            paths.append("/api/v1/namespaces/default/serviceaccounts/default")
        return all(self.get(path) is not None for path in paths)

    def _read(self, path: str) -> bytes | None:
        try:
            with urllib.request.urlopen(self.url + path, context=self._tls, timeout=5) as answer:
                return bytes(answer.read())
        except (urllib.error.URLError, OSError):
            return None

    def _run(self, program: str, args: Sequence[str], stdin: str | None, timeout: float) -> str:
        home = self._directory / "home"
        home.mkdir(exist_ok=True)
        command = [str(self.bin_dir / program), *args]
        environment = {"KUBECONFIG": str(self.kubeconfig), "HOME": str(home), "PATH": f"{self.bin_dir}:/usr/bin:/bin"}
        shown = f"{program} {' '.join(args[:6])}"
        try:
            done = subprocess.run(
                command, input=stdin, env=environment, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{shown} did not end within {timeout:g} s") from error
        if done.returncode:
            raise CommandError(shown, done.returncode, done.stdout, done.stderr)
        return done.stdout


def _temporary() -> tuple[Path, IO[str]]:
    """A new directory and the lock that shows it to be in use; removes those whose owner was killed."""
    for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/lock"):
        try:
            with old.open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old.parent, ignore_errors=True)
        except OSError:
            continue  # in use, or another user's
    fresh = Path(tempfile.mkdtemp(prefix="coxswain-starting-"))  # takes its name when it has its lock
    lock = (fresh / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return fresh.rename(fresh.with_name(fresh.name.replace("coxswain-starting-", PREFIX))), lock
