"""A process that is asked to end while it still starts does end."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, runpy, signal, sys
class Terminated:
    def find_spec(self, name, path=None, target=None):
        if name == "coxswain_protocol.early_exit":
            sys.meta_path.remove(self)
            import coxswain_protocol.early_exit
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Terminated())
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as for the first process of a container
runpy.run_module(sys.argv[1], run_name="__main__")
print("went on")
"""

MODULES = (
    "coxswain_gateway",
    "coxswain_workers.coordinator",
    "coxswain_workers.replica",
    "coxswain_operator",
)


@pytest.mark.parametrize("module", MODULES)
def test_sigterm_during_the_imports_ends_the_process(module: str) -> None:
    command = [sys.executable, "-c", PROGRAM, module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
