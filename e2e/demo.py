"""`make demo`: a service on a real Kubernetes, twenty streams, one dead node, and what the clients saw of it.

Exit codes: 0 when no stream was lost or different, 1 when one was or a step failed, 2 when this machine cannot run it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from openai import OpenAI
from rich.console import Console

from e2e.cluster import Cluster, ClusterError, CommandError
from e2e.cluster.waiting import wait_until
from e2e.compare import Outcome, compare
from e2e.install import ROOT, apply_model_volume, apply_service, install_chart, restrict
from e2e.report import Report
from e2e.service import Service
from e2e.steps import Steps
from e2e.traffic import Ask, Stream, Traffic, TrafficError, mixed, run_undisturbed
from examples.tiny_model.errors import TinyModelError
from examples.train_tiny_model import ensure_model

MODEL = "tiny"
REPLICAS = 3
WARM_TOKENS = 20
"""Every stream has this many tokens when the node dies."""


class DemoError(Exception):
    """The demo cannot show what it is for; the message says why."""


@dataclass(frozen=True)
class Loss:
    """A node that died under traffic: when (seconds, monotonic), and how many streams it was running."""

    node: str
    at: float
    struck: int


def choose_victim(service: Service) -> str:
    """A node with a replica and the coordinator but no gateway: its death strikes streams, and no client's connection.

    Raises DemoError when the Pods do not lie so.
    """
    nodes = {
        component: {pod.node for pod in service.live(component)} for component in ("replica", "coordinator", "gateway")
    }
    candidates = sorted(n for n in (nodes["replica"] & nodes["coordinator"]) - nodes["gateway"] if n)
    if not candidates:
        placed = "; ".join(f"{component}: {', '.join(sorted(map(str, on)))}" for component, on in nodes.items())
        raise DemoError(f"no node carries a replica and the coordinator but no gateway ({placed})")
    return candidates[0]


async def strike(service: Service, cluster: Cluster, traffic: Traffic, victim: str) -> Loss:
    """Run the traffic, and kill `victim` once every stream is under way. Returns when all streams have ended."""
    doomed = {pod.name for pod in service.live("replica") if pod.node == victim}
    observe = service.observer()
    running = asyncio.create_task(traffic.run())
    try:
        await traffic.until(lambda s: len(s.tokens) >= WARM_TOKENS or bool(s.error), what="20 tokens each", timeout=60)
        streams = await asyncio.to_thread(observe)
        struck = sum(count for replica, count in streams.items() if replica in doomed)
        early = [stream.ask.name for stream in traffic.streams if stream.finish or stream.error]
        at = time.monotonic()
        await asyncio.to_thread(cluster.kill_node, victim)
        await running
    finally:
        running.cancel()
    if early:
        raise DemoError(f"streams had ended before the node was killed: {', '.join(early)}")
    if not struck:
        raise DemoError(f"no stream ran on {victim} when it was killed")
    return Loss(victim, at, struck)


def wait_replaced(service: Service, loss: Loss) -> float:
    """Until replicas and coordinator are whole again on the nodes that live; seconds since the loss."""
    service.wait_replicas(REPLICAS, off=loss.node)
    wait_until(lambda: service.live("coordinator", off=loss.node), what="a coordinator elsewhere", timeout=120)
    return time.monotonic() - loss.at


def chat(url: str, console: Console) -> None:
    """One streamed chat, printed as it comes."""
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        message = "Write a class that counts words."
        console.print(f"[bold]>[/] {message}")
        with client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": message}],
            max_tokens=120,
            temperature=0.7,
            seed=7,
            stream=True,
        ) as events:
            for event in events:
                for choice in event.choices:
                    console.print(choice.delta.content or "", end="", markup=False, highlight=False)
        console.print()


def set_up(cluster: Cluster, steps: Steps, model: Path) -> Service:
    """From an empty cluster to a Ready service."""
    with steps.step("helm install coxswain"):
        install_chart(cluster.helm)
    with steps.step("kubectl apply: the model's volume, the LLMService"):
        restrict(cluster.kubectl, "default")
        apply_model_volume(cluster.kubectl, model)
        service = apply_service(cluster.kubectl)
    with steps.step("kubectl wait --for=condition=Ready"):
        service.wait_ready()
        service.wait_replicas(REPLICAS)
    return service


def disturbed(
    service: Service, cluster: Cluster, steps: Steps, asks: list[Ask], expected: dict[str, Outcome]
) -> Report:
    """The same requests again, with a node killed under them; judged against `expected`."""
    victim = choose_victim(service)
    traffic = Traffic(url=cluster.gateway_url(service.name), model=MODEL, asks=asks)
    with steps.step(f"{len(asks)} streams again, node {victim} killed under them"):
        loss = asyncio.run(strike(service, cluster, traffic, victim))
    verdict = compare(_outcomes(traffic.streams), expected)
    with steps.step("the dead node's Pods replaced"):
        replacement = wait_replaced(service, loss)
    return Report(traffic.streams, loss.struck, verdict, loss.at, replacement, steps.done)


def run(options: argparse.Namespace, console: Console) -> int:
    """The whole demo. Returns the exit code."""
    steps = Steps(console)
    cluster = Cluster(name=options.name, nodes=options.nodes, console=console)
    with steps.step("system packages, Kubernetes compiled", own_progress=True):
        cluster.prepare()
    with steps.step("a model to serve", own_progress=True):
        model = ensure_model(console)
    asks = mixed(options.streams, options.max_tokens)
    with steps.step("a Kubernetes cluster on this machine", own_progress=True):
        cluster.up()
    try:
        service = set_up(cluster, steps, model)
        url = cluster.gateway_url(service.name)
        with steps.step("a chat, streamed with the openai client", own_progress=True):
            chat(url, console)
        with steps.step(f"{len(asks)} streams, undisturbed"):
            expected = run_undisturbed(url=url, model=MODEL, asks=asks)
        report = disturbed(service, cluster, steps, asks, expected)
        report.show(console)
        report.write(options.json)
        console.print(f"figures: {options.json}")
        return 0 if report.verdict.clean else 1
    finally:
        if options.keep:
            with steps.step("the dead node brought back"):
                revive(cluster)
            console.print(how_to_use(cluster, options.name), highlight=False, markup=False)
        else:
            with steps.step("cluster down"):
                cluster.down()


def revive(cluster: Cluster) -> None:
    """Bring back whatever node is dead, for the person who goes on with the cluster."""
    for node in cluster.nodes:
        if not node.alive:
            cluster.heal_node(node.name)


def how_to_use(cluster: Cluster, name: str) -> str:
    """What a person types next, with the cluster left running."""
    return f"""
The cluster is left running. For example:

  export KUBECONFIG={cluster.kubeconfig}
  export PATH={cluster.bin_dir}:$PATH
  kubectl get llms,pods -o wide
  curl -N {cluster.gateway_url(MODEL)}/v1/completions -H 'content-type: application/json' \\
    -d '{{"model": "{MODEL}", "prompt": "def ", "max_tokens": 60, "stream": true}}'
  {sys.executable} -m e2e.cluster status --name {name}

Take it away again with: make cluster-down
"""


def _outcomes(streams: list[Stream]) -> dict[str, Outcome]:
    return {stream.ask.name: stream.outcome for stream in streams}


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.demo", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--keep", action="store_true", help="leave the cluster running and print how to use it")
    parser.add_argument("--name", default="coxswain", help="name of the local cluster (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=3, help="nodes of the cluster (default: %(default)s)")
    parser.add_argument("--streams", type=int, default=20, help="concurrent streams (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=400, help="length of each stream (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "demo.json", help="where the figures go")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit code."""
    options = _parse(argv)
    console = Console()
    signal.signal(signal.SIGTERM, _stop)
    try:
        return run(options, console)
    except (DemoError, TrafficError, CommandError, TimeoutError, ValueError) as error:
        console.print(f"[red]the demo failed:[/] {error}")
        return 1
    except (ClusterError, TinyModelError) as error:
        console.print(f"[red]this machine will not do:[/] {error}")
        return 2
    except KeyboardInterrupt:
        console.print("[red]interrupted[/]")
        return 130


if __name__ == "__main__":
    sys.exit(main())
