"""`python -m e2e.cluster`: a Kubernetes on this machine, up, down, and with nodes that die on demand.

Exit codes: 0 when done, 1 when it failed, 2 when this machine or the command line is not fit for it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from e2e.cluster.binaries import binaries
from e2e.cluster.cluster import Cluster
from e2e.cluster.errors import ClusterError, UnfitError
from e2e.cluster.leftovers import leftovers


def up(cluster: Cluster, options: argparse.Namespace, console: Console) -> int:
    """Make a cluster, or say that it is up."""
    if not options.fresh and cluster.is_whole():
        console.print(f"cluster {cluster.name} is up already (--fresh makes it anew)")
    else:
        cluster.up()
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    print(f"export PATH={cluster.bin_dir}:$PATH")
    print(f"gateway of the first LLMService: {cluster.gateway}")
    return 0


def down(cluster: Cluster, _: argparse.Namespace, console: Console) -> int:
    """Take a cluster away, and make sure."""
    with console.status(f"cluster {cluster.name} down …"):
        cluster.down()
    for left in (found := leftovers(cluster.name)):
        console.print(f"[red]left behind:[/] {left}")
    return 1 if found else 0


def status(cluster: Cluster, _: argparse.Namespace, console: Console) -> int:
    """Show what is up. Exits 1 unless all of it is."""
    table = Table("node", "address", "power", "cable", "Kubernetes says")
    serving = cluster.plane.healthy()
    for node in cluster.nodes:
        said = ("Ready" if cluster.is_ready(node.name) else "NotReady") if serving else "?"
        table.add_row(node.name, node.address, "on" if node.alive else "off", "in" if node.connected else "out", said)
    console.print(table)
    console.print(f"API server: {cluster.plane.url} {'ready' if serving else '[red]does not answer[/]'}")
    console.print(f"KUBECONFIG: {cluster.kubeconfig}", soft_wrap=True)
    console.print(f"gateway of the first LLMService: {cluster.gateway}")
    for service, url in cluster.gateways().items():
        console.print(f"gateway of {service}: {url}")
    return 0 if cluster.is_whole() else 1


def kill_node(cluster: Cluster, options: argparse.Namespace, console: Console) -> int:
    """A power cut."""
    cluster.kill_node(options.node)
    console.print(f"{options.node} is dead; bring it back with: heal-node {options.node}")
    return 0


def cut_node(cluster: Cluster, options: argparse.Namespace, console: Console) -> int:
    """A pulled cable."""
    cluster.cut_node(options.node)
    console.print(f"{options.node} is cut off; bring it back with: heal-node {options.node}")
    return 0


def heal_node(cluster: Cluster, options: argparse.Namespace, console: Console) -> int:
    """Bring a killed or cut node back."""
    with console.status(f"{options.node} to be Ready …"):
        cluster.heal_node(options.node)
    console.print(f"{options.node} is Ready")
    return 0


def build(_: Cluster, __: argparse.Namespace, console: Console) -> int:
    """Only compile Kubernetes (needs no root)."""
    print(binaries(console))
    return 0


COMMANDS: dict[str, tuple[Callable[[Cluster, argparse.Namespace, Console], int], str]] = {
    "up": (up, "make a cluster"),
    "down": (down, "take it away, with everything that it made"),
    "status": (status, "show nodes, API server and gateways; exit code 1 unless all are well"),
    "kill-node": (kill_node, "power cut: the node falls silent and all on it dies"),
    "cut-node": (cut_node, "pulled cable: the node goes on, and reaches nobody"),
    "heal-node": (heal_node, "bring a killed or cut node back"),
    "build": (build, "only compile Kubernetes into the cache (needs no root)"),
}


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("--name", default="coxswain", help="name of the cluster (default: %(default)s)")
        if name == "up":
            command.add_argument("--nodes", type=int, default=3, help="number of nodes (default: %(default)s)")
            command.add_argument("--fresh", action="store_true", help="make it anew even if it is up")
        if name.endswith("-node"):
            command.add_argument("node", help="name of the node, as kubectl shows it")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    options = _parse(argv)
    console = Console(stderr=True)
    act, _ = COMMANDS[options.command]
    try:
        cluster = Cluster(name=options.name, nodes=getattr(options, "nodes", 3), console=console)
        return act(cluster, options, console)
    except UnfitError as error:
        console.print(f"[red]not here:[/] {error}", soft_wrap=True)
        return 2
    except ClusterError as error:
        console.print(f"[red]failed:[/] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
