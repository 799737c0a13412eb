"""Train a small model on Python's own standard library, and write it as a Hugging Face-format checkpoint.

    python -m examples.train_tiny_model

takes about two minutes on two cores, shows its progress on stderr, and prints the path of the checkpoint as the last
line on stdout. A checkpoint that an equal program has trained before is found in the cache and used again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from examples.tiny_model.errors import TinyModelError
from examples.tiny_model.settings import Settings

FAILED, INTERRUPTED = 1, 130
DEFAULTS = Settings()


def ensure_model(
    console: Console,
    *,
    settings: Settings = DEFAULTS,
    out: Path | None = None,
    cache: Path | None = None,
    threads: int | None = None,
) -> Path:
    """The path of a trained checkpoint: the one in the cache, or a new one, trained with progress on `console`.

    `out` names the directory itself, `cache` the folder to keep it in; `threads` is left to torch unless given.
    Raises OccupiedError when `out` holds something else, CorpusError when the interpreter has no library source.
    """
    # Threads that wait for each other in a spin take a busy machine's cores from the very threads they wait for: steps
    # then take four times as long. Read by OpenMP when torch, which takes seconds, is imported: hence down here.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch

    from examples.tiny_model import checkpoint, corpus
    from examples.tiny_model.progress import board
    from examples.tiny_model.training import train

    fingerprint = _fingerprint(asdict(settings))
    path = out or (cache or default_cache()) / f"tiny-{fingerprint}"
    if checkpoint.holds(path, fingerprint=fingerprint):
        console.print(f"Using the model trained before: {path}", soft_wrap=True)
        return path
    checkpoint.check_free(path)
    torch.set_num_threads(threads or torch.get_num_threads())
    started, started_cpu = time.monotonic(), time.process_time()
    with board(console) as bars:
        trained = train(corpus.read(), settings, bars)
    record = {
        "fingerprint": fingerprint,
        "settings": asdict(settings),
        "loss_nats_per_token": round(trained.loss, 3),
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - started_cpu, 1),
    }
    if not checkpoint.holds(path, fingerprint=fingerprint):  # an equal run may have been faster
        checkpoint.write(path, trained, record=record)
    console.print(_summary(record), soft_wrap=True)
    return path


def default_cache() -> Path:
    """Where checkpoints are kept unless told otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "coxswain" / "models"


def _fingerprint(settings: dict[str, Any]) -> str:
    """Of what the checkpoint depends on: this program, the text (by Python's version), and the settings."""
    digest = hashlib.sha256(json.dumps([settings, platform.python_version()]).encode())
    for source in [Path(__file__), *sorted((Path(__file__).parent / "tiny_model").glob("*.py"))]:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def _summary(record: dict[str, Any]) -> str:
    return (
        f"Trained in {record['seconds']:.0f} s ({record['cpu_seconds']:.0f} s of CPU): "
        f"loss {record['loss_nats_per_token']:.2f} nats per token"
    )


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.train_tiny_model", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--out", type=Path, metavar="DIR", help="write the checkpoint to DIR, which must be new or empty"
    )
    place.add_argument("--cache", type=Path, metavar="DIR", help=f"keep it in DIR (default: {default_cache()})")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--steps",
        type=_positive_int,
        default=DEFAULTS.steps,
        metavar="N",
        help="train for N steps (default: %(default)s)",
    )
    length.add_argument("--minutes", type=_positive, metavar="M", help="train for M minutes, tokenizer not included")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="other seeds give other models (default: 0)")
    parser.add_argument("--threads", type=_positive_int, metavar="N", help="default: what torch takes, one per core")
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return value


def main(arguments: list[str] | None = None) -> int:
    """The command. 0 when there is a checkpoint, 1 when it could not be made, 2 for wrong flags, 130 for Ctrl-C."""
    options = _arguments(arguments)
    console = Console(stderr=True)
    settings = Settings(steps=options.steps, minutes=options.minutes, seed=options.seed)
    try:
        path = ensure_model(console, settings=settings, out=options.out, cache=options.cache, threads=options.threads)
    except KeyboardInterrupt:
        console.print("Interrupted; nothing was written.")
        return INTERRUPTED
    except (TinyModelError, OSError) as error:
        console.print(f"error: {error}", soft_wrap=True)
        return FAILED
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
