"""The command line: `python -m coxswain_operator run …`."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from coxswain_crds import names
from coxswain_operator.settings import Settings

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Options:
    """Everything that can be chosen."""

    settings: Settings
    namespace: str
    identity: str
    metrics_port: int = names.OPERATOR_METRICS_PORT
    webhook_port: int = names.WEBHOOK_PORT
    webhook_cert: Path | None = None
    watch_namespaces: tuple[str, ...] = ()
    kubeconfig: Path | None = None
    log_level: str = "info"


def parse(arguments: Sequence[str] | None = None) -> Options:
    """The options. A bad one is explained on stderr and ends the process with code 2."""
    parser = _parser()
    given = parser.parse_args(arguments)
    _check(parser, given)
    settings = Settings(
        worker_image=given.worker_image,
        gateway_image=given.gateway_image or given.worker_image,
        image_pull_policy=given.image_pull_policy,
        image_pull_secrets=tuple(_listed(given.image_pull_secrets)),
        allowed_file_prefixes=tuple(given.allowed_file_prefix),
    )
    return Options(
        settings=settings,
        namespace=given.namespace or _own_namespace(),
        identity=given.identity or f"{socket.gethostname()}-{os.getpid()}",
        metrics_port=given.metrics_port,
        webhook_port=given.webhook_port,
        webhook_cert=given.webhook_cert,
        watch_namespaces=tuple(_listed(given.watch_namespace)),
        kubeconfig=given.kubeconfig,
        log_level=given.log_level,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m coxswain_operator", description="The Coxswain operator.")
    run = parser.add_subparsers(dest="command", required=True).add_parser("run", help="reconcile LLMServices")
    run.add_argument("--worker-image", required=True, help="image of replicas and coordinators")
    run.add_argument("--gateway-image", help="image of gateways (default: the worker image)")
    run.add_argument("--image-pull-policy", choices=("Always", "IfNotPresent", "Never"), default="IfNotPresent")
    run.add_argument("--image-pull-secrets", action="append", default=[], metavar="NAME[,NAME]")
    run.add_argument("--allowed-file-prefix", action="append", default=[], metavar="DIR", help="for file:// models")
    run.add_argument("--namespace", help="where the Lease is (default: the namespace of this Pod)")
    run.add_argument("--identity", help="who holds the Lease (default: host name and process id)")
    run.add_argument("--watch-namespace", action="append", default=[], metavar="NAME[,NAME]", help="default: all")
    run.add_argument("--metrics-port", type=_port, default=names.OPERATOR_METRICS_PORT)
    run.add_argument("--webhook-port", type=_port, default=names.WEBHOOK_PORT)
    run.add_argument("--webhook-cert", type=Path, metavar="DIR", help="holds tls.crt and tls.key; without: no webhook")
    run.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    run.add_argument("--kubeconfig", type=Path, help="default: the Pod's service account, else $KUBECONFIG")
    return parser


def _check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    for prefix in given.allowed_file_prefix:
        if not prefix.startswith("/") or ".." in PurePosixPath(prefix).parts:
            parser.error(f"--allowed-file-prefix must be an absolute path without .., not {prefix}")
    if given.webhook_cert is not None:
        for name in ("tls.crt", "tls.key"):
            if not (given.webhook_cert / name).is_file():
                parser.error(f"--webhook-cert: there is no file {given.webhook_cert / name}")
    if given.kubeconfig is not None and not given.kubeconfig.is_file():
        parser.error(f"--kubeconfig: there is no file {given.kubeconfig}")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text} is not a port: 1 to 65535")
    return int(text)


def _listed(values: Sequence[str]) -> list[str]:
    return [name for value in values for name in value.split(",") if name]


def _own_namespace() -> str:
    try:
        return NAMESPACE_FILE.read_text().strip()
    except OSError:
        return "default"
