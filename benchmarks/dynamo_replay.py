"""NVIDIA Dynamo's offline replay, asked the way a script of theirs would: the peer of the scheduler's benchmark.

Run by `benchmarks.dynamo_peer` with an interpreter that can import Dynamo's wheels, and nothing of Coxswain. Its one
argument is a JSON object of keyword arguments; it prints a JSON object with what the replay said and its CPU seconds.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module


def main(arguments: str) -> None:
    """Replay once. Loading the library is not counted."""
    replay = import_module("dynamo._core").run_mocker_trace_replay
    keywords = json.loads(arguments)
    started = time.thread_time()
    result = replay(**keywords, capture_per_request=True)
    cpu_s = time.thread_time() - started
    requests = [[row["input_length"], row["ttft_ms"], row["itl_ms"]] for row in result.per_request]
    print(json.dumps({"cpu_s": cpu_s, "summary": result.summary, "requests": requests}))


if __name__ == "__main__":
    main(sys.argv[1])
