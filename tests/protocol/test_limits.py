"""A process may hold as many connections as the system lets it."""

from __future__ import annotations

import resource
import subprocess
import sys

PROGRAM = """
import resource
from coxswain_protocol.limits import allow_many_connections
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
assert allow_many_connections() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=30)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = 1 << 20
    assert int(done.stdout) == (most if hard == resource.RLIM_INFINITY else min(hard, most))
